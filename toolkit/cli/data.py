"""``toolkit data``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from toolkit.data import FashionMnist

SAMPLES = 8  # of each class, in the picture


def data(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder", "--data", help="Folder with the four Fashion-MNIST files.  [default: found or fetched]"
        ),
    ] = None,
    grid: Annotated[
        Path | None,
        typer.Option("--grid", metavar="PICTURE.png", help="Draw labelled training images into this file."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Machine output on stdout alone; people's output goes to stderr.")
    ] = False,
) -> None:
    """Find or fetch Fashion-MNIST, check every byte by sha256, and show where it is.

    Without --folder the first of these that has it answers, and a copy is kept in the first: the cache
    (TOOLKIT_CACHE, else ~/.cache/toolkit), Keras' own loader, the Debian or Ubuntu package dataset-fashion-mnist,
    the same package fetched with apt-get (31 MB, no root needed).

    \b
    Example:
        toolkit data --grid samples.png
    """
    from toolkit.cli.console import note, print_json, print_table

    if grid is not None:
        _check_picture_path(grid)
    from toolkit.data import CLASS_NAMES, load
    from toolkit.data_sources import FILES

    found = load(folder, note)
    parts = {
        "train": found.train_labels,
        "validation": found.validation_labels,
        "test": found.test_labels,
    }
    if grid is not None:
        from toolkit.publishing import write_atomic

        write_atomic(grid, _draw(found))
        note(f"drew {SAMPLES} training images of each class into {grid}")
    if json:
        print_json(
            {
                "folder": None if found.folder is None else str(found.folder),
                "source": found.source,
                "images": {name: len(labels) for name, labels in parts.items()},
                "class_names": list(CLASS_NAMES),
                "files": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in FILES.items()},
                "sha256_verified": True,
                "grid": None if grid is None else str(grid),
            }
        )
        return
    print_table(
        f"Fashion-MNIST, from {found.source}",
        ("split", "images", "of each class"),
        [(name, f"{len(labels):,}", _each(labels.tolist())) for name, labels in parts.items()],
    )
    typer.echo(f"Folder:  {found.folder or 'none: it could not be kept on this machine'}")
    typer.echo(f"Checked: all {len(FILES)} files by sha256 of their uncompressed bytes")


def _each(labels: list[int]) -> str:
    counts = [labels.count(label) for label in sorted(set(labels))]
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def _check_picture_path(path: Path) -> None:
    """Before anything is fetched: what could not be written at the end."""
    from toolkit.errors import UsageError

    if path.suffix.lower() != ".png":
        raise UsageError(f"--grid is {path}, expected a name that ends in .png")
    if path.is_dir():
        raise UsageError(f"--grid is {path}, which is a folder; give a file name in it")


def _draw(found: "FashionMnist") -> bytes:
    """A PNG: a row for each class, its name at the left. The same images each time."""
    import io

    import numpy as np

    from toolkit.data import CLASS_NAMES
    from toolkit.errors import MissingError

    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError(
            f"--grid needs matplotlib ({error}); install the extra 'train': pip install '.[train]' in the project"
        ) from error
    choose = np.random.default_rng(0)
    pitch = 28 + 2
    mosaic = np.full((len(CLASS_NAMES) * pitch - 2, SAMPLES * pitch - 2), 255, np.uint8)
    for label in range(len(CLASS_NAMES)):
        of_class = np.flatnonzero(found.train_labels == label)
        for column, index in enumerate(choose.choice(of_class, SAMPLES, replace=False)):
            top, left = label * pitch, column * pitch
            mosaic[top : top + 28, left : left + 28] = found.train_images[index]
    figure = Figure(figsize=(8, 9), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(mosaic, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([label * pitch + 13.5 for label in range(len(CLASS_NAMES))], CLASS_NAMES, fontsize=11)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"Fashion-MNIST: {SAMPLES} training images of each class", loc="left", fontsize=13)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", bbox_inches="tight", pad_inches=0.15)
    return picture.getvalue()
