"""The ``toolkit`` command: its commands, and the one place where errors become one line and an exit code."""

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from toolkit import __version__
from toolkit.cli import (
    bench,
    bench_compare,
    bundle,
    data,
    export,
    inspect,
    predict,
    report,
    run,
    train,
    tune,
    verify,
    verify_bundle,
)

app = typer.Typer(
    name="toolkit",
    help="Train a small Keras model, export it to ONNX and int8, prove it equal, run it on a CPU device.",
    add_completion=False,
    # Plain help: rich's takes longer to import than everything else that --help does.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


_METHODS = (["static"], ["dynamic"], ["int4"], ["float16"], ["none"])
_COMMANDS: dict[str, tuple[Callable[..., None], str]] = {
    "run": (run.run, "The whole line: fetch, train, export, quantize, verify, time"),
    "data": (data.data, "Find or fetch Fashion-MNIST and check every byte"),
    "train": (train.train, "Train the Keras MLP"),
    "export": (export.export, "Keras to ONNX and int8, verified before it is published"),
    "tune": (tune.tune, "Choose a quantization by measurement on this machine"),
    "verify": (verify.verify, "Exported files against Keras on the whole test set"),
    "predict": (predict.predict, "Say what is in images"),
    "inspect": (inspect.inspect, "What is in a model: layers, sizes, contract, saturation, a picture"),
    "report": (report.report, "One page about an artifact: data, network, training, results, export"),
    "bench": (bench.bench, "Latency, throughput, cold start, memory and more on this machine"),
    "bench compare": (bench_compare.bench_compare, "Two models or benchmarks side by side: is the new one slower?"),
    "bundle": (bundle.bundle, "All that a device needs in one folder, zip file or wheel"),
    "verify-bundle": (verify_bundle.verify_bundle, "Check a bundle and its signature from the outside"),
}


def _version(value: bool) -> None:
    if value:
        typer.echo(f"toolkit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for _name, (_function, _summary) in _COMMANDS.items():
    app.command(_name, short_help=_summary)(_function)


def main() -> None:
    """Run the command line and exit: 0, or what the error says; Ctrl-C goes on to `toolkit.__main__`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no reason to fail
    try:
        code = app(_arguments(sys.argv[1:] or ["--help"]), standalone_mode=False)
    except typer.Abort:
        code = 130
    except typer.TyperException as error:
        command = next((f" {word}" for word in _arguments(sys.argv[1:])[:1] if word in _COMMANDS), "")
        _fail(" ".join(f"{error.format_message()} (see: toolkit{command} --help)".split()))
        code = error.exit_code
    except SystemExit as error:
        # typer ends so when the reader of our output went away (toolkit ... | head). What was asked for may not have
        # been finished, so this is no success: the code is that of any program that a closed pipe ends.
        code = 141 if isinstance(error.__context__, BrokenPipeError) else error.code
    except MemoryError:
        _fail("there is not enough memory for this; free some, or give less at once")
        code = 3
    except Exception as error:
        # The error classes come with numpy, which --help must not pay for.
        from toolkit.errors import ToolkitError
        from toolkit.publishing import storage_error

        known = storage_error(error) if isinstance(error, OSError) and not isinstance(error, ToolkitError) else error
        if not isinstance(known, ToolkitError):
            raise
        _fail(str(known))
        code = known.exit_code
    if code == 130:
        raise KeyboardInterrupt  # typer made it a code; `toolkit.__main__` has the one line for it
    sys.exit(code if isinstance(code, int) else 0)


def _arguments(arguments: list[str]) -> list[str]:
    """The arguments as typer understands them: no options whose value may be left out, no commands of two words.

    ``--quantize`` alone means static. A folder of the name compare is benched as ``./compare``.
    """
    if arguments[:2] == ["bench", "compare"]:
        arguments = ["bench compare", *arguments[2:]]
    return [
        f"{word}=static" if word == "--quantize" and arguments[at + 1 : at + 2] not in _METHODS else word
        for at, word in enumerate(arguments)
    ]


def _fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)  # noqa: T201 - this is the command line's own output
