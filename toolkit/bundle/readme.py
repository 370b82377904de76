"""The README of a bundle: one screen with what it is, what it needs, and the commands for its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit import __version__
from toolkit.artifact import GOLDEN
from toolkit.bundle import requirements
from toolkit.bundle.layout import CACHE, LICENCE, MODEL_LICENCE, SIGNATURE, SUMS

if TYPE_CHECKING:
    from toolkit.artifact import BundleRecord, Manifest, ParityRecord, TensorContract

__all__ = ["text"]

_NAMES_SHOWN = 12  # classes; the manifest has all
_NUMPY_2 = (1, 19)  # the first onnxruntime that runs with numpy 2 (its release notes)
_BOARDS = {"x86_64": "x86-64", "aarch64": "64-bit ARM"}


def text(manifest: Manifest, *, licence: bool, signed: bool) -> str:
    """README.md of a bundle.

    Args:
        manifest: the bundle's.
        licence: the model's own licence is in the bundle.
        signed: a signature is.
    """
    bundle = manifest.bundle
    assert bundle is not None
    record = manifest.files[bundle.model]
    made = f"toolkit {__version__}" + (f" from {manifest.conversion.source}" if manifest.conversion else "")
    parts = [
        f"# {manifest.name}: a model for a device",
        f"`{bundle.model}` ({record.kind}, {record.bytes:,} bytes), made by {made}.  \nsha256 `{record.sha256}`",
        "\n".join(_facts(manifest, bundle)),
        "On the device, in this folder:",
        _code(
            "sh",
            "python3 -m venv ../venv && . ../venv/bin/activate",
            "pip install --require-hashes -r requirements.txt",
            "python predictor.py --selftest",
        ),
        f"The self-test runs the rows in {GOLDEN} and exits 0 only if the answers are "
        + ("the same bits as where the model was verified." if bundle.exact else "those that were verified.")
        + " In a program:",
        _code("python", *_example(manifest)),
        _older(bundle),
        _checks(licence=licence, signed=signed),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _code(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _facts(manifest: Manifest, bundle: BundleRecord) -> list[str]:
    lines = [f"- Input {_tensor(each)}" for each in manifest.inputs]
    lines += [f"- Output {_tensor(each)}" for each in manifest.outputs]
    if manifest.class_names:
        names = manifest.class_names
        shown = ", ".join(f"{at} {name}" for at, name in enumerate(names[:_NAMES_SHOWN]))
        lines.append(f"- Classes: {shown}" + (f" ... {len(names)} in all" if len(names) > _NAMES_SHOWN else ""))
    verified = [line for each in manifest.parity.get(bundle.model, []) if (line := _verdict(each))]
    if verified:
        on = f" on {manifest.data.test}" if manifest.data else ""
        source = bundle.model if bundle.model.endswith(".onnx") else "the ONNX file it was made of"
        lines.append(f"- Verified{on} ({source}): {'; '.join(verified)}")
    boards = " or ".join(_BOARDS[each] for each in requirements.TARGETS[bundle.target])
    lines.append(
        f"- Needs Linux on {boards}, glibc {bundle.glibc} or newer, Python {bundle.python} to {requirements.PYTHONS[-1]}, "
        f"onnxruntime {bundle.onnxruntime} or newer"
    )
    lines += [f"- CPU, {_BOARDS[name]}: {' '.join(flags)}" for name, flags in bundle.cpu_features.items() if flags]
    return lines


def _tensor(contract: TensorContract) -> str:
    sizes = ", ".join(map(str, contract.shape))
    bounds = f", values from {contract.range[0]:g} to {contract.range[1]:g}" if contract.range else ""
    return f"`{contract.name}`: {contract.dtype} of shape ({sizes}){bounds}" + (
        f" ({contract.task})" if contract.task else ""
    )


def _verdict(parity: ParityRecord) -> str:
    if parity.agreement is None:
        return "" if parity.relative_error is None else f"`{parity.output}` relative error {parity.relative_error:.2%}"
    accuracy = "" if parity.accuracy is None else f", accuracy {parity.accuracy:.2%}"
    return f"`{parity.output}` decides as Keras on {parity.agreement:.2%} of {parity.rows:,} rows{accuracy}"


def _example(manifest: Manifest) -> list[str]:
    """Three lines, with the shape of one row behind."""
    rows = [f"{each.dtype} of shape ({', '.join(map(str, each.shape[1:]))}{',' * (len(each.shape) == 2)})" for each in manifest.inputs]
    names = [each.name for each in manifest.inputs]
    given = "row" if len(names) == 1 else "{" + ", ".join(f"{name!r}: row{at}" for at, name in enumerate(names, 1)) + "}"
    wanted = ".class_name" if manifest.class_names else f".outputs[{manifest.outputs[0].name!r}]"
    comment = f"row: a numpy array, {rows[0]}" if len(rows) == 1 else f"numpy arrays: {'; '.join(rows)}"
    return [
        "from predictor import Predictor",
        'predictor = Predictor(".")  # the path of this folder',
        f"print(predictor.predict({given}){wanted})  # {comment}",
    ]


def _older(bundle: BundleRecord) -> str:
    if tuple(map(int, bundle.onnxruntime.split("."))) >= _NUMPY_2:
        return ""
    return (
        "requirements.txt pins what was current. An older runtime works too, without these hashes: "
        f"`pip install 'onnxruntime>={bundle.onnxruntime}'`, and with one before 1.19 also `'numpy<2'`."
    )


def _checks(*, licence: bool, signed: bool) -> str:
    lines = [f"Check the copy with `sha256sum -c {SUMS}`, or from outside with `toolkit verify-bundle .`."]
    if signed:
        lines.append(
            f"Check the signature with `toolkit verify-bundle . --key KEY.pub`, or with `pip install model-signing` and "
            f"`model_signing verify key . --signature {SIGNATURE} --public_key KEY.pub --ignore_paths {CACHE}`."
        )
    lines.append(f"Licence of the code: {LICENCE}." + (f" Of the model: {MODEL_LICENCE}." if licence else ""))
    return "\n".join(lines)
