"""Folders of the real data to spoil, and a machine where no source has it: for the tests of the data."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.spoiling import TEST, TEST_LABELS, TRAIN, TRAIN_LABELS, no_network, stand_in_for_keras
from toolkit import data_sources
from toolkit.data import FashionMnist, cache_folder
from toolkit.data_sources import FILES
from toolkit.idx import pack

if TYPE_CHECKING:
    from pathlib import Path


def first_images(data: FashionMnist, train: int, validation: int = 500) -> FashionMnist:
    """The first images of the training and validation parts, for runs of seconds."""
    return dataclasses.replace(
        data,
        train_images=data.train_images[:train],
        train_labels=data.train_labels[:train],
        validation_images=data.validation_images[:validation],
        validation_labels=data.validation_labels[:validation],
    )


@pytest.fixture(scope="session")
def originals(fashion_mnist: FashionMnist, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four real payloads, rebuilt from the arrays."""
    folder = tmp_path_factory.mktemp("originals")
    data = fashion_mnist
    (folder / TRAIN).write_bytes(pack(np.concatenate([data.validation_images, data.train_images])))
    (folder / TRAIN_LABELS).write_bytes(pack(np.concatenate([data.validation_labels, data.train_labels])))
    (folder / TEST).write_bytes(pack(data.test_images))
    (folder / TEST_LABELS).write_bytes(pack(data.test_labels))
    return folder


@pytest.fixture
def folder(originals: Path, tmp_path: Path) -> Path:
    """A folder of the four files, for a test to spoil: links, so a test replaces a file and never edits it."""
    target = tmp_path / "the data"
    target.mkdir()
    for name in FILES:
        (target / name).symlink_to(originals / name)
    return target


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no source behind it."""
    monkeypatch.setenv("TOOLKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data_sources, "PACKAGE_FOLDER", tmp_path / "no package")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    stand_in_for_keras(monkeypatch, no_network)
    return cache_folder()
