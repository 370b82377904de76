"""Figures as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from toolkit.manifest_records import CTargetRecord, TrainingRecord

__all__ = [
    "DASH",
    "epochs_of",
    "figure",
    "flat",
    "kilobytes",
    "listed",
    "microseconds",
    "percent",
    "points",
    "same_bits",
    "value_text",
]

DASH = "\N{EN DASH}"
"""In the place of a figure that is not known."""


def percent(share: float | None, digits: int = 2) -> str:
    """A share of 0 to 1."""
    return DASH if share is None else f"{share:.{digits}%}"


def points(share: float | None) -> str:
    """A difference of two shares, in points with its sign."""
    return DASH if share is None else f"{100 * share + 0.0:+.2f}"


def kilobytes(size: int | None) -> str:
    """Bytes, in thousands."""
    return DASH if size is None else f"{size / 1000:,.0f} kB" if size >= 1000 else f"{size} bytes"


def microseconds(time: float | None) -> str:
    """A time in us; in ms where it is long."""
    if time is None:
        return DASH
    return f"{time:,.1f} \N{MICRO SIGN}s" if time < 10_000 else f"{time / 1000:,.1f} ms"


def figure(value: float | None) -> str:
    """Any number in four digits at most."""
    return DASH if value is None else "0" if value == 0 else f"{value:.3g}"


def listed(words: list[str]) -> str:
    """Words in a sentence."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def same_bits(record: CTargetRecord) -> str:
    """What became of the C code on a target."""
    return f"{record.logits_differ:,} values differ" if record.logits_differ else "the same bits"


def value_text(value: Any) -> str:
    """A setting, as tables show it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(each) for each in value) or "none"
    return str(value)


def flat(found: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """Settings as names and values; what holds settings itself is written out in place, its own name first."""
    lines: list[tuple[str, Any]] = []
    for key, value in found.items():
        name = f"{before}{str(key).replace('_', ' ')}"
        if isinstance(value, dict) and value:
            lines += flat(value, f"{name}, ")
        elif isinstance(value, list | tuple) and any(isinstance(each, dict) for each in value):
            lines += flat({str(at): each for at, each in enumerate(value, 1)}, f"{name}, ")
        else:
            lines.append((name, None if value == {} else value))
    return lines


def epochs_of(record: TrainingRecord) -> str:
    """How long a network was trained, the finish with rounded weights named."""
    if not record.quantization_epochs:
        return f"{record.epochs_run} epochs"
    return (
        f"{record.epochs_run} epochs and {record.quantization_epochs} more with weights rounded to "
        f"{record.recipe['quantization_aware']} (in float, before, {percent(record.float_validation_accuracy)} on the "
        "validation images)"
    )
