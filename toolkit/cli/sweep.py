"""``toolkit sweep``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli import options

if TYPE_CHECKING:
    from toolkit.sweeping.report import SweepReport

SWEEP_FOLDER = Path("exported/sweep")


def sweep(
    recipe: options.RecipeName = "default",
    search: Annotated[
        list[str] | None,
        typer.Option(
            "--search",
            metavar="FIELD=SPACE",
            help="What to try for a field of the recipe (toolkit train --show lists them): LOW..HIGH, evenly; "
            "log:LOW..HIGH, evenly over the orders of magnitude; A|B|C; or one value. Repeatable.  [default: learning "
            "rate, structure, dropout, label smoothing]",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(help="How many the study is to have in the end, of all processes together.", min=1)
    ] = 30,
    timeout: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="Begin no trial after so long.  [default: no limit]")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="Where the study is: a file that other processes and machines may share, or a database.  [default: "
            "study.journal in the output folder]",
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Of the study; who gives the same storage and name joins in.")] = "sweep",
    epochs: Annotated[int | None, typer.Option(help="Passes of each trial.  [default: the recipe's]")] = None,
    seed: Annotated[int, typer.Option(help="Of every training, and of what is tried.", min=0, max=2**32 - 1)] = 1,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png|svg", help="Draw accuracy by trial and over each field.")
    ] = None,
    apply: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="Write the best trial's recipe, for toolkit train --recipe FILE.json."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for sweep.json and the study.")] = SWEEP_FOLDER,
    data: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Search for a better recipe: learning rate, structure, dropout or any other field, judged on validation images.

    Trials that fall behind are stopped early. Everything tried is kept at any moment: the same command goes on after
    Ctrl-C, and given a second time meanwhile, here or on another machine that sees the storage, it joins in. The test
    images are not looked at.

    \b
    Examples:
        toolkit sweep --apply exported/sweep/recipe.json
        toolkit sweep --recipe notebook --search learning_rate=log:0.001..0.5 --search 'hidden=300,100|200,50'
        toolkit sweep --search 'optimizer=sgd|adam|muon' --search batch_norm=false --trials 50 --plot sweep.svg
    """
    from toolkit.cli.bench_plot import check_matplotlib
    from toolkit.cli.console import note, print_json
    from toolkit.cli.outputs import checked_file
    from toolkit.cli.recipe_tables import print_recipes
    from toolkit.cli.sweep_tables import print_sweep, sweep_listener
    from toolkit.errors import UsageError
    from toolkit.publishing import write_atomic
    from toolkit.sweeping.spaces import default_spaces, parse_spaces
    from toolkit.sweeping.storage import check_optuna
    from toolkit.sweeping.sweep import SweepSettings
    from toolkit.sweeping.sweep import sweep as run_sweep
    from toolkit.training.recipe_files import find_recipe

    if recipe == "list":
        print_recipes(as_json=json)
        return
    named = find_recipe(recipe)
    base = named.override(epochs=epochs)
    spaces = parse_spaces(search) if search else default_spaces(base)
    if epochs is not None and "epochs" in spaces:
        raise UsageError("--epochs and --search epochs=... are both given; drop one")
    if timeout is not None and not timeout > 0:
        raise UsageError(f"--timeout is {timeout:g}, expected more than 0 minutes")
    check_optuna()
    place, picture, file = _folder(output), checked_file(plot, "--plot", (".png", ".svg")), _recipe_file(apply)
    if picture is not None:
        check_matplotlib()
    from toolkit.data import load

    images = load(data, note)
    settings = SweepSettings(
        base,
        spaces,
        storage or str(place / "study.journal"),
        place,
        name,
        trials,
        None if timeout is None else 60 * timeout,
        seed,
    )
    for space in spaces.values():
        if not space.log and space.kind == "float" and space.high >= 100 * space.low > 0:
            note(f"{space.field} is searched evenly; log:{space.text} would search it over the orders of magnitude")
    try:
        with sweep_listener(settings, lambda report: _write(report, place)) as listener:
            report = run_sweep(settings, images, listener)
    except KeyboardInterrupt:
        note("what was tried is kept: the same command goes on from there")
        raise
    _write(report, place)
    note(f"Report: {place / 'sweep.json'}")
    if picture is not None and any(row.last_accuracy is not None for row in report.trials):
        from toolkit.sweeping.plot import draw_sweep

        write_atomic(picture, draw_sweep(report, picture.suffix[1:].lower()))
        note(f"Plot: {picture}")
    if json:
        print_json(report.to_json())
    else:
        print_sweep(report)
    _end(report, file, named.epochs, quiet=json)


def _end(report: "SweepReport", file: Path | None, usual_epochs: int, *, quiet: bool) -> None:
    """Write the best recipe if that was asked for, and say what to do next."""
    from toolkit.cli.console import note
    from toolkit.errors import DivergedError, UsageError

    if report.best is None:
        outcomes = {row.outcome for row in report.trials if row.counted}
        if outcomes and outcomes <= {"diverged", "invalid", "failed"}:
            reason = next(row.reason for row in report.trials if row.counted)
            raise DivergedError(f"no trial was trained to its end, one as {reason}; give other spaces by --search")
        if file is not None:
            raise UsageError("--apply has nothing to write: no trial has finished yet; give the study more time")
        return
    chosen = report.recipe_of(report.best)
    if file is not None:
        _apply(report, chosen, file)
        if chosen.epochs < usual_epochs:
            note(f"It was tried with {chosen.epochs} epochs, not {usual_epochs}: --epochs {usual_epochs} trains longer")
    if quiet:
        return
    if file is None:
        typer.echo("Next: the same command with --apply FILE.json writes the best as a recipe for toolkit train")
    else:
        command = [
            "toolkit",
            "train",
            "--recipe",
            str(file),
            *(["--seed", str(report.seed)] if report.seed != 1 else []),
        ]
        typer.echo(f"Next: {shlex.join(command)}")


def _apply(report: "SweepReport", chosen: Any, file: Path) -> None:
    import dataclasses
    import json

    from toolkit.cli.console import note
    from toolkit.publishing import write_atomic
    from toolkit.training.recipe_files import recipe_to_json

    best = report.best
    assert best is not None
    purpose = f"the best of {report.counted} trials of a sweep, {best.validation_accuracy:.2%} on the validation images"
    named = dataclasses.replace(chosen, name="custom", purpose=purpose)
    write_atomic(file, json.dumps(recipe_to_json(named), indent=1) + "\n")
    note(f"Recipe: {file}")


def _write(report: "SweepReport", folder: Path) -> None:
    import json

    from toolkit.publishing import write_atomic

    write_atomic(folder / "sweep.json", json.dumps(report.to_json(), indent=1, allow_nan=False) + "\n")


def _folder(path: Path) -> Path:
    from toolkit.errors import UsageError

    if path.exists() and not path.is_dir():
        raise UsageError(f"--output {path} is a file, expected a folder; choose another --output")
    path.mkdir(parents=True, exist_ok=True)
    return path


def _recipe_file(path: Path | None) -> Path | None:
    from toolkit.cli.outputs import checked_file
    from toolkit.errors import UsageError
    from toolkit.staged_folders import OWN_FILES

    if path is not None and path.name in OWN_FILES | {"sweep.json"}:
        raise UsageError(f"--apply {path} would replace a file of another kind; expected a name such as recipe.json")
    return checked_file(path, "--apply", (".json",))
