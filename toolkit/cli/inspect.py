"""``toolkit inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import options


def inspect(
    model: Annotated[
        Path | None,
        typer.Argument(help="Artifact folder or any .onnx file.  [default: exported/mlp, else the reference]"),
    ] = None,
    json: options.Json = False,
) -> None:
    """Say whether the int8 sums of a model can saturate on x86 without VNNI, in which layers, and how far.

    The graph is read as the runtime makes it. Such a CPU adds two neighbouring products in 16 bits. The load of a layer
    is what the weights of such a pair come to at most; above 128 some input makes the sum clip there, and the answer
    differs from that of other CPUs.

    \b
    Example:
        toolkit inspect exported/fashion-mnist/model.int8.onnx
    """
    import dataclasses

    from toolkit.cli.console import note, print_json, print_table
    from toolkit.cli.defaults import default_artifact
    from toolkit.errors import MissingError
    from toolkit.predictor import model_files

    target = model or default_artifact()
    if model is None:
        note(f"Inspecting {target}")
    files = [(file, file.read()) for file in model_files(target)]
    try:
        from toolkit.conversion.saturation import as_run, layer_loads, unread_weights
    except ImportError as error:
        raise MissingError(
            f"this needs onnx ({error}); install the extra 'train': pip install '.[train]' in the project"
        ) from error
    found = []
    for file, data in files:
        graph = as_run(data, file.path)
        layers = layer_loads(graph)
        found.append((file, layers, unread_weights(graph, layers)))
    if json:
        print_json(
            [
                {
                    "file": file.path,
                    # null: nothing that is known can, but not all is known
                    "can_saturate": any(layer.can_saturate for layer in layers) or (None if unread else False),
                    "layers": [dataclasses.asdict(layer) | {"can_saturate": layer.can_saturate} for layer in layers],
                    "unread": unread,
                }
                for file, layers, unread in found
            ]
        )
        return
    for file, layers, unread in found:
        if unread:
            note(
                f"{file.path}: how {', '.join(unread)} are used is not known here, so neither is whether they saturate"
            )
        if not layers:
            if unread:
                continue
            print(f"{file.path}: no layer with 8-bit activations and weights, so nothing can saturate\n")  # noqa: T201
            continue
        rows = [
            [
                layer.layer,
                layer.operator,
                " x ".join(map(str, layer.shape)),
                layer.weights,
                f"{layer.load} of {layer.limit}",
                f"by {layer.load / layer.limit - 1:.0%}" if layer.can_saturate else "no",
            ]
            for layer in layers
        ]
        print_table(file.path, ["weights", "operator", "shape", "dtype", "load", "can saturate"], rows)
