"""Times the two commands of the README as a stranger meets them, and writes benchmarks/results/fresh_clone.json.

    python benchmarks/fresh_clone.py         (part of `make benchmarks`)
    python benchmarks/fresh_clone.py demo    only make demo; what make test took before stays, with its commit
    ... demo --tested CLONE LOG              likewise, and the end of a make test that was run in another fresh clone
    ... demo --once                          without the second time

A fresh clone of the committed state into an empty folder with a space in its name, with an empty home folder: nothing
is cached, so every download is in the figure, the emulated root of `make test` included. `make demo` then runs a second
time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from toolkit.benchmarking.host import describe_host
from toolkit.publishing import write_atomic

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "benchmarks" / "results" / "fresh_clone.json"
TARGETS = [("make demo", "demo"), ("make demo, second time", "demo"), ("make test", "test")]


def main() -> None:
    """Clone, run, time and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=["demo", "test", []])
    parser.add_argument("--tested", nargs=2, type=Path, metavar=("CLONE", "LOG"))
    parser.add_argument("--once", action="store_true")
    options = parser.parse_args()
    chosen = [(n, t) for n, t in TARGETS if t in (options.targets or (t,)) and not (options.once and "second" in n)]
    with tempfile.TemporaryDirectory() as scratch:
        clone, home = Path(scratch) / "a fresh clone", Path(scratch) / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        commit = _commit(clone)
        drop = ("VIRTUAL_ENV", "XDG_CACHE_HOME", "TOOLKIT_CACHE", "KERAS_HOME", "PIP_CACHE_DIR")
        environment = {k: v for k, v in os.environ.items() if k not in drop} | {"HOME": str(home)}
        seconds: dict[str, float] = {}
        printed: dict[str, str] = {}
        for name, target in chosen:
            start = time.perf_counter()
            done = subprocess.run(
                ["make", target],
                cwd=clone,
                env=environment,
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
            )
            seconds[name] = round(time.perf_counter() - start, 1)
            printed[name] = done.stdout.decode()
            if done.returncode != 0:
                sys.exit(f"{name} failed:\n{printed[name]}")
    report = json.loads(TARGET.read_text()) if len(chosen) < len(TARGETS) else {"seconds": {}, "commits": {}}
    report |= {"format": 2, "host": asdict(describe_host())}
    report["seconds"] |= seconds
    report["commits"] |= dict.fromkeys(seconds, commit)
    if "make demo" in printed:
        report["demo_ends"] = "Verification" + printed["make demo"].partition("Verification")[2]
    if "make test" in printed:
        report["test_ends"] = printed["make test"].splitlines()[-1]
    elif options.tested:
        tested, log = options.tested
        report["test_ends"] = log.read_text(encoding="utf-8").splitlines()[-1]
        report["commits"]["make test"] = _commit(tested)
        report["seconds"].pop("make test", None)
    write_atomic(TARGET, json.dumps(report, indent=1) + "\n")
    print(json.dumps(seconds, indent=1), file=sys.stderr)


def _commit(clone: Path) -> str:
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=clone, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
