"""Rows of every kind for the tests of ``toolkit predict --batch``."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tests.tiny_model import IMAGES, NAMES
from toolkit.idx import pack

if TYPE_CHECKING:
    from pathlib import Path

MANY = np.random.default_rng(5).integers(0, 256, (5000, 28, 28), np.uint8)  # more than one block, and not whole ones


def make_photos(folder: Path) -> Path:
    """Pictures of which some are broken, in folders; and what is none."""
    for number, name in enumerate(("b.png", "a/2.PNG", "a/10.png", "a.jpg", "a/c/z.png", "B.png", "é.png")):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[number]).save(path, quality=100)
    Image.fromarray(IMAGES[9]).resize((40, 30)).convert("RGB").save(folder / "a" / "photo.jpeg")
    (folder / "a" / "broken.png").write_bytes((folder / "b.png").read_bytes()[:90])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.png").write_text("hello")
    (folder / "nowhere.png").symlink_to("nothing")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture either")
    (folder / ".cache").mkdir()
    shutil.copy(folder / "b.png", folder / ".cache" / "b.png")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "pipe.png")
    return folder


BROKEN = {"a/broken.png", "empty.jpg", "text.png", "nowhere.png"}


def in_order(photos: Path) -> list[str]:
    """The paths that a batch has rows for."""
    found = [path for path in photos.rglob("*.*") if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
    hidden = [path for path in found if "/." in str(path.relative_to(photos.parent))]
    return [str(path) for path in sorted(found) if path not in hidden and path.name != "pipe.png"]


def lines_of(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def table_of(path: Path) -> list[dict[str, str]]:
    """The rows of a .csv file."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def stored(folder: Path, kind: str, images: Any) -> Path:
    """Images in a file of some kind."""
    path = folder / f"images.{kind}"
    if kind == "npy":
        np.save(path, images)
    elif kind == "fortran.npy":
        np.save(path, np.asfortranarray(images))
    elif kind == "npz":
        np.savez(path, image=images, y=np.zeros(len(images)), class_names=np.array(NAMES))
    elif kind == "packed.npz":
        np.savez_compressed(path, x=images)
    else:
        path.write_bytes(gzip.compress(pack(images), 1) if kind.endswith("gz") else pack(images))
    return path


def sparse(path: Path, count: int) -> Path:
    """Black images that take no room on the disk."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 28, 28)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 784)
    return path
