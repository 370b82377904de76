"""What Keras' loader and the Debian package give is proved and kept; what they cannot give is said."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.spoiling import (
    TEST,
    TRAIN_LABELS,
    equal,
    flipped,
    no_network,
    replace,
    stand_in_for_keras,
)
from toolkit import data_sources
from toolkit.data import FashionMnist, load
from toolkit.data_sources import PACKAGE, SourceError
from toolkit.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ["tests.data_fixtures"]

# Keras' loader


def _as_keras_gives_it(data: FashionMnist) -> Any:
    images = np.concatenate([data.validation_images, data.train_images])
    labels = np.concatenate([data.validation_labels, data.train_labels])
    return (images, labels), (data.test_images, data.test_labels)


def test_keras_loader_is_asked_first_quietly_and_for_a_bounded_time(
    cache: Path,
    fashion_mnist: FashionMnist,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    seen: list[float | None] = []

    def load_data() -> Any:
        seen.append(socket.getdefaulttimeout())
        os.write(1, b"Downloading 1/29515")
        os.write(2, b"cpu_feature_guard.cc")
        return _as_keras_gives_it(fashion_mnist)

    stand_in_for_keras(monkeypatch, load_data)
    earlier = socket.getdefaulttimeout()
    socket.setdefaulttimeout(77)
    data = load()
    restored = socket.getdefaulttimeout()
    socket.setdefaulttimeout(earlier)
    assert data.source == "Keras' own loader"
    assert equal(data, fashion_mnist)
    assert seen == [data_sources.KERAS_SECONDS]
    assert restored == 77
    assert capfd.readouterr() == ("", "")
    assert (cache / TEST).is_file()


def test_other_data_from_keras_is_not_believed(
    cache: Path, fashion_mnist: FashionMnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    (images, labels), test = _as_keras_gives_it(fashion_mnist)
    stand_in_for_keras(monkeypatch, lambda: ((images, (labels + 1).astype(np.uint8)), test))
    with pytest.raises(MissingError, match=f"its {TRAIN_LABELS} is another: its sha256 begins"):
        load()
    assert not cache.exists()


def test_a_failed_download_by_keras_is_one_phrase_without_its_address() -> None:
    assert data_sources._brief(Exception("failure on https://a.example/b.gz: None\nmore")) == (
        "failure on its server: None"
    )


# apt-get; a stand-in plays it, as the real one takes a network


@pytest.fixture
def apt(cache: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Puts an apt-get of the given shell text on PATH, and a dpkg-deb that unpacks to the real files."""
    monkeypatch.undo()
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("TOOLKIT_CACHE", str(cache.parent))
    monkeypatch.setattr(data_sources, "PACKAGE_FOLDER", Path("/usr/share/datasets/not-installed"))
    stand_in_for_keras(monkeypatch, no_network)
    log = tmp_path / "log"

    def script(name: str, text: str) -> None:
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{log}"\n{text}\n')
        (programs / name).chmod(0o755)

    def make(text: str) -> Path:
        script("apt-get", text)
        unpacked = '"$3"/usr/share/datasets'
        script("dpkg-deb", f'mkdir -p {unpacked} && cp -rL "{folder}" {unpacked}/not-installed')
        return log

    return make


def _calls(log: Path) -> list[str]:
    return [line.split()[-1] if "apt-get" in line else "unpack" for line in log.read_text().splitlines()]


def test_the_package_is_fetched(apt: Callable[[str], Path], cache: Path, fashion_mnist: FashionMnist) -> None:
    log = apt(f"touch {PACKAGE}_1_all.deb")
    notes: list[str] = []
    data = load(note=notes.append)
    assert equal(data, fashion_mnist)
    assert _calls(log) == [PACKAGE, "unpack"]
    assert f"fetching 31 MB from the Debian package {PACKAGE}" in notes
    assert (cache / TEST).is_file()


def test_without_package_lists_they_are_fetched_privately(apt: Callable[[str], Path]) -> None:
    # Knows the package only after an update, which itself complains about one repository of several.
    log = apt(
        'case "$*" in *update*) touch updated; echo "E: The repository x is unreachable" >&2; exit 100;; esac\n'
        f'[ -e updated ] && touch {PACKAGE}_1_all.deb && exit 0\n'
        f'echo "E: Unable to locate package {PACKAGE}" >&2; exit 100'
    )  # fmt: skip
    assert "fetched" in load().source
    assert _calls(log) == [PACKAGE, "update", PACKAGE, "unpack"]
    private = log.read_text().splitlines()[1].split()[2]
    assert private.endswith("private.conf")
    assert not Path(private).parent.exists()  # nothing is left behind


def test_a_fetch_that_fails_says_both_reasons(apt: Callable[[str], Path]) -> None:
    apt('case "$*" in *update*) echo "W: no route" >&2;; *) echo "E: no such package" >&2; exit 100;; esac')
    with pytest.raises(MissingError, match="no such package; before that, apt-get update: no route"):
        load()


def test_a_fetch_that_hangs_ends(apt: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_sources, "FETCH_SECONDS", 0.3)
    apt("exec sleep 60")
    with pytest.raises(MissingError, match="not done within"):
        load()


def test_a_damaged_package_is_refused(apt: Callable[[str], Path], folder: Path, cache: Path) -> None:
    replace(folder / TEST, flipped((folder / TEST).read_bytes()))
    apt(f"touch {PACKAGE}_1_all.deb")
    with pytest.raises(MissingError, match="sha256"):
        load()
    assert not cache.exists()


def test_no_apt_get(cache: Path) -> None:
    assert not cache.exists()
    with pytest.raises(SourceError, match="apt-get is not on this system"):
        data_sources.fetch_package(lambda _: None)
