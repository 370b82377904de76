"""A model as boxes and lines, whatever it came from: what the diagrams are drawn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.inspection.facts import Shape

__all__ = ["DENSE", "FUNCTION", "INPUT", "OTHER", "PASSING", "Graph", "Node", "chain"]

INPUT, DENSE, FUNCTION, PASSING, OTHER = "input", "dense", "function", "passing", "other"
"""What a node is to the drawing of neurons: values that come in; a layer of neurons; an activation; what only hands
values on, one for one; anything else."""


@dataclass(frozen=True)
class Node:
    """One box.

    Attributes:
        name: shown as its title.
        type: class or operator; with its activation, if it has one of its own.
        output: shape of what it gives for one row, without the batch; None where that is unknown.
        parameters: stored numbers.
        role: see the module.
        activation: of a dense layer or a function, such as "relu"; "" for none.
        frame: the nested models that it is in, outermost first.
        remark: one word or two more, such as "int8".
    """

    name: str
    type: str
    output: Shape | None
    parameters: int = 0
    role: str = OTHER
    activation: str = ""
    frame: tuple[str, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Graph:
    """Boxes in an order in which they can be run, and lines from (index) to (index).

    Attributes:
        title: of the model.
        class_names: of the last layer's neurons, where they are known.
    """

    title: str
    nodes: tuple[Node, ...]
    edges: tuple[tuple[int, int], ...]
    class_names: tuple[str, ...] | None = None


def chain(graph: Graph) -> list[Node] | None:
    """The nodes from first to last if each only feeds the next, else None."""
    into: dict[int, int] = {}
    out_of: dict[int, int] = {}
    for start, end in graph.edges:
        if start in out_of or end in into:
            return None
        out_of[start], into[end] = end, start
    starts = [index for index in range(len(graph.nodes)) if index not in into]
    if len(starts) != 1:
        return None
    order = [starts[0]]
    while order[-1] in out_of:
        order.append(out_of[order[-1]])
    return [graph.nodes[index] for index in order] if len(order) == len(graph.nodes) else None
