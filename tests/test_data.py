"""The data set: its split, that every byte of a folder or the cache is proved, and the command that shows it."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.conftest import ROOT, toolkit
from tests.spoiling import (
    TEST,
    TEST_LABELS,
    TRAIN,
    equal,
    flipped,
    one_line,
    replace,
)
from toolkit import data_sources
from toolkit.data import CLASS_NAMES, FashionMnist, cache_folder, load
from toolkit.data_sources import FILES, PACKAGE, PACKAGE_FOLDER
from toolkit.errors import DataError, MissingError, ToolkitError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.data_fixtures"]

# The data itself


def test_the_split_is_the_notebooks(fashion_mnist: FashionMnist) -> None:
    data = fashion_mnist
    assert data.train_images.shape == (55_000, 28, 28)
    assert data.validation_images.shape == (5_000, 28, 28)
    assert data.test_images.shape == (10_000, 28, 28)
    assert {a.dtype for a in (data.train_images, data.train_labels, data.test_labels)} == {np.dtype(np.uint8)}
    # The first labels of the training file: an ankle boot, two T-shirts, a dress.
    assert [CLASS_NAMES[label] for label in data.validation_labels[:4]] == [
        "Ankle boot",
        "T-shirt/top",
        "T-shirt/top",
        "Dress",
    ]
    assert np.bincount(data.test_labels).tolist() == [1000] * 10
    together = np.concatenate([data.validation_labels, data.train_labels])
    assert np.bincount(together).tolist() == [6000] * 10


def test_nobody_can_change_the_data_by_accident(fashion_mnist: FashionMnist) -> None:
    with pytest.raises(ValueError, match="read-only"):
        fashion_mnist.train_images[0, 0, 0] = 1


# A folder of the user's


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_folder_with_any_usual_names(
    folder: Path, fashion_mnist: FashionMnist, *, dotted: bool, zipped: bool
) -> None:
    for name in FILES:
        target = name.replace("-idx", ".idx") if dotted else name
        if not zipped:
            (folder / name).rename(folder / target)
            continue
        payload = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / f"{target}.gz").write_bytes(gzip.compress(payload, 1))
    data = load(folder)
    assert equal(data, fashion_mnist)
    assert data.folder == folder


def test_a_gz_that_a_browser_has_unpacked(folder: Path, fashion_mnist: FashionMnist) -> None:
    (folder / TEST).rename(folder / f"{TEST}.gz")
    assert equal(load(folder), fashion_mnist)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_found(folder: Path, name: str) -> None:
    replace(folder / name, flipped((folder / name).read_bytes()))
    with pytest.raises(DataError, match="sha256") as caught:
        load(folder)
    line = one_line(caught.value)
    assert str(folder / name) in line
    assert "download the file again" in line
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda payload: gzip.compress(payload, 1)[:-5000], "cut short"),
        (lambda payload: flipped(gzip.compress(payload, 1)), "damaged"),
        (lambda payload: payload[:-1], "got 10007 bytes uncompressed, expected 10008"),
        (lambda payload: payload + b"\0", "got 10009 bytes"),
        (lambda _: b"<html>404 Not Found</html>", "got 26 bytes"),
        (lambda _: b"", "got 0 bytes"),
        (lambda _: gzip.compress(bytes(1_000_000)), "unfolds to more than"),
    ],
    ids=["cut gz", "flipped gz", "short", "long", "a web page", "empty", "gzip bomb"],
)
def test_a_damaged_file_is_one_clear_line(
    folder: Path, spoil: Callable[[bytes], bytes], says: str, request: pytest.FixtureRequest
) -> None:
    payload = (folder / TEST_LABELS).read_bytes()
    if request.node.callspec.id == "cut gz":
        payload = payload * 10  # long enough to cut 5,000 compressed bytes off
    replace(folder / TEST_LABELS, spoil(payload))
    with pytest.raises(DataError) as caught:
        load(folder)
    assert says in one_line(caught.value)
    assert str(folder / TEST_LABELS) in str(caught.value)


def test_files_that_changed_places(folder: Path) -> None:
    (folder / TEST).rename(folder / "other")
    (folder / TRAIN).rename(folder / TEST)
    (folder / "other").rename(folder / TRAIN)
    with pytest.raises(DataError, match="got 7840016 bytes uncompressed, expected 47040016"):
        load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / TEST_LABELS).rename(folder / "labels.gz")
    with pytest.raises(MissingError) as caught:
        load(folder)
    assert f"lacks {TEST_LABELS}[.gz];" in one_line(caught.value)


@pytest.mark.parametrize(("path", "error"), [("nowhere", MissingError), (f"the data/{TEST}", UsageError)])
def test_a_folder_that_is_none(folder: Path, path: str, error: type[ToolkitError]) -> None:
    with pytest.raises(error) as caught:
        load(folder.parent / path)
    assert path in one_line(caught.value)


# The cache


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TOOLKIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache/toolkit/fashion-mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the standard says to ignore such
    assert cache_folder() == tmp_path / ".cache/toolkit/fashion-mnist"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/toolkit/fashion-mnist"
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own/fashion-mnist"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("TOOLKIT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(UsageError, match="TOOLKIT_CACHE"):
        cache_folder()


def test_what_a_source_gives_is_kept(
    cache: Path, folder: Path, fashion_mnist: FashionMnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_sources, "PACKAGE_FOLDER", folder)
    first = load()
    assert PACKAGE in first.source
    assert sorted(p.name for p in cache.iterdir()) == sorted(FILES)
    monkeypatch.setattr(data_sources, "PACKAGE_FOLDER", folder / "gone")
    again = load()
    assert again.source == "the cache"
    assert again.folder == cache
    assert equal(again, fashion_mnist)


def test_a_flipped_bit_in_the_cache_is_said_and_healed(
    cache: Path, folder: Path, originals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_sources, "PACKAGE_FOLDER", folder)
    load()
    (cache / TEST).write_bytes(flipped((cache / TEST).read_bytes()))
    notes: list[str] = []
    data = load(note=notes.append)
    assert PACKAGE in data.source
    assert str(cache / TEST) in notes[0]
    assert "sha256" in notes[0]
    assert (cache / TEST).read_bytes() == (originals / TEST).read_bytes()
    assert load().source == "the cache"


def test_a_damaged_cache_and_no_source(cache: Path, originals: Path) -> None:
    shutil.copytree(originals, cache)
    (cache / TEST).write_bytes(b"half")
    with pytest.raises(MissingError, match="got 4 bytes uncompressed, expected 7840016"):
        load()


def test_the_cache_takes_files_put_there_by_hand(cache: Path, originals: Path) -> None:
    cache.mkdir(parents=True)
    for name in FILES:
        (cache / f"{name}.gz").write_bytes(gzip.compress((originals / name).read_bytes(), 1))
    assert load().source == "the cache"


def test_a_cache_that_cannot_be_written_costs_a_note_only(
    cache: Path, folder: Path, fashion_mnist: FashionMnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_sources, "PACKAGE_FOLDER", folder)
    cache.parent.write_text("a file where the folder should be")
    notes: list[str] = []
    data = load(note=notes.append)
    assert equal(data, fashion_mnist)
    assert data.folder is None
    assert "TOOLKIT_CACHE" in notes[-1]


def test_two_processes_may_fill_the_cache_at_once(tmp_path: Path, folder: Path, originals: Path) -> None:
    program = (
        "import sys; sys.modules['keras'] = None\n"
        "from pathlib import Path\n"
        "from toolkit import data, data_sources\n"
        "data_sources.PACKAGE_FOLDER = Path(sys.argv[1])\n"
        "print(data.load().test_images.shape)\n"
    )
    command = [sys.executable, "-c", program, str(folder)]
    environment = {**os.environ, "TOOLKIT_CACHE": str(tmp_path / "cache")}

    def start(_: int) -> str:
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(start, range(4))) == {"(10000, 28, 28)\n"}
    cache = tmp_path / "cache" / "fashion-mnist"
    assert sorted(p.name for p in cache.iterdir()) == sorted(FILES)  # and no half-written file beside
    assert all((cache / name).read_bytes() == (originals / name).read_bytes() for name in FILES)


# The command


def test_no_source_left_lists_all_that_was_tried(cache: Path) -> None:
    with pytest.raises(MissingError) as caught:
        load()
    line = one_line(caught.value)
    assert [f"({n})" in line for n in range(1, 6)] == [True] * 4 + [False]
    for part in (str(cache), "Keras' own loader: URL fetch failure", "(installed)", "(fetched)", "Next: "):
        assert part in line
    assert "://" not in line


@pytest.mark.skipif(PACKAGE_FOLDER.exists(), reason="the Debian package is installed here")
def test_no_source_left_is_exit_3(tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("raise ImportError('no keras today')")
    nothing = {
        "HOME": str(tmp_path),
        "TOOLKIT_CACHE": "",
        "XDG_CACHE_HOME": "",
        "PATH": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
    }
    done = toolkit("data", env=nothing)
    assert done.code == 3
    assert "no keras today" in done.error_line
    assert "apt-get is not on this system" in done.error_line
    assert str(tmp_path / ".cache/toolkit/fashion-mnist") in done.error_line


def test_the_command_shows_folder_and_counts(folder: Path) -> None:
    done = toolkit("data", "--folder", folder)
    assert done.code == 0, done.err
    for part in (str(folder), "55,000", "5,000", "10,000", "sha256"):
        assert part in done.out


def test_the_command_in_json(folder: Path, tmp_path: Path) -> None:
    import json

    from PIL import Image

    picture = tmp_path / "grid.png"
    done = toolkit("data", "--folder", folder, "--grid", picture, "--json")
    assert done.code == 0, done.err
    answer = json.loads(done.out)
    assert answer["folder"] == str(folder)
    assert answer["images"] == {"train": 55_000, "validation": 5_000, "test": 10_000}
    assert answer["files"][TEST] == {"bytes": FILES[TEST].size, "sha256": FILES[TEST].sha256}
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert min(image.size) > 500
    again = tmp_path / "again.png"
    assert toolkit("data", "--folder", folder, "--grid", again).code == 0
    assert again.read_bytes() == picture.read_bytes()


def test_a_picture_that_cannot_be_written_is_refused_first(tmp_path: Path) -> None:
    for name in ("grid.jpg", "grid"):
        done = toolkit("data", "--grid", tmp_path / name)
        assert done.code == 2
        assert "expected a name that ends in .png" in done.error_line
    (tmp_path / "folder.png").mkdir()
    done = toolkit("data", "--grid", tmp_path / "folder.png")
    assert done.code == 2
    assert "is a folder" in done.error_line


def test_a_damaged_folder_is_exit_2(folder: Path) -> None:
    replace(folder / TEST_LABELS, b"text")
    done = toolkit("data", "--folder", folder)
    assert done.code == 2
    assert str(folder / TEST_LABELS) in done.error_line
    assert done.out == ""
