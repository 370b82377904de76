"""How the C code's answers on a target compare with the int8 file's: bits, and the gates on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from toolkit.verification.cpus import largest, other_bits
from toolkit.verification.gates import at_most

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from toolkit.verification.gates import Gate

__all__ = ["CReport", "CTargetCheck", "Footprint", "Made", "compare_c", "not_run", "without_answers"]


@dataclass(frozen=True)
class Made:
    """What a target's compiler made of model.c.

    Attributes:
        target: its name; see `toolkit.c_targets.table`.
        machine: what the code runs on, in a phrase.
        compiler: its name and version; "" where it is missing.
        flags: of the compiler.
        runs_on: the emulator's name and version, or "this machine"; "" where something is missing.
        compile_seconds: for model.c alone.
        text, data, bss: bytes of the object file: code and constants, values with a start, values without.
    """

    target: str
    machine: str
    compiler: str
    flags: str
    runs_on: str
    compile_seconds: float | None = None
    text: int | None = None
    data: int | None = None
    bss: int | None = None


@dataclass(frozen=True)
class Footprint:
    """What an inference takes there; None where it cannot be told.

    Attributes:
        instructions: of one inference.
        counted_by: what counted them.
        not_counted: why there are none.
        flash, ram: bytes of a whole image for a microcontroller, its stack counted as RAM.
        stack: bytes of it that one call takes.
    """

    instructions: int | None = None
    counted_by: str | None = None
    flash: int | None = None
    ram: int | None = None
    stack: int | None = None
    not_counted: str | None = None


@dataclass(frozen=True)
class CTargetCheck:
    """The C code on one target, beside the int8 file on this machine.

    Attributes:
        made: by the compiler.
        rows: that were to be answered: test rows, and those at the edges of rounding.
        unanswered: of these.
        logits: values compared, in front of a softmax or sigmoid at the end.
        logits_differ: of these, with other bits.
        logits_max_abs: largest difference of one.
        footprint: what it takes.
        verdict: "passed", "failed", or "not run" where something is missing on this system.
        reason: why it was not run, or gave no answers.
        labels: of the function that gives labels, compared with the values that it gave on the same target; 0 where
            the model is no classifier, or only the values can be asked for.
        labels_differ: of these, that are others than the largest value's.
    """

    made: Made
    rows: int
    unanswered: int
    logits: int
    logits_differ: int
    logits_max_abs: float
    footprint: Footprint
    verdict: Literal["passed", "failed", "not run"]
    reason: str | None = None
    labels: int = 0
    labels_differ: int = 0

    @property
    def gates(self) -> list[Gate]:
        """The verdicts; none where it was not run."""
        if self.verdict == "not run":
            return []
        name = self.made.target
        gates = [
            at_most(f"rows without an answer on {name}", self.unanswered, 0),
            at_most(f"logits that differ on {name}", self.logits_differ, 0),
        ]
        if self.labels:
            gates.append(at_most(f"labels that are not the largest logit's on {name}", self.labels_differ, 0))
        return gates


@dataclass(frozen=True)
class CReport:
    """The C code on all targets that were asked for.

    Attributes:
        name: of the file, "model.c".
        sha256: of its bytes.
        of: the int8 file that it is held against.
        edge_rows: how many rows were added to the test rows, with values at the edges of rounding.
        targets: one entry a target.
        gates: the verdicts.
    """

    name: str
    sha256: str
    of: str
    edge_rows: int
    targets: list[CTargetCheck]
    gates: list[Gate]

    @property
    def passed(self) -> bool:
        """Every gate held."""
        return all(gate.passed for gate in self.gates)

    def failures(self) -> list[str]:
        """One line a gate that did not hold."""
        return [
            f"{self.name}: {gate.name} is {gate.found:.6g}, limit {gate.limit:.6g}"
            + (f" ({check.reason})" if check.reason else "")
            for check in self.targets
            for gate in check.gates
            if not gate.passed
        ]


def compare_c(
    made: Made,
    here: NDArray[np.float32],
    there: NDArray[np.float32],
    footprint: Footprint,
    labels: tuple[NDArray[np.int32], NDArray[np.int32]] | None = None,
) -> CTargetCheck:
    """Compare the int8 file's answers with the C code's.

    Args:
        made: by the target's compiler.
        here: the file's, float32 (n, outputs).
        there: the C code's.
        footprint: what it takes.
        labels: those of the C code's own values, and those that it gave, (n,) each; None where it gave none.

    Raises:
        ValueError: the shapes differ, or there are no rows.
    """
    if here.shape != there.shape or not len(here):
        raise ValueError(f"cannot compare answers of shapes {here.shape} and {there.shape}")
    differ, told, wrong = other_bits(here, there), 0, 0
    if labels is not None:
        told, wrong = len(labels[1]), int((labels[0] != labels[1]).sum())
    return CTargetCheck(
        made,
        len(here),
        0,
        here.size,
        differ,
        largest(here, there),
        footprint,
        "failed" if differ or wrong else "passed",
        labels=told,
        labels_differ=wrong,
    )


def without_answers(made: Made, rows: int, reason: str) -> CTargetCheck:
    """What comes of code that a compiler refuses, or that does not run to its end."""
    return CTargetCheck(made, rows, rows, 0, 0, 0.0, Footprint(), "failed", reason)


def not_run(made: Made, reason: str) -> CTargetCheck:
    """A target of which something is missing on this system."""
    return CTargetCheck(made, 0, 0, 0, 0, 0.0, Footprint(), "not run", reason)
