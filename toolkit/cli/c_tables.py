"""The C code on targets, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit.cli.console import note, print_table

if TYPE_CHECKING:
    from toolkit.verification.c_targets import CReport, CTargetCheck

__all__ = ["print_c_targets"]


def print_c_targets(report: CReport, *, to_stderr: bool) -> None:
    """One row a target; below it, what was not run and why, and what an image for a microcontroller takes."""
    rows = [_row(check) for check in report.targets]
    columns = ["", "compiler", "runs on", "bit-equal", "max diff", "compiled in", "object", "instructions", ""]
    title = f"{report.name} beside {report.of} on this machine, bit for bit"
    print_table(title, columns, rows, to_stderr=to_stderr)
    if report.edge_rows:
        note(f"{report.edge_rows} of the rows are not test rows: their values lie where rounding turns")
    for check in report.targets:
        if check.verdict == "not run":
            note(f"not run: {check.reason}")
        if check.footprint.flash is not None and check.footprint.ram is not None:
            note(
                f"{check.made.target}: an image with the model alone takes {check.footprint.flash:,} bytes of flash "
                f"and {check.footprint.ram:,} of RAM, {check.footprint.stack:,} of these on the stack of a call"
            )


def _row(check: CTargetCheck) -> list[str]:
    made, size = check.made, (check.made.text, check.made.data, check.made.bss)
    instructions = check.footprint.instructions
    return [
        made.target,
        made.compiler,
        made.runs_on,
        f"{check.logits - check.logits_differ:,} of {check.logits:,}" if check.logits else "",
        f"{check.logits_max_abs:.1e}" if check.logits else "",
        "" if made.compile_seconds is None else f"{made.compile_seconds:.2f} s",
        "" if made.text is None else f"{sum(part or 0 for part in size):,} B",
        "" if instructions is None else f"{instructions:,}",
        check.verdict if check.verdict != "failed" else "FAILED",
    ]
