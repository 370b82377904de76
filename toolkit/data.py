"""Fashion-MNIST: found, proved, kept and split.

The first 5,000 training images are the validation set, the other 55,000 are for training. Nothing else of the
toolkit knows where the data comes from or how it is packed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from toolkit import data_sources
from toolkit.cache import cache_root
from toolkit.data_sources import FILES, PACKAGE, SourceError, read_folder
from toolkit.errors import MissingError, ToolkitError
from toolkit.progress import silent_note
from toolkit.publishing import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from toolkit.progress import Note

__all__ = ["CLASS_NAMES", "FashionMnist", "cache_folder", "load"]

CLASS_NAMES: tuple[str, ...] = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

VALIDATION_IMAGES = 5_000


@dataclass(frozen=True, eq=False)
class FashionMnist:
    """The data set, split: images uint8 (n, 28, 28), bright on black; labels uint8 (n,), 0 to 9; read-only.

    Attributes:
        train_images: the training images after the first 5,000, shape (55000, 28, 28).
        train_labels: their labels.
        validation_images: the first 5,000 training images, shape (5000, 28, 28).
        validation_labels: their labels.
        test_images: the test images, shape (10000, 28, 28).
        test_labels: their labels.
        source: where it came from, in one phrase.
        folder: the folder that holds its four files; None if it could not be kept anywhere.
    """

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    validation_images: NDArray[np.uint8]
    validation_labels: NDArray[np.uint8]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.uint8]
    source: str
    folder: Path | None = None


def cache_folder() -> Path:
    """Where the data is kept between runs; it need not exist.

    Raises:
        UsageError: this user has no home folder, and no variable names another place.
    """
    return cache_root() / "fashion-mnist"


def load(folder: Path | None = None, note: Note = silent_note) -> FashionMnist:
    """Fashion-MNIST from a folder, or from the first of the toolkit's sources that has it.

    Every load proves all bytes by sha256. That takes 30 to 100 ms; without it a flipped bit in a cache that
    nobody looks at would change results for ever.

    Args:
        folder: look only there, for the four idx files, plain or gzip'd. None: try the cache, Keras' own
            loader, the installed Debian package, the Debian package fetched.
        note: told what is fetched, and what is damaged.

    Raises:
        MissingError: the folder or a file in it is missing; or no source has the data: says what was tried.
        DataError: a file in the folder is damaged or something else.
        UsageError: the folder is a file, or cannot be read.
    """
    if folder is not None:
        return _split(read_folder(folder), "the given folder", folder)
    cache = cache_folder()
    tried = []
    try:
        return _split(read_folder(cache), "the cache", cache)
    except MissingError:
        tried.append(f"the cache {cache}: does not hold it yet")
    except ToolkitError as error:
        tried.append(f"the cache {cache}: {str(error).split(';')[0]}")
        note(f"the cache cannot be used: {str(error).split(';')[0]}; getting the data anew")
    sources = (
        ("Keras' own loader", data_sources.from_keras),
        (f"the Debian package {PACKAGE} (installed)", data_sources.from_package),
        (f"the Debian package {PACKAGE} (fetched)", data_sources.fetch_package),
    )
    for name, fetch in sources:
        try:
            payloads = fetch(note)
        except SourceError as error:
            tried.append(f"{name}: {error}")
            continue
        return _split(payloads, name, cache if _keep(payloads, cache, note) else None)
    listed = "; ".join(f"({number}) {reason}" for number, reason in enumerate(tried, 1))
    raise MissingError(
        f"Fashion-MNIST was not found. Tried {listed}. Next: install the package {PACKAGE}, "
        f"or put {', '.join(f'{name}.gz' for name in FILES)} into {cache}, or run again with a network"
    )


def _keep(payloads: dict[str, bytes], cache: Path, note: Note) -> bool:
    """Fill the cache. Two processes may do so at once: whole files are put in place, all the same."""
    try:
        for name, data in payloads.items():
            write_atomic(cache / name, data)
    except (ToolkitError, OSError) as error:
        note(f"not kept for the next run: {str(error).split(';')[0]}; set TOOLKIT_CACHE to a writable folder")
        return False
    note(f"kept in {cache}")
    return True


def _split(payloads: dict[str, bytes], source: str, folder: Path | None) -> FashionMnist:
    # The sizes and headers need no check: these are the very bytes, by sha256.
    images, labels, test_images, test_labels = (
        np.frombuffer(payloads[name], np.uint8, offset=offset).reshape(shape)
        for name, offset, shape in zip(FILES, (16, 8, 16, 8), ((-1, 28, 28), (-1,)) * 2, strict=True)
    )
    return FashionMnist(
        train_images=images[VALIDATION_IMAGES:],
        train_labels=labels[VALIDATION_IMAGES:],
        validation_images=images[:VALIDATION_IMAGES],
        validation_labels=labels[:VALIDATION_IMAGES],
        test_images=test_images,
        test_labels=test_labels,
        source=source,
        folder=folder,
    )
