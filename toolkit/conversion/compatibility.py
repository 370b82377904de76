"""Which onnxruntime loads a file, by the table that its project publishes; nothing is tried out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["LAST_RELEASE", "SOURCE", "lowest_runtime"]

SOURCE = "onnxruntime, docs/reference/compatibility.md, 'ONNX opset support'"
LAST_RELEASE = "1.20"
"""The newest release that the table was read for."""

# (release, opset, ai.onnx.ml opset, IR version), each release that lists more than the one before. Its own releases
# before 1.0 are left out: what they load, 1.0 loads.
_RELEASES = (
    ("1.0", 11, 2, 6),
    ("1.3", 12, 2, 7),
    ("1.6", 13, 2, 7),
    ("1.8", 14, 2, 7),
    ("1.9", 15, 2, 8),
    ("1.11", 16, 2, 8),
    ("1.12", 17, 3, 8),
    ("1.14", 18, 3, 8),
    ("1.16", 19, 3, 9),
    ("1.17", 20, 4, 9),
    ("1.18", 21, 4, 10),
)
# The runtime's own operators, by the release that came with them, where that is known: MatMulNBits and its accuracy
# level (onnxruntime#17890, #17669).
_OWN_OPERATORS = {"MatMulNBits": "1.17"}


def lowest_runtime(opsets: Mapping[str, int], ir_version: int, own_operators: Iterable[str]) -> tuple[str | None, str]:
    """The first release that lists everything that a file needs.

    Args:
        opsets: version by domain; "" or "ai.onnx" is the standard's.
        ir_version: of the file format.
        own_operators: the operators of other domains that the file uses.

    Returns:
        The release, or None where the table does not tell; and what decides, or why it does not.
    """
    needs = [("opset", opsets.get("", opsets.get("ai.onnx", 0)), 1), ("ai.onnx.ml", opsets.get("ai.onnx.ml", 0), 2)]
    needs.append(("IR version", ir_version, 3))
    found = []
    for what, version, column in needs:
        release = next((row[0] for row in _RELEASES if row[column] >= version), None)  # type: ignore[operator]
        if release is None:
            return None, f"{what} {version} is newer than the table, which was read up to {LAST_RELEASE}"
        found.append((release, f"{what} {version}"))
    for operator in sorted(set(own_operators)):
        if operator not in _OWN_OPERATORS:
            return None, f"the table says nothing of the operator {operator}, which is not in the ONNX standard"
        found.append((_OWN_OPERATORS[operator], operator))
    release = max((name for name, _ in found), key=_as_number)
    return release, ", ".join(what for name, what in found if name == release and not what.endswith(" 0"))


def _as_number(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
