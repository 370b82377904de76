"""Which onnxruntime loads a file and answers as this one: by the table that its project publishes, and by trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx

__all__ = ["LAST_RELEASE", "SOURCE", "has_static_layers", "lowest_runtime"]

SOURCE = "onnxruntime, docs/reference/compatibility.md, 'ONNX opset support'; oldest release and 8-bit layers by trial"
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
# By trial of the releases 1.7 to 1.12, 1.13.1, 1.14, 1.16, 1.19.2 (on Python 3.9, the oldest that the predictor runs
# on) and 1.31.1, on x86-64, with the reference model of every kind and 22 models of tests/zoo in float32 and static
# int8: dense layers, convolutions of all sorts, poolings, an LSTM, several inputs. No earlier wheel was tried.
# From 1.11 on, the release that came with QGemm, static files give the very bits of 1.31.1 in front of the softmax.
# Before it they open, but dense layers are computed in float between the quantizers: labels are the same, logits are
# off by up to 1e-5 (in 1.7, whose convolutions answer otherwise too, by 1e-3). Float32 files need no later release: the
# logits of an LSTM are off by 1e-6 before 1.9, those of a MobileNet by 9e-6 in 1.7, all others have the same bits.
# Dynamic int8 had the same bits in all of them, float16 was off by 2e-7 up to 1.19.2.
_OLDEST_TRIED = ("1.7", "the oldest release that was tried")
_STATIC_LAYERS = ("1.11", "its 8-bit layers, which earlier releases compute in float and answer otherwise")


def lowest_runtime(
    opsets: Mapping[str, int], ir_version: int, own_operators: Iterable[str], *, static_layers: bool = False
) -> tuple[str | None, str]:
    """The first release that lists everything that a file needs, and answers as later ones do.

    Args:
        opsets: version by domain; "" or "ai.onnx" is the standard's.
        ir_version: of the file format.
        own_operators: the operators of other domains that the file uses.
        static_layers: it has statically quantized layers, see `has_static_layers`.

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
    tried = [_OLDEST_TRIED, *([_STATIC_LAYERS] if static_layers else [])]
    release = max((name for name, _ in (*found, *tried)), key=_as_number)
    by_table = [what for name, what in found if name == release and not what.endswith(" 0")]
    by_trial = [what for name, what in tried if name == release]
    return release, ", ".join(by_trial) if by_trial else f"{', '.join(by_table)}; by the published table"


def has_static_layers(model: onnx.ModelProto) -> bool:
    """Some operator takes activations and weights through DequantizeLinear, which the runtime fuses to an 8-bit one."""
    stored = {tensor.name for tensor in model.graph.initializer}
    stored |= {name for node in model.graph.node if node.op_type == "Constant" for name in node.output}
    is_constant = {
        node.output[0]: node.input[0] in stored for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    return any(
        {is_constant[name] for name in node.input if name in is_constant} == {False, True} for node in model.graph.node
    )


def _as_number(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
