"""``python -m toolkit.benchmarking PATH --output FILE``: the benchmark with numpy, onnxruntime and Python alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the report.

    Args:
        arguments: of the command line.

    Returns:
        The exit code: 0, that of the error, or 130 when interrupted (what was measured is written).
    """
    options = _parser().parse_args(arguments)
    try:
        return _bench(options)
    except ToolkitError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted before anything was measured\n")
        return 130


def _parser() -> argparse.ArgumentParser:
    from toolkit.benchmarking.plan import SCENARIOS

    parser = argparse.ArgumentParser("python -m toolkit.benchmarking", description=__doc__)
    parser.add_argument("path", type=Path, help="artifact folder, bundle, .onnx or .ort file")
    parser.add_argument("--output", type=Path, required=True, help="report to write, NAME.json")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="repeatable")
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--quick", action="store_true")
    how_long.add_argument("--thorough", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--calls", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--size", type=int, dest="free_size")
    parser.add_argument("--timeout", type=float)
    return parser


def _bench(options: argparse.Namespace) -> int:
    from toolkit.benchmarking.measure import run_bench
    from toolkit.benchmarking.plan import BenchSettings
    from toolkit.publishing import write_atomic

    preset = BenchSettings()
    if options.quick:
        preset = BenchSettings.quick()
    elif options.thorough:
        preset = BenchSettings.thorough()
    names = ("rounds", "calls", "threads", "rate", "free_size", "timeout")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.scenario:
        given["scenarios"] = tuple(options.scenario)
    report = run_bench(options.path, dataclasses.replace(preset, **given), _progress())
    text = json.dumps(report.to_json(), separators=(",", ":"), allow_nan=False) + "\n"
    write_atomic(options.output, text)
    failed = [file.failed for file in report.files if file.failed]
    for reason in failed:
        sys.stderr.write(f"error: {reason}\n")
    if report.interrupted:
        sys.stderr.write(f"error: interrupted; what was measured is in {options.output}\n")
        return 130
    return 1 if failed else 0


def _progress():  # noqa: ANN202
    seen = -1

    def step(done: int, total: int, what: str) -> None:
        nonlocal seen
        percent = 100 * done // max(total, 1)
        if percent // 10 != seen // 10:
            sys.stderr.write(f"{what}: {percent} %\n")
        seen = percent

    return step


if __name__ == "__main__":
    sys.exit(main())
