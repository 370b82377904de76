"""``toolkit bench --on``: the options, the table with the boards side by side, and the JSON form."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from toolkit.progress import Step
    from toolkit.remote import BoardResult
    from toolkit.remote.boards import Board

__all__ = ["Keep", "On", "Python", "SshConfig", "There", "Wheels", "bench_there", "there", "words"]

On = Annotated[
    list[str] | None,
    typer.Option(
        "--on",
        metavar="BOARD",
        help="Another machine: ssh://[user@]host[:port], or its name in your ssh configuration.",
    ),
]
Python = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="With --on: the Python there.  [default: python3, and an environment made for it]"
    ),
]
Keep = Annotated[bool, typer.Option("--keep", help="With --on: leave the temporary folder there.")]
Wheels = Annotated[
    Path | None, typer.Option(metavar="FOLDER", help="With --on: wheels that are installed there, with no network.")
]
SshConfig = Annotated[
    Path | None, typer.Option(metavar="FILE", help="With --on: for OpenSSH, in place of ~/.ssh/config.")
]


JSON_FORMAT, INTERRUPTED = 1, 130
_SAMPLES = ("samples_ns", "samples", "times_ns", "times_n")


class There(NamedTuple):
    """Boards, and how they are used: see `toolkit.remote.BoardOptions`."""

    boards: "tuple[Board, ...]"
    python: str | None
    keep: bool
    wheels: Path | None
    ssh_config: Path | None


def there(
    on: "Sequence[str] | None", python: str | None, *, keep: bool, wheels: Path | None, ssh_config: Path | None
) -> There | None:
    """What the options ask for; None: this machine.

    Raises:
        UsageError: no board, or an option that is about none.
    """
    from toolkit.errors import UsageError
    from toolkit.remote.boards import parse_boards

    if on:
        return There(tuple(parse_boards(on)), python, keep, wheels, ssh_config)
    given = {"--python": python, "--keep": keep, "--wheels": wheels, "--ssh-config": ssh_config}
    for name, value in given.items():
        if value:
            raise UsageError(f"{name} needs --on: it is about another machine")
    return None


def words(**given: Any) -> tuple[str, ...]:
    """Options as the words that ``python -m toolkit.benchmarking`` takes; what is None or False was not given."""
    found: list[str] = []
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            found.append(option)
        elif isinstance(value, list):
            found += [f"{option}={each}" for each in value]
        elif value is not None and value is not False:
            found.append(f"{option}={value}")
    return tuple(found)


def bench_there(
    path: Path,
    where: There,
    arguments: "Sequence[str]",
    output: Path | None,
    pages: "Mapping[str, Path | None]",
    *,
    save_settings: bool,
    json: bool,
) -> None:
    """Time a bundle on boards, write one report a board, and show them side by side.

    Args:
        path: of the bundle or artifact.
        where: see there.
        arguments: see `words`.
        output: the report of one board; of several, each board's name comes before the ".json".
        pages: the same for what else is written, by "markdown", "csv" and "plot".
        save_settings: write the best settings of each board too, beside the bundle.
        json: machine output.

    Raises:
        BoardError, KeyboardInterrupt: a board failed, or Ctrl-C; what the others gave was written and shown.
        ToolkitError: see `toolkit.remote.bench_on`.
    """
    from toolkit.cli.board_files import Files
    from toolkit.cli.console import note, print_json, steps
    from toolkit.remote import BoardOptions, bench_on

    files = Files(path, where.boards, output, pages, save_settings=save_settings)
    options = BoardOptions(
        python=where.python,
        keep=where.keep,
        wheels=where.wheels,
        ssh_config=where.ssh_config,
        arguments=tuple(arguments),
        pages=files.from_boards,
        interactive=sys.stdin.isatty() and sys.stderr.isatty(),
    )
    with ExitStack() as stack:
        shown: list[Step] = []

        def step(done: int, total: int, what: str) -> None:
            if not shown:  # not before: OpenSSH may have questions
                shown.append(stack.enter_context(steps("Boards")))
            shown[0](done, total, what)

        results = bench_on(path, where.boards, options, note, step)
    # People's output comes first: it is not lost where nothing can be written.
    if json:
        print_json(_to_json(path, results, files.reports))
    else:
        _render(results)
    _shout(results, kept=where.keep)
    files.write(results)
    _raise_for(results)


def _shout(results: "Sequence[BoardResult]", *, kept: bool) -> None:
    """What nobody should miss: figures not to be relied on, and what was left there."""
    from toolkit.cli.board_rows import noisy
    from toolkit.cli.console import note

    for result in results:
        if result.report is not None and (noise := noisy(result.report)):
            typer.secho(f"{result.board.name}: {noise}", fg="red", bold=True, err=True)
        if result.left:
            how = "kept there" if kept else "may still be there (the board removes it when it notices)"
            note(f"{result.board.name}: {how}: {result.left}")


def _raise_for(results: "Sequence[BoardResult]") -> None:
    from toolkit.cli.console import note
    from toolkit.errors import BoardError

    failed = [result for result in results if result.error is not None]
    if any(result.exit_code == INTERRUPTED for result in failed):
        raise KeyboardInterrupt
    if len(failed) == 1:
        raise BoardError(failed[0].line, failed[0].exit_code)
    if failed:
        for result in failed:
            note(f"failed: {result.line}")
        raise BoardError(
            f"{len(failed)} of {len(results)} boards failed, as said above; run again for those",
            max(result.exit_code for result in failed),
        )


def _to_json(path: Path, results: "Sequence[BoardResult]", places: "Sequence[Path]") -> dict[str, Any]:
    return {
        "format": JSON_FORMAT,
        "path": str(path),
        "boards": [
            {
                "board": result.board.name,
                "exit_code": result.exit_code,
                "step": result.step,
                "error": result.error,
                "facts": result.facts._asdict() if result.facts else None,
                "environment": result.environment,
                "selftest": result.selftest,
                "report": _without_samples(result.report),
                "file": str(place) if result.report is not None else None,
                "left": result.left,
                "seconds": result.seconds,
            }
            for result, place in zip(results, places, strict=True)
        ],
    }


def _without_samples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_samples(inner) for key, inner in value.items() if key not in _SAMPLES}
    if isinstance(value, list):
        return [_without_samples(inner) for inner in value]
    return value


def _render(results: "Sequence[BoardResult]") -> None:
    from toolkit.cli.board_rows import figures
    from toolkit.cli.console import print_table

    columns = ["", *(result.board.name for result in results)]
    rows = [["result", *map(_outcome, results)], ["self-test", *map(_verdict, results)]]
    rows += figures([result.report or {} for result in results])
    print_table("Boards", columns, rows)
    if any(cell.startswith("~") for row in rows for cell in row):
        typer.echo("~ rounds differ by more than 10 %")


def _outcome(result: "BoardResult") -> str:
    if result.exit_code == INTERRUPTED:
        return f"interrupted: {result.step}"
    return "ok" if result.error is None else f"failed: {result.step}"


def _verdict(result: "BoardResult") -> str:
    from toolkit.remote.connection import printable

    return "-" if result.selftest is None else printable(str(result.selftest.get("verdict")))
