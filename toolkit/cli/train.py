"""``toolkit train``."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import option_values, options
from toolkit.cli.defaults import OWN_RUN


def train(
    output: Annotated[Path, typer.Option("--output", "-o", help="Artifact folder to write.")] = OWN_RUN,
    data: options.DataFolder = None,
    recipe: options.RecipeName = "default",
    show: options.Show = False,
    settings: options.Set = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    optimizer: options.Optimizer = None,
    learning_rate: options.LearningRate = None,
    hidden: options.Hidden = None,
    dropout: options.Dropout = None,
    l2: options.L2 = None,
    early_stopping: options.EarlyStopping = None,
    teacher: options.Teacher = None,
    quantization_aware: options.QuantizationAware = None,
    save_teachers: options.SaveTeachers = None,
    seed: options.Seed = None,
    seeds: options.Seeds = 1,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Train the Keras MLP on Fashion-MNIST; leaves model.keras and history.csv in an artifact folder.

    The first 5,000 training images are the validation set. An earlier model in the folder is replaced when training
    ends well, together with the files exported from it. An interrupted training goes on with --resume.

    \b
    Examples:
        toolkit train --recipe best
        toolkit train --recipe notebook --set flip=true --dropout 0.2
        toolkit train --quantization-aware int4
        toolkit train --recipe exported/fashion-mnist/manifest.json --show
    """
    import dataclasses

    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.recipe_tables import print_recipe, print_recipes, spread
    from toolkit.cli.rendering import resumable, training_progress
    from toolkit.errors import UsageError

    if recipe == "list":
        print_recipes(as_json=json)
        return
    chosen = option_values.recipe_from(
        recipe,
        settings,
        hidden,
        teacher,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
        learning_rate=learning_rate,
        dropout=dropout,
        l2=l2,
        early_stopping=early_stopping,
        quantization_aware=quantization_aware,
    )
    if show:
        print_recipe(chosen, as_json=json)
        return
    if save_teachers is not None and chosen.teacher is None:
        raise UsageError(f"--save-teachers does nothing: the recipe {chosen.name} trains none; drop it")
    from toolkit.data import load
    from toolkit.pipeline import TrainingPlan, train_artifact

    plan = TrainingPlan(chosen, option_values.seeds_from(seed, seeds, recipe), resume, save_teachers)
    images = load(data, note)
    if (output / "model.onnx").is_file():
        note(f"{output} holds files exported from an earlier model; they go when the new one takes its place")
    with resumable(output), training_progress() as on_epoch, steps("    teachers") as step:
        _, record = train_artifact(output, plan, images, on_epoch, note, step)
    if json:
        print_json({"artifact": str(output), **dataclasses.asdict(record)})
        return
    note(
        f"Trained {record.epochs_run + record.quantization_epochs} epochs in {record.seconds:.0f} s: training accuracy "
        f"{record.train_accuracy:.2%}, validation accuracy {record.validation_accuracy:.2%}"
    )
    if record.float_validation_accuracy is not None:
        note(
            f"The last {record.quantization_epochs} epochs rounded the weights to {chosen.quantization_aware}; before, "
            f"in float, the validation accuracy was {record.float_validation_accuracy:.2%}"
        )
    if record.seeds:
        note(f"{spread(record)}; seed {record.seed} was taken")
    quantize = "--quantize" if chosen.quantization_aware == "none" else f"--quantize={chosen.quantization_aware}"
    print(f"{output}/model.keras and history.csv\nNext: toolkit export {shlex.quote(str(output))} {quantize}")  # noqa: T201
