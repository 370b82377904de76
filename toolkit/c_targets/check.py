"""The C code of an artifact on the targets that were asked for: compiled, run over rows, compared bit for bit."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import sha256_of
from toolkit.c_targets import tools
from toolkit.c_targets.building import build
from toolkit.c_targets.cortex_m import run_image
from toolkit.c_targets.edges import edge_rows
from toolkit.c_targets.instructions import count
from toolkit.c_targets.interface import read_interface
from toolkit.c_targets.programs import run_program
from toolkit.c_targets.wasm import build_module, run_module
from toolkit.errors import CorruptArtifactError, MissingError, ModelError
from toolkit.manifest_records import CTargetRecord
from toolkit.verification.c_targets import CReport, Footprint, Made, compare_c, not_run, without_answers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from toolkit.c_targets.interface import Interface
    from toolkit.c_targets.table import Chosen, Target
    from toolkit.c_targets.tools import Toolchain
    from toolkit.progress import Note, Step
    from toolkit.verification.c_targets import CTargetCheck

__all__ = ["Ready", "c_records", "check_c", "check_code", "check_origin", "ready"]

Ready = tuple["Target", "Toolchain | str"]
"""A target with its tools, or with the reason why it cannot be run on this system."""


def ready(chosen: Chosen) -> list[Ready]:
    """The tools of the targets that were asked for.

    Raises:
        MissingError: those of a target that was named are not here, or those of none are.
        ModelError: those of a target that was named cannot be run.
    """
    found: list[Ready] = []
    for target in chosen.targets:
        try:
            found.append((target, tools.find(target)))
        except (MissingError, ModelError) as error:
            if target.name in chosen.named:
                raise
            found.append((target, str(error)))
    reasons = [each for _, each in found if isinstance(each, str)]
    if found and len(reasons) == len(found):
        raise MissingError(f"the C code cannot be run for any of {len(found)} targets; the first: {reasons[0]}")
    return found


def check_origin(folder: Path, int8: str) -> None:
    """The C code of an artifact was made from its int8 file.

    Raises:
        ModelError: the header is of another version.
        CorruptArtifactError: it was made from another file.
    """
    header = folder / "model.h"
    if read_interface(header.read_text(encoding="utf-8")).source_sha256 != sha256_of(folder / int8):
        raise CorruptArtifactError(f"{header} was made from another file than {int8}; export it again with --c")


def check_c(
    found: Sequence[Ready], folder: Path, int8: str, inputs: Mapping[str, NDArray[Any]], note: Note, step: Step
) -> CReport | None:
    """The C code of an artifact on targets.

    Args:
        found: the targets, by `ready`; none: there is no report.
        folder: that has model.c, model.h and the int8 file that they were made from; see `check_origin`.
        int8: the int8 file's name.
        inputs: rows by input name, as the int8 file takes them.
        note: told what is being done.
        step: told how many targets are done.

    Raises:
        ModelError: the header is of another version, or the int8 file's logits cannot be read.
    """
    from toolkit.conversion.logits import logits_of

    if not found:
        return None
    note(f"Running the C code: {', '.join(target.name for target, each in found if not isinstance(each, str))}")
    code, header = (folder / "model.c").read_bytes(), (folder / "model.h").read_text(encoding="utf-8")
    data = (folder / int8).read_bytes()
    ((name, rows),) = inputs.items()
    edges = edge_rows(data, rows)
    rows = np.concatenate([rows, edges])
    expected = logits_of(data, int8, {name: rows})
    checks = check_code(code.decode("utf-8"), header, rows, expected, found, step)
    gates = [gate for check in checks for gate in check.gates]
    return CReport("model.c", hashlib.sha256(code).hexdigest(), int8, len(edges), checks, gates)


def c_records(report: CReport) -> list[CTargetRecord]:
    """The manifest's rows: one a target that the code was run on, and none where it gave no answers."""
    known = {field.name for field in dataclasses.fields(CTargetRecord)}
    rows = []
    for check in report.targets:
        if check.verdict != "not run" and not check.unanswered:
            values = {
                **dataclasses.asdict(check),
                **dataclasses.asdict(check.made),
                **dataclasses.asdict(check.footprint),
            }
            rows.append(CTargetRecord(**{name: value for name, value in values.items() if name in known}))
    return rows


def check_code(
    code: str, header: str, rows: NDArray[Any], expected: NDArray[np.float32], found: Sequence[Ready], step: Step
) -> list[CTargetCheck]:
    """Texts of C code on targets, in their order.

    Args:
        code: text of model.c.
        header: text of model.h.
        rows: (n, ...), as the model takes them.
        expected: the logits that must come of them, float32 (n, outputs).
        found: the targets, by `ready`.
        step: told how many are done.

    Raises:
        ModelError: the header is of another version, or of another model.
    """
    interface = read_interface(header)
    flat = rows.reshape(len(rows), -1)
    if flat.shape[1] != interface.inputs or flat.dtype != interface.dtype:
        raise ModelError(
            f"model.h takes {interface.inputs} values of {interface.dtype}, the rows have {flat.shape[1]} of "
            f"{flat.dtype}; export it again with --c"
        )
    checks = []
    for done, (target, each) in enumerate(found):
        step(done, len(found), f"targets: {target.name}")
        if isinstance(each, str):
            flags = " ".join(target.flags)
            checks.append(not_run(Made(target.name, target.machine, "", flags, ""), each))
        else:
            checks.append(_on(each, code, header, interface, flat, expected))
    step(len(found), len(found), "targets")
    return checks


def _on(
    each: Toolchain, code: str, header: str, interface: Interface, rows: NDArray[Any], expected: NDArray[np.float32]
) -> CTargetCheck:
    target = each.target
    made = Made(target.name, target.machine, each.version, " ".join(target.flags), each.runs_on)
    footprint = Footprint()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            if target.kind == "wasm":
                built = build_module(code, header, interface, folder, simd="-msimd128" in target.flags)
            else:
                built = build(each, code, header, interface, folder)
            size = built.object
            made = dataclasses.replace(made, compile_seconds=built.seconds)
            if size is not None:
                made = dataclasses.replace(made, text=size.text, data=size.data, bss=size.bss)
            if target.kind == "wasm":
                answers = run_module(each, built, interface, rows)
                footprint = Footprint(not_counted=f"{each.runs_on.partition(' ')[0].capitalize()} counts none")
            elif target.kind == "cortex-m":
                answers, footprint = run_image(each, built, interface, rows)
            else:
                answers = run_program(each, built, interface, rows)
                footprint = count(each, built, interface, rows)
        except ModelError as error:
            return without_answers(made, len(rows), str(error))
    labels = None if answers.labels is None else (interface.labels_of(answers.values), answers.labels)
    return compare_c(made, expected, answers.values, footprint, labels)
