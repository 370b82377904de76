"""The README says what the files and the commands say."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.conftest import ROOT, toolkit

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_current() -> None:
    subprocess.run([sys.executable, "benchmarks/readme.py", "--check"], cwd=ROOT, check=True)


def test_a_changed_figure_in_the_readme_is_seen() -> None:
    from benchmarks import readme

    changed = README.replace("10,000 of 10,000 |", "9,999 of 10,000 |", 1)
    assert changed != README
    assert readme.render(changed) == README


def test_every_command_and_option_that_the_readme_shows_exists() -> None:
    known = {
        "run",
        "data",
        "train",
        "export",
        "verify",
        "verify-bundle",
        "predict",
        "inspect",
        "report",
        "bench",
        "bundle",
        "tune",
    }
    assert set(re.findall(r"^ *toolkit ([a-z-]+)", README, re.MULTILINE)) <= known
    sections = re.findall(r"- \*\*`toolkit ([a-z]+)[^\n]*((?:\n  [^\n]*)*)", README)
    assert {name for name, _ in sections} == known - {"run", "verify-bundle"}
    for name, text in sections:
        shown = toolkit(name, "--help").out
        for option in re.findall(r"`(--[a-z-]+)", text):
            assert option in shown, f"{option} of toolkit {name}"


def test_make_targets_in_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make\s+([a-z]+)", README)) <= targets
