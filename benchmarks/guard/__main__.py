"""Counted work of the single-image path, held against the bounds in bounds.toml.

    python -m benchmarks.guard                 (`make guard`; exit 0: all within their bounds, 1: not)
    ... --update                               writes what is counted now, with its margin, as the new bounds
    ... --update --environment                 and takes this machine's versions for those that bounds hold for
    ... --only GROUP,GROUP                     some of: instructions, calls, stays, start, graph, bytes, wheel
    ... --code FOLDER --artifact FOLDER        other files than the project's own
    ... --bounds FILE                          instead of benchmarks/guard/bounds.toml

A figure above its bound has exceeded it; one far below asks for a tighter bound. How many instructions something takes
depends on the compiled Python, numpy and onnxruntime, so those figures are judged only where all of them are what the
bounds were measured with; elsewhere they are shown, and the output says so. What stays of many calls, modules, nodes
and bytes are judged everywhere.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.guard.bounds import BELOW, Bounds, Row, judge, load, renewed, save, with_environment
from benchmarks.guard.counting import GROUPS, ROOT, Found, Subject, environment
from toolkit.errors import MissingError, ToolkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

BOUNDS = Path(__file__).with_name("bounds.toml")
REQUIRE = "TOOLKIT_REQUIRE_GUARD"
"""Set in CI: what cannot be counted is an error there, and not left out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, compare and print; the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.guard", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(GROUPS), metavar="GROUP,GROUP")
    parser.add_argument("--code", type=Path, default=ROOT, metavar="FOLDER")
    parser.add_argument("--artifact", type=Path, default=ROOT / "exported" / "fashion-mnist", metavar="FOLDER")
    parser.add_argument("--bounds", type=Path, default=BOUNDS, metavar="FILE")
    parser.add_argument("--update", action="store_true")
    parser.add_argument("--environment", action="store_true")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except ToolkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _run(options: argparse.Namespace) -> int:
    if unknown := set(options.only) - set(GROUPS):
        raise UsageError(f"no such group: {', '.join(sorted(unknown))}; give some of {', '.join(GROUPS)}")
    if options.environment and (not options.update or set(options.only) != set(GROUPS)):
        raise UsageError("--environment goes with --update of all groups; leave --only out")
    bounds, here = load(options.bounds, GROUPS), environment()
    subject = Subject(options.code.resolve(), options.artifact.resolve())
    found = {}
    for group in GROUPS:
        if group in options.only:
            found[group] = GROUPS[group](subject)
            if found[group].missing and (os.environ.get(REQUIRE) or options.environment):
                raise MissingError(f"{group}: {found[group].missing}")
    if options.update:
        return _update(options, bounds, found, here)
    counted = {group: entry.figures for group, entry in found.items() if not entry.missing}
    rows = [row for group, figures in counted.items() for row in judge(bounds, group, figures, here)]
    _print_table(rows)
    return _say(bounds, found, rows, here)


def _print_table(rows: Sequence[Row]) -> None:
    lines = [("", "counted", "bound", "")]
    lines += [(f"{row.group}: {row.name}", f"{row.measured:,}", f"{row.bound:,}", row.verdict) for row in rows]
    widths = [max(len(line[at]) for line in lines) for at in range(4)]
    for name, measured, bound, verdict in lines:
        print(f"{name:{widths[0]}}  {measured:>{widths[1]}}  {bound:>{widths[2]}}  {verdict}".rstrip())


def _say(bounds: Bounds, found: dict[str, Found], rows: Sequence[Row], here: dict[str, str]) -> int:
    for group, entry in found.items():
        if entry.missing:
            print(f"{group}: not counted: {entry.missing}")
        elif differ := bounds.differences(group, here):
            print(f"{group}: shown but not judged: {'; '.join(differ)}")
    for row in rows:
        reason = bounds.groups[row.group].figures[row.name].reason
        what = f"{row.group}: {row.name} is {row.measured:,}"
        if row.verdict == "EXCEEDED":
            names = ", ".join(found[row.group].names.get(row.name, []))
            counted = f" These are counted: {names}." if names else ""
            print(f"error: {what}, more than its bound of {row.bound:,}. {reason}{counted}", file=sys.stderr)
        elif row.verdict == "TIGHTEN":
            text = (
                f"error: {what}, less than {BELOW:.0%} of its bound of {row.bound:,}: tighten it by `make guard-update`"
            )
            print(text, file=sys.stderr)
    if all(row.passed for row in rows):
        judged = sum(row.verdict == "ok" for row in rows)
        print(f"{judged} of {len(rows)} figures judged, all within their bounds")
        return 0
    print("If that is meant, run `make guard-update` and say why in the file's reason.", file=sys.stderr)
    return 1


def _update(options: argparse.Namespace, bounds: Bounds, found: dict[str, Found], here: dict[str, str]) -> int:
    text = bounds.text
    for group, entry in found.items():
        differ = [] if options.environment else bounds.differences(group, here)
        if entry.missing or differ:
            print(f"{group}: bounds left as they are: {entry.missing or '; '.join(differ)}")
        else:
            judge(bounds, group, entry.figures, here)  # refuses other figures than the file's
            text = renewed(text, group, bounds.groups[group], entry.figures)
    if options.environment:
        text = with_environment(text, here)
    save(options.bounds, text)
    print(f"{options.bounds}: {'no bound has changed' if text == bounds.text else 'bounds written anew'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
