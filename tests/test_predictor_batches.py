"""Settings, confidence, and rows in batches, in streams and of shapes that change."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import small_graphs
from tests.conftest import REFERENCE, toolkit
from tests.small_graphs import write
from tests.test_predictor_lifetime import IMAGES
from toolkit.artifact import sha256_of
from toolkit.predictor import (
    UNSURE,
    CorruptArtifactError,
    InputError,
    ModelError,
    Predictor,
    RuntimeSettings,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RANDOM = np.random.default_rng(3)
MANY = np.repeat(IMAGES, 60, axis=0)  # 1,200


def test_confidence_and_margin_are_of_the_two_most_probable_classes() -> None:
    predictor = Predictor(REFERENCE)
    batch = predictor.predict_batch(IMAGES)
    for at, answer in enumerate(batch):
        second, first = np.sort(answer.probabilities)[-2:]
        assert answer.confidence == answer.probabilities[answer.label] == first == batch.confidences[at]
        assert answer.margin == pytest.approx(first - second) == batch.margins[at]
        assert predictor.predict(IMAGES[at]).margin == pytest.approx(answer.margin, abs=1e-6)


def test_below_min_confidence_the_answer_is_unsure() -> None:
    plain = Predictor(REFERENCE).predict_batch(IMAGES)
    limit = float(np.median(plain.confidences))
    careful = Predictor(REFERENCE, min_confidence=limit)
    assert careful.min_confidence == limit
    batch = careful.predict_batch(IMAGES)
    np.testing.assert_array_equal(batch.labels, np.where(plain.confidences >= limit, plain.labels, UNSURE))
    assert 0 < (batch.labels == UNSURE).sum() < len(IMAGES)
    for image, from_batch in zip(IMAGES, batch, strict=True):
        alone = careful.predict(image)
        assert alone.label == from_batch.label == careful.classify(image)
        assert (alone.class_name == from_batch.class_name == "unsure") == (alone.label == UNSURE)
        assert alone.confidence == pytest.approx(from_batch.confidence)
        assert (alone.confidence < limit) == (alone.label == UNSURE)
        assert alone.margin > 0


def test_both_classes_of_yes_or_no_can_be_unsure(tmp_path: Path) -> None:
    path = write(
        tmp_path / "b.onnx", small_graphs.BINARY, outputs={"yes": ("binary", (0, 1))}, class_names=("no", "yes")
    )
    predictor = Predictor(path, min_confidence=0.9)
    rows = np.array([[-9] * 4, [-1] * 4, [1] * 4, [9] * 4], np.float32)
    assert predictor.predict_batch(rows).labels.tolist() == [0, UNSURE, UNSURE, 1]
    assert [predictor.classify(row) for row in rows] == [0, UNSURE, UNSURE, 1]
    assert [predictor.predict(row).class_name for row in rows] == ["no", "unsure", "unsure", "yes"]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_min_confidence_is_a_probability(value: float) -> None:
    with pytest.raises(UsageError, match="from 0 to 1"):
        Predictor(REFERENCE, min_confidence=value)


def test_min_confidence_needs_classes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="names no classes"):
        Predictor(write(tmp_path / "a.onnx", small_graphs.AUTOENCODER), min_confidence=0.5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (RuntimeSettings(threads=0), "threads is 0"),
        (RuntimeSettings(threads=1.5), "threads is 1.5"),  # type: ignore[arg-type]  # wrong on purpose
        (RuntimeSettings(batch_rows=0), "batch_rows is 0"),
        (RuntimeSettings(optimization="best"), "optimization is 'best'"),
        (RuntimeSettings(spinning=True), "spinning does nothing"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: RuntimeSettings, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Predictor(REFERENCE, settings=settings)


@pytest.mark.parametrize(
    "settings",
    [
        RuntimeSettings(threads=2, spinning=True),
        RuntimeSettings(arena=True, memory_pattern=True),
        RuntimeSettings(memory_pattern=False),
        RuntimeSettings(optimization="extended"),
        RuntimeSettings(batch_rows=1),
        RuntimeSettings(batch_rows=3),
        RuntimeSettings(batch_rows=5000),
    ],
)
def test_settings_change_no_answer(settings: RuntimeSettings) -> None:
    predictor, plain = Predictor(REFERENCE, settings=settings), Predictor(REFERENCE)
    assert predictor.settings == settings
    np.testing.assert_array_equal(predictor.predict_batch(MANY).probabilities, plain.predict_batch(MANY).probabilities)
    assert [predictor.classify(image) for image in IMAGES] == [plain.classify(image) for image in IMAGES]


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        RuntimeSettings().threads = 2  # type: ignore[misc]  # wrong on purpose


@pytest.mark.parametrize("count", [1, 15, 16, 17, 511, 512, 513, 1200])
def test_batches_of_any_size_are_the_rows_own_answers(count: int) -> None:
    predictor = Predictor(REFERENCE)
    batch = predictor.predict_batch(MANY[:count])
    single = np.stack([predictor.predict(image).probabilities for image in IMAGES])
    np.testing.assert_array_equal(batch.probabilities, np.repeat(single, 60, axis=0)[:count])


def test_a_stream_of_blocks_is_answered_in_step() -> None:
    predictor = Predictor(REFERENCE)
    taken: list[int] = []

    def blocks() -> Iterator[Any]:
        for at, size in enumerate((3, 0, 17)):
            taken.append(at)
            yield IMAGES[:size]
        taken.append(3)
        yield {"image": IMAGES[:2]}
        yield IMAGES[5]  # one row is a block of one

    answers = predictor.predict_batch(blocks())
    assert taken == []
    assert len(next(answers)) == 3
    assert taken == [0]
    assert [len(batch) for batch in answers] == [0, 17, 2, 1]
    assert taken == [0, 1, 2, 3]
    labels = [batch.labels.tolist() for batch in predictor.predict_batch(iter([IMAGES[:4], IMAGES[4:]]))]
    assert labels[0] + labels[1] == predictor.predict_batch(IMAGES).labels.tolist()


def test_a_wrong_block_of_a_stream_is_refused_when_it_comes() -> None:
    answers = Predictor(REFERENCE).predict_batch(iter([IMAGES, IMAGES.astype(np.float32), IMAGES]))
    assert len(next(answers)) == 20
    with pytest.raises(InputError, match="got dtype float32"):
        next(answers)


def test_rows_may_stay_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", MANY)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    predictor = Predictor(REFERENCE)
    np.testing.assert_array_equal(
        predictor.predict_batch(mapped).probabilities, predictor.predict_batch(MANY).probabilities
    )
    assert predictor.classify(mapped[60]) == predictor.classify(IMAGES[1])


def test_a_nan_late_in_a_batch_is_found(tmp_path: Path) -> None:
    predictor = Predictor(write(tmp_path / "a.onnx", small_graphs.AUTOENCODER))
    rows = np.zeros((2000, 4), np.float32)
    predictor.predict_batch(rows)
    rows[1999, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        predictor.predict_batch(rows)


def test_shapes_that_come_again_are_bound_and_right(tmp_path: Path) -> None:
    """More shapes than are kept, twice each and in turn; what was given before must not shine through."""
    predictor = Predictor(write(tmp_path / "free.onnx", small_graphs.FREE))
    signals = [RANDOM.normal(size=(length, 2)).astype(np.float32) for length in (*range(1, 13), *range(12, 0, -1)) * 2]
    for signal in signals:
        expected = np.exp(signal.max(axis=0)) / np.exp(signal.max(axis=0)).sum()
        first = predictor.predict(signal)
        np.testing.assert_allclose(first.outputs["probabilities"], expected, rtol=1e-5)
        kept = first.outputs["probabilities"].copy()
        predictor.predict(signal + np.float32(1) * np.arange(2, dtype=np.float32))
        np.testing.assert_array_equal(first.outputs["probabilities"], kept)
        assert predictor.classify(signal) == expected.argmax()


def test_answers_whose_size_follows_the_values(tmp_path: Path) -> None:
    """The same shape goes in and another comes out: the buffers of the first must not be used for the second."""
    text = """(float[n,length] x) => (float[n,m] found) {
        top = ReduceMax <axes = [0], keepdims = 0> (x)
        hit = Cast <to = 9> (top)
        found = Compress <axis = 1> (x, hit)
    }"""
    predictor = Predictor(write(tmp_path / "where.onnx", text))
    for row in ([0, 1, 2, 0], [0, 3, 4, 0], [5, 6, 7, 8], [9, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [1, 2, 3, 4]):
        answer = predictor.predict(np.array(row, np.float32))
        assert answer.outputs["found"].tolist() == [value for value in row if value]


def test_blocks_whose_answers_differ_in_size_are_refused(tmp_path: Path) -> None:
    text = """(float[n,4] x) => (float[n,m] y) {
        top = ReduceMax <keepdims = 0> (x)
        count = Cast <to = 7> (top)
        flat = ReduceMax <axes = [1], keepdims = 1> (x)
        one = Constant <value = int64[1] {1}> ()
        width = Reshape (count, one)
        reps = Concat <axis = 0> (one, width)
        y = Tile (flat, reps)
    }"""
    predictor = Predictor(write(tmp_path / "wide.onnx", text), settings=RuntimeSettings(batch_rows=2))
    rows = np.ones((4, 4), np.float32)
    assert predictor.predict_batch(rows).outputs["y"].shape == (4, 1)
    rows[2:] = 3
    with pytest.raises(ModelError, match="one by one"):
        predictor.predict_batch(rows)


def test_settings_that_a_benchmark_saved_are_used(tmp_path: Path) -> None:
    folder = shutil.copytree(REFERENCE, tmp_path / "artifact")
    saved = RuntimeSettings(threads=2, optimization="extended")
    record = {"format": 1, **saved._asdict(), "sha256": sha256_of(folder / "model.int8.onnx")}
    (folder / "settings.json").write_text(json.dumps(record))
    for path in (folder, folder / "model.int8.onnx"):
        assert Predictor(path).settings == saved
    for path, given in ((folder, RuntimeSettings()), (folder / "model.onnx", None)):  # given, or of another file
        assert Predictor(path, settings=given).settings == RuntimeSettings()
    for text in ("{", "[]", json.dumps(record | {"threads": 0}), json.dumps({"threads": 2}), "3"):
        (folder / "settings.json").write_text(text)
        with pytest.raises(CorruptArtifactError, match=r"settings\.json is damaged"):
            Predictor(folder)


def test_what_bench_saves_is_what_a_predictor_takes(tmp_path: Path) -> None:
    folder = shutil.copytree(REFERENCE, tmp_path / "artifact")
    done = toolkit("bench", folder, "--quick", "--scenario", "sweep", "--save-settings")
    assert done.code == 0, done.err
    found = json.loads((folder / "settings.json").read_text())
    predictor = Predictor(folder)
    assert predictor.settings._asdict() == {name: found[name] for name in RuntimeSettings._fields}
    assert found["sha256"] == predictor.file.sha256
