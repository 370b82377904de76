"""``toolkit inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import options


def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="A .keras, .h5 or .onnx file, a SavedModel, or an artifact folder.  [default: exported/mlp, else the "
            "reference]"
        ),
    ] = None,
    diagram: Annotated[
        Path | None, typer.Option(metavar="FILE.svg", help="Also draw the model; of an artifact, its Keras model.")
    ] = None,
    custom: options.Custom = None,
    unsafe: options.Unsafe = False,
    json: options.Json = False,
) -> None:
    """Say what is in a model file: layers, parameters, multiply-adds, sizes, contract, quantization, what it needs.

    A multiply-add is one product added to a sum; biases, activations and poolings are not counted. Of an ONNX file it
    is also said whether its int8 sums can saturate on x86 without VNNI, in the graph as the runtime makes it: such a
    CPU adds two neighbouring products in 16 bits. The load of a layer is what the weights of such a pair come to at
    most; above 128 some input makes the sum clip there, and the answer differs from that of other CPUs.

    \b
    Example:
        toolkit inspect exported/fashion-mnist --diagram model.svg
    """
    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.defaults import default_artifact
    from toolkit.cli.inspection_tables import print_inspection
    from toolkit.inspection import check_target, inspect_path, write_diagram

    target = model or default_artifact()
    if model is None:
        note(f"Inspecting {target}")
    if diagram is not None:
        check_target(diagram)
    with steps("Inspecting") as step:
        found = inspect_path(target, custom=custom or (), unsafe=unsafe, step=step)
    drawn = None if diagram is None else write_diagram(found, diagram)
    if json:
        print_json(found.to_json())
    else:
        print_inspection(found)
    if drawn is not None:
        note(f"Drew {drawn} into {diagram}")
