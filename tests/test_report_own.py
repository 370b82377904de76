"""The report of artifacts of people's own models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.own import command, fails, layers, mostly, rows, settled, tabular
from tests.reports import SECTIONS, Page

if TYPE_CHECKING:
    from pathlib import Path

CLASSES = 4


def report(folder: Path, cwd: Path, *options: object) -> tuple[Page, dict[str, Any]]:
    done = command("report", folder, "--json", *options, cwd=cwd)
    assert done.code == 0, done.err
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert set(SECTIONS) <= set(page.ids)
    return page, json.loads(done.out)


def export(model: Any, place: Path, *options: object, **arrays: Any) -> Path:
    model.save(place / "m.keras")
    np.savez(place / "test.npz", **arrays)
    done = command("export", "m.keras", "--test", "test.npz", *options, cwd=place)
    assert done.code == 0, done.err
    return place / "exported" / "m"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A chain of dense layers on tables, exported with rows whose classes are known; its folder and its rows."""
    place = tmp_path_factory.mktemp("classifier")
    model = tabular(("kind", CLASSES, "softmax"))
    given = rows(300, 8)
    labels = mostly(model.predict(given, verbose=0).argmax(axis=1), CLASSES)
    options = ("--quantize", "--calibration", "test.npz", "--max-accuracy-drop", "0.05", "--min-agreement", "0.9")
    return export(model, place, *options, sensor=given, y=labels), place / "test.npz"


def test_without_rows_it_says_what_the_manifest_knows(classifier: tuple[Path, Path]) -> None:
    folder, test = classifier
    page, found = report(folder, test.parent)
    assert "verified on test.npz, 300 rows" in found["data"]["missing"]
    assert found["data"]["command"] == "toolkit report exported/m --test FILE"
    assert found["results"] == found["data"]
    assert found["network"]["sizes"] == [8, 16, CLASSES]
    assert found["network"]["parameters"] == 8 * 16 + 16 + 16 * CLASSES + CLASSES
    assert found["passed"] is True
    assert "trained elsewhere" in page.text
    # Golden rows are real ones.
    assert found["neurons"]["rows_of"] == "golden rows of golden.npz"
    assert "8 inputs" in page.text
    (again,) = (line for line in found["provenance"]["commands"] if line.startswith("toolkit export"))
    assert "--calibration=test.npz --test=test.npz" in again


def test_with_rows_it_says_everything(classifier: tuple[Path, Path]) -> None:
    folder, test = classifier
    page, found = report(folder, test.parent, "--test", test)
    stored = np.load(test)
    counts = np.bincount(stored["y"], minlength=CLASSES).tolist()
    assert found["data"]["counts"] == {"test": counts}
    assert found["data"]["grid"] == []
    assert np.sum(found["results"]["confusion"], axis=1).tolist() == counts
    parity = json.loads((folder / "manifest.json").read_text())["parity"]
    assert found["results"]["accuracy"] == parity["model.int8.onnx"][0]["accuracy"]
    assert found["flips"]["reference"] == "Keras"
    assert len(found["layers"]["layers"]) == 2
    assert found["results"]["mistakes_in_all"] > 0
    assert "The most confident mistakes" in page.text


def test_rows_that_do_not_fit(classifier: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = classifier
    np.savez(tmp_path / "bad.npz", sensor=rows(10, 9))
    assert "got shape (10, 9)" in fails(2, "report", folder, "--test", "bad.npz", "-o", "r.html", cwd=tmp_path)
    assert "does not exist" in fails(3, "report", folder, "--test", "no.npz", "-o", "r.html", cwd=tmp_path)
    assert "was not verified" in fails(2, "report", folder, "--data", ".", "-o", "r.html", cwd=tmp_path)


def test_rows_without_right_answers(classifier: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = classifier
    np.save(tmp_path / "rows.npy", rows(20, 8))
    done = command("report", folder, "--test", "rows.npy", "-o", "r.html", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert "holds no right answers" in found["results"]["missing"]
    assert (found["data"]["counts"], found["data"]["rows"]) == ({}, {"test": 20})
    assert (found["flips"]["reference"], found["flips"]["better"]) == ("model.onnx", None)


def test_pictures_of_ones_own(tmp_path: Path) -> None:
    keras, kinds = layers()
    model = settled(
        keras.Sequential(
            [
                keras.Input((12, 12, 3), name="photo"),
                kinds.Conv2D(4, 3, activation="relu"),
                kinds.Flatten(),
                kinds.Dense(CLASSES, activation="softmax", name="kind"),
            ]
        )
    )
    pixels = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 3), np.uint8)
    labels = mostly(model.predict(pixels / 255, verbose=0).argmax(axis=1), CLASSES)
    folder = export(model, tmp_path, "--input-scale", "1/255", photo=pixels, y=labels)
    page, found = report(folder, tmp_path, "--test", "test.npz")
    assert found["network"]["sizes"] is None
    assert "Neurons are shown of chains of dense layers only" in page.text
    assert found["data"]["pixels"] is None  # colours
    assert len(found["data"]["grid"]) == len(set(labels.tolist()))
    counts = np.bincount(labels, minlength=CLASSES)
    assert page.counts["img"] == np.minimum(counts, 12).sum() + found["results"]["mistakes_in_all"]
    assert "There is no quantized file" in page.text


def test_values_and_several_outputs(tmp_path: Path) -> None:
    model = tabular(("temperature", 1, None), ("pressure", 2, None))
    given = rows(50, 8)
    folder = export(model, tmp_path, "--quantize", "dynamic", "--max-relative-error", "1", sensor=given)
    page, found = report(folder, tmp_path)
    assert any(tile["label"].startswith("Relative error") for tile in found["tiles"])
    assert "model.int8.onnx: temperature" in page.text
    _, found = report(folder, tmp_path, "--test", "test.npz")
    assert "give no classes" in found["results"]["missing"]
    card = command("report", folder, "--markdown", cwd=tmp_path)
    assert card.code == 0, card.err
    text = (folder / "README.md").read_text()
    assert "license: unknown" in text
    assert "model-index" not in text


def test_random_rows_are_no_data(tmp_path: Path) -> None:
    model = tabular(("kind", CLASSES, "softmax"))
    model.save(tmp_path / "m.keras")
    done = command("export", "m.keras", cwd=tmp_path)
    assert done.code == 0, done.err
    page, found = report(tmp_path / "exported" / "m", tmp_path)
    assert "verified on random numbers" in found["data"]["missing"]
    assert "256 random rows" in page.text


def test_yes_and_no_without_names(tmp_path: Path) -> None:
    model = tabular(("alarm", 1, "sigmoid"))
    given = rows(200, 8)
    truth = mostly((model.predict(given, verbose=0)[:, 0] > 0.5).astype(int), 2)
    folder = export(model, tmp_path, sensor=given, y=truth)
    _, found = report(folder, tmp_path, "--test", "test.npz")
    said = model.predict(given, verbose=0)[:, 0]
    results = found["results"]
    assert results["class_names"] == ["no", "yes"]
    right = (said >= 0.5).astype(int) == truth
    assert results["accuracy"] == right.mean()
    expected = [[int((right & (truth == 0)).sum()), int((~right & (truth == 0)).sum())]]
    expected.append([int((~right & (truth == 1)).sum()), int((right & (truth == 1)).sum())])
    assert results["confusion"] == expected
    sure = np.maximum(said, 1 - said)
    assert results["mistakes"][0]["confidence"] == pytest.approx(sure[~right].max(), abs=1e-5)
