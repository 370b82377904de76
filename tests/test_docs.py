"""The README says what the files and the commands say."""

from __future__ import annotations

import json
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


def test_the_table_of_c_targets_shows_what_differs_and_what_is_missing() -> None:
    from benchmarks.readme_blocks import elsewhere

    report = json.loads((ROOT / "benchmarks" / "results" / "c_targets.json").read_text(encoding="utf-8"))
    by_name = {entry["made"]["target"]: entry for entry in report["targets"]}
    by_name["aarch64"].update(logits_differ=3, labels=10_000, labels_differ=2)
    by_name["armhf"].update(verdict="not run", reason="there is no compiler")
    by_name["riscv64"].update(unanswered=10_000, logits=0, reason="it ended by SIGILL after 0 rows")
    by_name["s390x"]["footprint"].update(instructions=None, not_counted="it took too long")
    for name in ("tcc", "wasm"):
        by_name[name]["footprint"].update(instructions=None, not_counted="nobody counts them")
    shown = elsewhere.c_targets(report)
    lines = {line.split("`")[1]: line for line in shown.splitlines() if line.startswith("| `")}
    assert lines.keys() == by_name.keys()
    assert "| 10,000 | 3 of 100,000 |" in lines["aarch64"]
    assert "| not run: there is no compiler |" in lines["armhf"]
    assert "| 0 | **it ended by SIGILL after 0 rows** |" in lines["riscv64"]
    footprint = by_name["cortex-m3"]["footprint"]
    figures = " | ".join(f"{footprint[key]:,}" for key in ("instructions", "flash", "ram"))
    assert lines["cortex-m3"].endswith(f"| {figures} |")
    assert "its labels were asked for as well: 2 are others" in shown
    assert "`s390x` (it took too long)" in shown
    assert "`tcc`, `wasm` (nobody counts them)" in shown


def test_every_command_and_option_that_the_readme_shows_exists() -> None:
    known = {
        "run",
        "data",
        "train",
        "export",
        "verify",
        "verify-bundle",
        "predict",
        "sweep",
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
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make\s+([a-z-]+)", README)) <= targets
