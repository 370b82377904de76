"""``toolkit report``."""

from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli import options, own_model


def report(
    artifact: Annotated[
        Path | None, typer.Argument(help="Artifact folder.  [default: exported/mlp, else the reference]")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="What to write.  [default: report.html or README.md in the artifact]"
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="A model card in the Hugging Face format instead of the page.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write every picture as an SVG file into this folder.")
    ] = None,
    test: own_model.TestRows = None,
    data: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Write what an artifact is into one HTML page: its data, network, training, results, export and provenance.

    The page needs no network and no other file: open it from the disk, print it, send it. The exported files are run
    on the test rows (Fashion-MNIST's, or --test) for it; all else is read from the artifact. What the artifact does
    not have, such as timings, the page says, with the command that adds it. The same artifact gives the same bytes.

    \b
    Example:
        toolkit report exported/fashion-mnist
        toolkit report exported/fashion-mnist --markdown -o card.md --images pictures
    """
    from toolkit.artifact import load_manifest
    from toolkit.card_mark import CARD, is_own_card
    from toolkit.cli.console import note, print_json, steps
    from toolkit.cli.defaults import default_artifact
    from toolkit.cli.outputs import checked_file
    from toolkit.errors import UsageError
    from toolkit.publishing import write_atomic

    if data is not None and test is not None:
        raise UsageError("--data names Fashion-MNIST, which is not used with --test; drop it")
    folder = artifact or default_artifact()
    if artifact is None:
        note(f"Reporting on {folder}")
    manifest = load_manifest(folder)
    if data is not None and manifest.data is not None and not manifest.data.fashion_mnist:
        raise UsageError(
            f"--data names Fashion-MNIST, on which {folder} was not verified; drop it, or give --test FILE"
        )
    from toolkit.data import load
    from toolkit.report import check_folder, check_pillow, make_report, model_card, page, write_pictures

    name, suffixes = (CARD, (".md", ".markdown")) if markdown else ("report.html", (".html", ".htm"))
    target = checked_file(output or folder / name, "--output", suffixes) or folder / name
    if markdown and output is None and target.exists() and not is_own_card(target):
        raise UsageError(f"{target} is there already and was not written by this command; choose another -o FILE")
    if images is not None:
        check_folder(images)
    check_pillow()
    with steps("Reporting") as step:
        found = make_report(folder, test, lambda: load(data, note), step)
    written = [] if images is None else write_pictures(found, images)
    text = model_card(found) if markdown else page(found)
    write_atomic(target, text)
    for missing in found.missing:
        note(f"missing: {missing.why}" + (f" It comes with: {missing.command}" if missing.command else ""))
    if written:
        note(f"{len(written)} pictures: {images}")
    if json:
        size = len(text.encode())
        print_json({"file": str(target), "bytes": size, "images": [str(path) for path in written], **found.to_json()})
        return
    print(f"{'Model card' if markdown else 'Report'}: {target} ({len(text.encode()) / 1000:,.0f} kB)")  # noqa: T201 - the command's own output
