"""``toolkit bundle``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli import options

if TYPE_CHECKING:
    from toolkit.bundle.make import Made


def bundle(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write; an earlier bundle is replaced.")],
    artifact: Annotated[
        Path | None, typer.Argument(help="Artifact folder.  [default: exported/mlp, else the reference]")
    ] = None,
    kind: Annotated[
        Literal["int8", "int4", "float16", "float32"] | None,
        typer.Option(help="Which model of the artifact.  [default: the quantized one if it is there]"),
    ] = None,
    target: Annotated[
        Literal["linux", "linux-x86_64", "linux-aarch64"],
        typer.Option(help="The device: Linux on x86-64, on 64-bit ARM, or either."),
    ] = "linux",
    form: Annotated[
        Literal["onnx", "ort"],
        typer.Option("--format", help="Of the model file: ONNX, or onnxruntime's own for builds of it without ONNX."),
    ] = "onnx",
    c: Annotated[
        bool, typer.Option("--c", help="Also put the int8 model in C into it, as export --c wrote it.")
    ] = False,
    native: Annotated[
        bool, typer.Option("--native", help="Also put the compiled model into it, as export --native made it.")
    ] = False,
    archive: Annotated[bool, typer.Option("--zip", help="Also write the folder as one file, FOLDER.zip.")] = False,
    wheel: Annotated[
        bool, typer.Option("--wheel", help="Also write a Python package beside the folder: NAME_model-...whl.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Sign with this elliptic curve private key (PEM, not encrypted)."),
    ] = None,
    licence: Annotated[
        Path | None, typer.Option(help="The model's own licence, kept as MODEL_LICENCE.", metavar="FILE")
    ] = None,
    json: options.Json = False,
) -> None:
    """Make a folder with all that a device needs: model, runtime in one file, pinned requirements, self-test, README.

    Every file of the artifact that is used is checked against its sha256, and the bundle is published only if it passes
    its own self-test here. The same artifact and options give the same bytes, signatures aside. A folder with other
    files in it is not touched. On the device:

    \b
        python3 -m venv ../venv && . ../venv/bin/activate
        pip install --require-hashes -r requirements.txt
        python predictor.py --selftest

    Signing is OpenSSF model signing, offline; it takes the extra 'sign'. A key, and the check with that project's own
    command:

    \b
        openssl ecparam -name prime256v1 -genkey -noout -out key.pem
        openssl ec -in key.pem -pubout -out key.pub
        model_signing verify key device --signature device/model.sig --public_key key.pub

    \b
    Example:
        toolkit bundle exported/fashion-mnist -o device
        toolkit bundle exported/fashion-mnist -o device --target linux-aarch64 --zip --sign key.pem
    """
    from toolkit.bundle.make import BundleOptions, make_bundle
    from toolkit.cli.console import note, print_json
    from toolkit.cli.defaults import default_artifact

    source = artifact or default_artifact()
    if artifact is None:
        note(f"Bundling {source}")
    chosen = BundleOptions(kind, target, form, licence, zip=archive, wheel=wheel, key=sign, c=c, native=native)
    made = make_bundle(source, output, chosen)
    if json:
        print_json(made.to_json())
        return
    _print(made)


def _print(made: "Made") -> None:
    from toolkit.bundle.readme import FOLDER_COMMANDS
    from toolkit.cli.console import print_table

    rows = [[file.path.name, file.what, f"{file.bytes:,}"] for file in made.files]
    bundle = made.manifest.bundle
    model = made.manifest.files[bundle.model].bytes if bundle else 0
    title = f"{made.folder}: {made.bytes:,} bytes, {made.bytes - model:,} of them beside the model"
    rows += [[str(file.path), file.what, f"{file.bytes:,}"] for file in made.beside]
    print_table(title, ("file", "what it is", "bytes"), rows, left=2)
    typer.echo(f"Next: toolkit verify-bundle {shlex.quote(str(made.folder))}")
    typer.echo("\n    ".join(["Copy the folder to the device; there, in it:", *FOLDER_COMMANDS]))
