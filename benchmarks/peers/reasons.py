"""Where others are better than this toolkit's int8 file, and why: by figure and by engine, for the page of results."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["FIGURES", "Figure", "better", "reason"]


class Figure(NamedTuple):
    """One figure that peers are compared by.

    Attributes:
        name: for people.
        key: in the entry of a peer and number of threads; of the peer itself if `whole`.
        more: more is better.
        whole: it does not depend on threads.
        least: a ratio that is nearer to 1 than this is no difference; 0 for counts.
        ratio: the key of a ratio of times over the rounds, in place of the figures' own: its interval decides.
    """

    name: str
    key: str
    more: bool = False
    whole: bool = False
    least: float = 0.03
    ratio: str = ""


FIGURES = (
    Figure("p50 of one image, one thread", "p50_us", ratio="ratio"),
    Figure("time of a batch, one thread", "images_per_second", ratio="batch_ratio"),
    Figure("labels as Keras", "labels_as_keras", more=True, least=0),
    Figure("accuracy", "accuracy", more=True, least=0),
    Figure("first answer of a fresh process", "first_answer_ms"),
    Figure("peak memory at the first answer", "peak_bytes"),
    Figure("size of the file", "file_bytes", whole=True),
    Figure("size of what is installed", "installed_bytes", whole=True),
)

WHY = {
    ("p50_us", "this_toolkit"): "it is the same file compiled for this one CPU, with no runtime around the arithmetic",
    ("p50_us", "handwritten"): "it is for one network, one shape and one CPU, and looks at nothing that it is given",
    ("p50_us", "litert_interpreter"): "its call is shorter: tensors are written and read in place, and XNNPACK runs a "
    "graph of three layers with less around it; ours checks type, shape and dtype of each row and goes through "
    "onnxruntime's session, which costs more than the arithmetic here",
    ("images_per_second", "litert_interpreter"): "its kernels of 8-bit products take one batch as one job",
    ("images_per_second", "openvino_request"): "its kernels are compiled for this batch and this CPU (oneDNN)",
    ("labels_as_keras", ""): "float32 is what Keras computes in; of the 8-bit ones, those with a scale a neuron, or "
    "with float activations, round less. Ours has one scale a layer, half a bit coarser so that no CPU's 16-bit sums "
    "can saturate (`--no-portable` gives it back)",
    ("accuracy", ""): "a few labels near a tie fall to the right side; it says nothing of another model",
    ("first_answer_ms", ""): "it imports less: onnxruntime's library takes most of our start",
    ("peak_bytes", ""): "its library is smaller than onnxruntime's, or there is none",
    ("file_bytes", "openvino_request"): "its format is more compact",
    ("installed_bytes", ""): "its wheel is smaller, or has no runtime in it at all",
}


def reason(figure: Figure, engine: str) -> str:
    """Why an engine is better in a figure; empty where nobody has looked."""
    return WHY.get((figure.key, engine)) or WHY.get((figure.key, "")) or ""


def better(
    peers: list[dict[str, Any]], ours: dict[str, Any], figure: Figure
) -> list[tuple[dict[str, Any], float]] | None:
    """Who is better than ours in a figure, best first, with the ratio to ours; with one thread. None: not measured.

    Args:
        peers: of the report.
        ours: one of them.
        figure: which.
    """
    found = []
    for peer in peers:
        if (ratio := _ratio(peer, ours, figure)) is None:
            continue
        if peer is not ours and ((ratio > 1 + figure.least) if figure.more else (ratio < 1 - figure.least)):
            found.append((peer, ratio))
    if _ratio(ours, ours, figure) is None:
        return None
    return sorted(found, key=lambda entry: entry[1], reverse=figure.more)


def perhaps(peers: list[dict[str, Any]], figure: Figure) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Whose ratio to ours is below 1 while its interval reaches beyond, with that ratio; with one thread."""
    found = []
    for peer in peers:
        interval = peer["threads"].get("1", {}).get(figure.ratio or "")
        if interval and interval["ratio"] < 1 - figure.least and interval["high"] >= 1:
            found.append((peer, interval))
    return found


def _ratio(peer: dict[str, Any], ours: dict[str, Any], figure: Figure) -> float | None:
    """Of a peer to ours; None where it was not measured, 1 where the interval of a ratio contains 1."""
    theirs, base = (one if figure.whole else one["threads"].get("1", {}) for one in (peer, ours))
    if figure.ratio:
        interval = theirs.get(figure.ratio)
        if not interval:
            return None
        return 1.0 if interval["low"] <= 1 <= interval["high"] else float(interval["ratio"])
    if not theirs.get(figure.key) or not base.get(figure.key):
        return None
    return float(theirs[figure.key] / base[figure.key])
