"""The README of a bundle: one screen with what it is, what it needs, and the commands for its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from toolkit import __version__
from toolkit.artifact import C_FILES, GOLDEN
from toolkit.bundle import requirements
from toolkit.bundle.layout import LICENCE, MODEL_LICENCE, SIGNATURE, SUMS
from toolkit.native import LIBRARY

if TYPE_CHECKING:
    from toolkit.artifact import Manifest
    from toolkit.manifest_records import BundleRecord, ParityRecord, TensorContract

__all__ = ["FOLDER_COMMANDS", "text"]

FOLDER_COMMANDS = (
    "python3 -m venv ../venv && . ../venv/bin/activate",
    "pip install --require-hashes -r requirements.txt",
    "python predictor.py --selftest",
)
"""What is typed in a bundle's folder on the device; the environment is outside, as nothing else belongs inside."""

_NAMES_SHOWN = 12  # classes; the manifest has all
_NUMPY_2 = (1, 19)  # the first onnxruntime that runs with numpy 2 (its release notes)
_BOARDS = {"x86_64": "x86-64", "aarch64": "64-bit ARM"}


def text(manifest: Manifest, *, licence: bool = False, signed: bool = False, package: str | None = None) -> str:
    """README.md of a bundle.

    Args:
        manifest: the bundle's.
        licence: the model's own licence is in the bundle.
        signed: a signature is.
        package: what a wheel's package is called; None: a folder.
    """
    bundle = manifest.bundle
    assert bundle is not None
    record = manifest.files[bundle.model]
    made = f"toolkit {__version__}" + (f" from {manifest.conversion.source}" if manifest.conversion else "")
    parts = [
        f"# {manifest.name}: a model for a device",
        f"`{bundle.model}` ({record.kind}, {record.bytes:,} bytes), made by {made}.  \nsha256 `{record.sha256}`",
        "\n".join(_facts(manifest, bundle)),
        "On the device" + (", in this folder:" if package is None else ":"),
        _code("sh", *(FOLDER_COMMANDS if package is None else _commands(package))),
        f"The self-test runs the rows in {GOLDEN}; it exits 0 only if the results are those of the machine that "
        f"verified the model, {'bit for bit up to the last softmax' if bundle.exact else 'but for rounding'}. "
        "In a program:",
        _code("python", *_example(manifest, package)),
        _besides(manifest),
        _older(bundle) if package is None else "",
        _checks(licence=licence, signed=signed, package=package),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _besides(manifest: Manifest) -> str:
    return "\n\n".join(part for part in (_in_c(manifest), _compiled(manifest)) if part)


def _compiled(manifest: Manifest) -> str:
    if (native := manifest.native) is None:
        return ""
    return (
        f'`{LIBRARY}` is the same model compiled for {native.machine}: `Predictor(".", backend="auto")` takes it '
        "where the CPU has what it was compiled for, without onnxruntime, and onnxruntime elsewhere."
    )


def _in_c(manifest: Manifest) -> str:
    if C_FILES[0] not in manifest.files:
        return ""
    return (
        "Without Python: `model.c` and `model.h` are the same int8 model in C99, with the same bits up to the last "
        "softmax; `make -f model.mk` compiles the example around them, `main.c`."
    )


def _commands(package: str) -> list[str]:
    return [
        "python3 -m venv venv && . venv/bin/activate",
        f"pip install {package}-*.whl",
        f"python -m {package} --selftest",
    ]


def _code(language: str, *lines: str) -> str:
    return "\n".join([f"```{language}", *lines, "```"])


def _facts(manifest: Manifest, bundle: BundleRecord) -> list[str]:
    lines = [f"- Input {_tensor(each)}" for each in manifest.inputs]
    lines += [f"- Output {_tensor(each)}" for each in manifest.outputs]
    if names := manifest.class_names:
        numbers = names == [str(number) for number in range(len(names))]
        shown = ", ".join(f"{at} {name}" for at, name in enumerate(names[:_NAMES_SHOWN]))
        more = f" ... {len(names)} in all" if len(names) > _NAMES_SHOWN else ""
        lines.append(f"- Classes: {f'0 to {names[-1]}' if numbers else shown + more}")
    verdicts = {each.output: verdict for each in manifest.parity.get(bundle.model, []) if (verdict := _verdict(each))}
    if verdicts:
        named = [verdict if len(verdicts) == 1 else f"`{name}` {verdict}" for name, verdict in verdicts.items()]
        on = f" on {manifest.data.test}" if manifest.data else ""
        of = "" if bundle.model.endswith(".onnx") else " as ONNX"
        lines.append(f"- Verified{of}{on}: {'; '.join(named)}")
    boards = " or ".join(_BOARDS[each] for each in requirements.TARGETS[bundle.target])
    lines.append(
        f"- Needs Linux on {boards}, glibc {bundle.glibc} or newer, Python {bundle.python} to "
        f"{requirements.PYTHONS[-1]}, onnxruntime {bundle.onnxruntime} or newer"
    )
    flags = [f"{_BOARDS[name]}: {' '.join(flags)}" for name, flags in bundle.cpu_features.items()]
    return [*lines, f"- CPU flags: {'; '.join(flags)}"]


def _tensor(contract: TensorContract) -> str:
    sizes = ", ".join(map(str, contract.shape))
    bounds = f", values from {contract.range[0]:g} to {contract.range[1]:g}" if contract.range else ""
    return f"`{contract.name}`: {contract.dtype} of shape ({sizes}){bounds}" + (
        f" ({contract.task})" if contract.task else ""
    )


def _verdict(parity: ParityRecord) -> str:
    if parity.agreement is None:
        return "" if parity.relative_error is None else f"relative error {parity.relative_error:.2%}"
    accuracy = "" if parity.accuracy is None else f", accuracy {parity.accuracy:.2%}"
    return f"decides as Keras on {parity.agreement:.2%}{accuracy}"


def _example(manifest: Manifest, package: str | None) -> list[str]:
    """Three lines, with the shape of one row behind."""
    rows = [
        f"{each.dtype} of shape ({', '.join(map(str, each.shape[1:]))}{',' * (len(each.shape) == 2)})"
        for each in manifest.inputs
    ]
    names = [each.name for each in manifest.inputs]
    given = (
        "row" if len(names) == 1 else "{" + ", ".join(f"{name!r}: row{at}" for at, name in enumerate(names, 1)) + "}"
    )
    wanted = ".class_name" if manifest.class_names else f".outputs[{manifest.outputs[0].name!r}]"
    comment = f"row: a numpy array, {rows[0]}" if len(rows) == 1 else f"numpy arrays: {'; '.join(rows)}"
    use = f"predict({given}){wanted}"
    if package is not None:
        return [f"import {package}", f"print({package}.{use})  # {comment}"]
    return [
        "from predictor import Predictor",
        'predictor = Predictor(".")  # the path of this folder',
        f"print(predictor.{use})  # {comment}",
    ]


def _older(bundle: BundleRecord) -> str:
    if tuple(map(int, bundle.onnxruntime.split("."))) >= _NUMPY_2:
        return ""
    return (
        "requirements.txt pins what was current. An older runtime works too, without these hashes: "
        f"`pip install 'onnxruntime>={bundle.onnxruntime}'`, and with one before 1.19 also `'numpy<2'`."
    )


def _checks(*, licence: bool, signed: bool, package: str | None) -> str:
    lines = (
        []
        if package
        else [f"Check the copy with `sha256sum -c {SUMS}`, or from outside with `toolkit verify-bundle .`."]
    )
    if signed and not package:
        lines.append(
            "Check the signature with `toolkit verify-bundle . --key KEY.pub`, or, after `pip install model-signing "
            f"pyopenssl`, with `model_signing verify key . --signature {SIGNATURE} --public_key KEY.pub`."
        )
    lines.append(f"Licence of the code: {LICENCE}." + (f" Of the model: {MODEL_LICENCE}." if licence else ""))
    return "\n".join(lines)
