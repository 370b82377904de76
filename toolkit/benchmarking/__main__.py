"""``python -m toolkit.benchmarking PATH --output FILE``: `toolkit bench` with numpy, onnxruntime and Python alone."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from toolkit.progress import Step

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
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted before anything was measured\n")
        return 130
    except OSError as error:
        from toolkit.publishing import storage_error

        known = error if isinstance(error, ToolkitError) else storage_error(error)
        if not isinstance(known, ToolkitError):
            raise
        sys.stderr.write(f"error: {known}\n")
        return known.exit_code
    except ToolkitError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    from toolkit.benchmarking.plan import SCENARIOS

    parser = argparse.ArgumentParser("python -m toolkit.benchmarking", description=__doc__)
    parser.add_argument("path", type=Path, help="artifact folder, bundle, .onnx or .ort file")
    parser.add_argument("--output", type=Path, required=True, help="report to write")
    parser.add_argument("--scenario", dest="scenarios", action="append", default=[], choices=SCENARIOS)
    parser.add_argument("--quick", action="store_true", help="a first look")
    parser.add_argument("--thorough", action="store_true", help="everything, for some minutes")
    parser.add_argument("--rounds", type=int, help="everything is measured once in each")
    parser.add_argument("--calls", type=int, help="single rows a round and file")
    parser.add_argument("--threads", type=int, help="of one run")
    parser.add_argument("--rate", type=float, help="rows a second of the fixed-rate stream")
    parser.add_argument("--seconds", type=float, help="of the sustained run")
    parser.add_argument("--size", type=int, help="of free dimensions")
    parser.add_argument("--timeout", type=float, help="seconds after which a file counts as hanging")
    parser.add_argument("--save-settings", type=Path, metavar="FILE", help="write the best settings there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables as Markdown")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="every figure, a line each")
    return parser


def _bench(options: argparse.Namespace) -> int:
    from toolkit.benchmarking.measure import run_bench
    from toolkit.benchmarking.options import bench_settings
    from toolkit.benchmarking.pages import as_csv, as_markdown, as_text
    from toolkit.benchmarking.settings_file import settings_text
    from toolkit.publishing import write_atomic

    outputs = ("output", "save_settings", "markdown", "csv")
    given = {name: value for name, value in vars(options).items() if name not in (*outputs, "path")}
    settings = bench_settings(**given, save_settings=options.save_settings is not None)
    report = run_bench(options.path, settings, _progress())
    value = report.to_json()
    # People's output comes first: it is not lost where nothing can be written.
    sys.stdout.write(as_text(value, ascii_only=True))
    sys.stdout.flush()
    write_atomic(options.output, json.dumps(value, separators=(",", ":"), allow_nan=False) + "\n")
    if options.markdown:
        write_atomic(options.markdown, as_markdown(value))
    if options.csv:
        write_atomic(options.csv, as_csv(value))
    if report.interrupted:
        sys.stderr.write(f"error: interrupted; what was measured is in {options.output}\n")
        return 130
    if options.save_settings:
        write_atomic(options.save_settings, settings_text(report))
    failed = [file.failed for file in report.files if file.failed]
    for reason in failed:
        sys.stderr.write(f"error: {reason}\n")
    return 1 if failed else 0


def _progress() -> Step:
    """Lines on stderr: what is being done, and how far it is."""
    seen: set[str] = set()

    def step(done: int, total: int, what: str) -> None:
        text = f"{what} ({100 * done // max(total, 1) // 10 * 10} %)"
        if text not in seen:
            seen.add(text)
            sys.stderr.write(f"{text}\n")

    return step


if __name__ == "__main__":
    sys.exit(main())
