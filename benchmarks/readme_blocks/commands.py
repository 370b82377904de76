"""What commands print, and how long the two of a fresh clone take."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from benchmarks.readme_blocks.shared import RESULTS, load, machine, table

__all__ = ["command_help", "demo", "setup"]


def setup() -> str:
    """The two commands in a fresh clone."""
    report = load(RESULTS / "fresh_clone.json")
    commits = report["commits"]
    rows = [[name, f"{seconds:.0f} s", f"`{commits[name][:7]}`"] for name, seconds in report["seconds"].items()]
    return f"{table(['in a fresh clone, nothing cached', 'takes', 'commit'], rows)}\n\n{machine(report['host'])}."


def demo() -> str:
    """What the two commands print at their end."""
    report = load(RESULTS / "fresh_clone.json")
    lines = [line.rstrip() for line in report["demo_ends"].splitlines()]
    shown = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    commit = report["commits"]["make test"][:7]
    return f"```\n{shown}\n```\n\n`make test` ended with `{report['test_ends']}` at commit `{commit}`."


def command_help() -> str:
    """What ``toolkit --help`` prints."""
    program = Path(sys.executable).parent / "toolkit"
    done = subprocess.run([str(program), "--help"], check=True, capture_output=True, text=True, env={"COLUMNS": "100"})
    return f"```\n{done.stdout.rstrip()}\n```"
