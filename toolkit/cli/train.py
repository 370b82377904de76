"""``toolkit train``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import options
from toolkit.cli.defaults import OWN_RUN


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Artifact folder to write.")] = OWN_RUN,
    data: options.DataFolder = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    optimizer: options.Optimizer = None,
    learning_rate: options.LearningRate = None,
    hidden: options.Hidden = None,
    dropout: options.Dropout = None,
    l2: options.L2 = None,
    early_stopping: options.EarlyStopping = None,
    seed: options.Seed = 1,
    json: options.Json = False,
) -> None:
    """Train the Keras MLP on Fashion-MNIST; leaves model.keras and history.csv in an artifact folder.

    The first 5,000 training images are the validation set. An earlier model in the folder is replaced when training
    ends well, together with the files exported from it.

    \b
    Example:
        toolkit train --optimizer sgd --learning-rate 0.01 --batch-size 32 --epochs 30 --dropout 0
    """
    import dataclasses

    from toolkit.cli.console import note, print_json
    from toolkit.cli.rendering import training_progress

    recipe = options.recipe_from(
        hidden,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        dropout=dropout,
        l2=l2,
        early_stopping=early_stopping,
    )
    from toolkit.data import load
    from toolkit.pipeline import train_artifact

    images = load(data, note)
    if (output / "model.onnx").is_file():
        note(f"{output} holds files exported from an earlier model; they go when the new one takes its place")
    with training_progress() as on_epoch:
        _, record = train_artifact(output, recipe, images, seed, on_epoch)
    if json:
        print_json({"artifact": str(output), **dataclasses.asdict(record)})
        return
    note(
        f"Trained {record.epochs_run} epochs in {record.seconds:.0f} s: training accuracy {record.train_accuracy:.2%}, "
        f"validation accuracy {record.validation_accuracy:.2%}"
    )
    print(f"{output}/model.keras and history.csv\nNext: toolkit export {shlex.quote(str(output))} --quantize")  # noqa: T201
