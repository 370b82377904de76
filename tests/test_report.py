"""`toolkit report` of the reference artifact: what it says, against figures that are computed otherwise here."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.conftest import REFERENCE, toolkit
from tests.reports import SECTIONS, Page, copied, reported, with_bench
from tests.wasm import COMPILES
from toolkit.predictor import Predictor, RuntimeSettings
from toolkit.report.make import make_report
from toolkit.report.measures import calibrate, figures_by_class
from toolkit.report.parts import Missing

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist
    from toolkit.report import Report

MANIFEST = json.loads((REFERENCE / "manifest.json").read_text())
NAMES = MANIFEST["class_names"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """A copy of the reference artifact with timings, the page about it and the JSON."""
    artifact = copied(tmp_path_factory.mktemp("report"))
    with_bench(artifact)
    text, found, _ = reported(artifact)
    return artifact, text, found


@pytest.fixture(scope="module")
def value(fashion_mnist: FashionMnist) -> Report:
    """The report as a value."""
    return make_report(REFERENCE, None, lambda: fashion_mnist, lambda *_: None)


@pytest.fixture(scope="module")
def answers(fashion_mnist: FashionMnist) -> dict[str, Any]:
    """Probabilities by kind, (10000, 10)."""
    kinds = ("int8", "float32")
    predictors = {kind: Predictor(REFERENCE, kind=kind, settings=RuntimeSettings()) for kind in kinds}
    return {kind: p.predict_batch(fashion_mnist.test_images).probabilities for kind, p in predictors.items()}


def test_it_is_one_file_that_asks_for_nothing(made: tuple[Path, str, dict[str, Any]]) -> None:
    artifact, text, found = made
    assert found["file"] == str(artifact / "report.html")
    assert len(text.encode()) == found["bytes"] <= 3_000_000
    page = Page(text)
    for element, key, target in page.references:
        inside = target.startswith(("#", "data:")) or (element == "label" and target in page.ids)
        assert inside, (element, key, target)
    assert not re.search(r"https?:|url\(|@import|<iframe|<object|<embed", text)
    assert "default-src 'none'" in text


def test_it_is_well_formed_and_can_be_read_without_seeing(made: tuple[Path, str, dict[str, Any]]) -> None:
    page = Page(made[1])
    assert len(page.ids) == len(set(page.ids))
    assert set(SECTIONS) <= set(page.ids)
    assert {target[1:] for _, _, target in page.references if target.startswith("#")} <= set(page.ids)
    assert page.untitled == []
    assert page.counts["h1"] == 1
    assert page.counts["section"] == page.counts["h2"] == len(SECTIONS)


def test_the_same_artifact_gives_the_same_bytes_and_no_trace_of_this_machine(
    made: tuple[Path, str, dict[str, Any]], tmp_path: Path
) -> None:
    artifact, text, _ = made
    again, _, _ = reported(artifact)
    assert again == text
    elsewhere = copied(tmp_path)
    with_bench(elsewhere)
    assert reported(elsewhere)[0] == text
    assert str(artifact.parent) not in text


def test_results_are_what_numpy_counts(
    made: tuple[Path, str, dict[str, Any]], answers: dict[str, Any], fashion_mnist: FashionMnist
) -> None:
    results, labels = made[2]["results"], fashion_mnist.test_labels.astype(int)
    said = answers["int8"].argmax(axis=1)
    assert (results["file"], results["rows"]) == ("model.int8.onnx", 10_000)
    assert results["accuracy"] == (said == labels).mean() == MANIFEST["parity"]["model.int8.onnx"][0]["accuracy"]
    confusion = np.zeros((10, 10), int)
    np.add.at(confusion, (labels, said), 1)
    assert results["confusion"] == confusion.tolist()
    assert results["mistakes_in_all"] == (said != labels).sum()
    for label, entry in enumerate(results["classes"]):
        right = ((said == label) & (labels == label)).sum()
        precision, recall = right / (said == label).sum(), right / (labels == label).sum()
        assert (entry["name"], entry["rows"]) == (NAMES[label], 1000)
        assert (entry["precision"], entry["recall"]) == pytest.approx((precision, recall))
        assert entry["f1"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_mistakes_are_the_surest_ones(
    made: tuple[Path, str, dict[str, Any]], answers: dict[str, Any], fashion_mnist: FashionMnist
) -> None:
    labels, sure = fashion_mnist.test_labels, answers["int8"].max(axis=1)
    wrong = answers["int8"].argmax(axis=1) != labels
    shown = made[2]["results"]["mistakes"]
    readable = Page(made[1]).text
    assert len(shown) == 24
    assert [entry["confidence"] for entry in shown] == pytest.approx(sorted(sure[wrong], reverse=True)[:24])
    for entry in shown:
        assert entry["true"] == labels[entry["row"]] != entry["found"]
        assert f"row {entry['row']:,}" in readable


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_calibration_by_hand(
    made: tuple[Path, str, dict[str, Any]], answers: dict[str, Any], fashion_mnist: FashionMnist, kind: str
) -> None:
    curve = made[2]["results"]["calibration"][["int8", "float32"].index(kind)]
    sure, right = answers[kind].max(axis=1), answers[kind].argmax(axis=1) == fashion_mnist.test_labels
    error = 0.0
    for at, entry in enumerate(curve["bins"]):
        inside = (sure > at / 15) & (sure <= (at + 1) / 15)
        assert entry["rows"] == inside.sum()
        if inside.any():
            error += inside.sum() / 10_000 * abs(sure[inside].mean(dtype=float) - right[inside].mean())
    assert curve["ece"] == pytest.approx(error)


def test_calibration_of_four_rows() -> None:
    found = calibrate("a", np.array([0.9, 0.9, 0.6, 1.0]), np.array([True, False, True, True]))
    # |0.9 - 0.5| by two rows, |0.6 - 1| by one, |1 - 1| by one.
    assert found.ece == pytest.approx((2 * 0.4 + 0.4 + 0.0) / 4)
    assert [entry.rows for entry in found.bins if entry.rows] == [1, 2, 1]


def test_figures_of_a_class_that_is_never_there_or_never_said() -> None:
    one, two, three = figures_by_class(["a", "b", "c"], [[3, 1, 0], [0, 0, 0], [2, 0, 0]])
    assert (one.precision, one.recall) == (0.6, 0.75)
    assert one.f1 == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert (two.precision, two.recall, two.f1) == (0.0, None, 0.0)
    assert (three.precision, three.recall, three.f1) == (None, 0.0, 0.0)


def test_the_network(made: tuple[Path, str, dict[str, Any]]) -> None:
    network = made[2]["network"]
    assert (network["parameters"], network["multiply_adds"]) == (266_610, 266_200)
    assert network["sizes"] == [784, 300, 100, 10]
    assert [(each["name"], each["parameters"], each["multiply_adds"]) for each in network["layers"]] == [
        ("hidden_1", 235_500, 235_200),
        ("hidden_2", 30_100, 30_000),
        ("output", 1_010, 1_000),
    ]
    assert "dense, relu" in made[1]
    for figure in ("266,610", "235,500", "266,200"):
        assert figure in Page(made[1]).text


def test_neurons_are_what_numpy_computes(value: Report, fashion_mnist: FashionMnist, answers: dict[str, Any]) -> None:
    neurons = value.neurons
    assert not isinstance(neurons, Missing)
    graph = onnx.load(REFERENCE / "model.onnx").graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kernels = [next(a for n, a in stored.items() if n.startswith(name) and a.ndim == 2) for name in neurons.names]
    biases = [next(a for n, a in stored.items() if n.startswith(name) and a.ndim == 1) for name in neurons.names]
    assert len(neurons.samples) == 12
    assert {sample.title for sample in neurons.samples} == set(NAMES)
    assert sum(sample.right is False for sample in neurons.samples) == 2
    for sample in neurons.samples:
        x = fashion_mnist.test_images[sample.row].reshape(-1).astype(np.float64) / 255
        np.testing.assert_array_equal(sample.inputs, fashion_mnist.test_images[sample.row].reshape(-1))
        for kernel, bias, found in zip(kernels[:2], biases[:2], sample.layers[:2], strict=True):
            x = np.maximum(x @ kernel + bias, 0)
            np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(sample.layers[2], answers["float32"][sample.row], rtol=0, atol=1e-6)


def test_every_neuron_of_every_sample_is_in_the_page(made: tuple[Path, str, dict[str, Any]]) -> None:
    text = made[1]
    samples = made[2]["neurons"]["samples"]
    assert text.count('type="radio" name="sample"') == len(samples) == 12
    for at in range(len(samples)):
        panel = text.split(f'id="panel-{at}"', 1)[1].split('class="panel"', 1)[0].split("</fieldset>", 1)[0]
        assert panel.count("<title>neuron ") == 400
        assert panel.count('class="track"') == 10


def test_training_is_what_the_history_says(made: tuple[Path, str, dict[str, Any]]) -> None:
    rows = list(csv.DictReader((REFERENCE / "history.csv").read_text().splitlines()))
    training = made[2]["training"]
    assert training["epochs"] == list(range(1, len(rows) + 1))
    for name in ("accuracy", "loss", "val_accuracy", "val_loss"):
        assert training[name] == [float(row[name]) for row in rows]
    losses = [float(row["val_loss"]) for row in rows]
    assert training["best_epoch"] == 1 + losses.index(min(losses))
    assert training["rise"] == pytest.approx(losses[-1] / min(losses) - 1)
    assert training["overfits_from"] == (training["best_epoch"] if training["rise"] >= 0.01 else None)


def test_data_counts(made: tuple[Path, str, dict[str, Any]], fashion_mnist: FashionMnist) -> None:
    data = made[2]["data"]
    assert data["rows"] == {"training": 55_000, "validation": 5_000, "test": 10_000}
    for name, labels in (
        ("training", fashion_mnist.train_labels),
        ("validation", fashion_mnist.validation_labels),
        ("test", fashion_mnist.test_labels),
    ):
        assert data["counts"][name] == [int((labels == label).sum()) for label in range(10)]
    assert [row["name"] for row in data["grid"]] == NAMES


def test_the_pixels_and_their_values(made: tuple[Path, str, dict[str, Any]], fashion_mnist: FashionMnist) -> None:
    drawn = made[1].split('class="pixels"', 1)[1].split("</svg>", 1)[0]
    numbers = sorted(map(int, re.findall(r"<text[^>]*>(\d+)</text>", drawn)))
    assert numbers == sorted(fashion_mnist.test_images[0].reshape(-1).tolist())


def test_flips_are_those_of_the_verification(made: tuple[Path, str, dict[str, Any]]) -> None:
    parity = json.loads((REFERENCE / "parity.json").read_text())
    (recorded,) = (file for file in parity["files"] if file["kind"] == "int8")
    expected = recorded["outputs"][0]["parity"]["flips"]
    flips = made[2]["flips"]
    assert (flips["reference"], flips["total"], flips["rows"]) == ("Keras", len(expected), 10_000)
    for shown, flip in zip(flips["shown"], expected, strict=False):
        assert (shown["row"], shown["true"]) == (flip["index"], flip["true_label"])
        assert (shown["reference"], shown["found"]) == (flip["keras_label"], flip["label"])
    assert flips["better"] == sum(flip["label"] == flip["true_label"] for flip in expected)
    assert flips["worse"] == sum(flip["keras_label"] == flip["true_label"] for flip in expected)


def test_export_and_provenance(made: tuple[Path, str, dict[str, Any]]) -> None:
    _, text, found = made
    parity = json.loads((REFERENCE / "parity.json").read_text())
    gates = [gate for file in parity["files"] for gate in file["gates"]]
    assert (found["passed"], found["verdict"]) == (True, f"All {len(gates)} gates held")
    assert len(found["cpus"]) == sum(len(rows) for rows in MANIFEST["cpus"].values())
    assert {layer["layer"] for layer in found["layers"]["layers"]} == {"hidden_1", "hidden_2", "output"}
    readable = Page(text).text
    for entry in MANIFEST["files"].values():
        assert entry["sha256"] in readable
    for name, version in MANIFEST["versions"].items():
        assert name in readable
        assert version in readable
    for key in MANIFEST["training"]["recipe"]:
        assert key.replace("_", " ") in readable
    assert "toolkit export fashion-mnist --quantize" in readable
    assert [each for each in found["missing"] if COMPILES or "clang" not in each["missing"]] == []


def test_timings(made: tuple[Path, str, dict[str, Any]]) -> None:
    artifact, text, found = made
    bench = json.loads((artifact / "bench.json").read_text())
    for shown, file in zip(found["bench"]["files"], bench["files"], strict=True):
        latency = file["scenarios"]["single-stream"]["latency"]
        assert shown["p50_us"] == latency["p50_ns"] / 1000
        assert shown["counts"] == latency["histogram"]["counts"]
        assert f"p50 {latency['p50_ns'] / 1000:,.1f}" in text
    tile = found["tiles"][-1]
    assert tile["label"] == "Latency, int8"
    assert tile["value"].startswith(f"{found['bench']['files'][0]['p50_us']:,.1f}")


def test_layers_with_a_scale_a_channel_are_named(made: tuple[Path, str, dict[str, Any]]) -> None:
    tensors = MANIFEST["quantization"]["tensors"]
    finer = [name[: -len("/kernel")] for name, entry in tensors.items() if name.endswith("/kernel")
             and isinstance(entry["scale"], list)]  # fmt: skip
    assert finer  # else this test needs another artifact
    assert f", with a scale a channel in {' and '.join(finer)}" in made[1]


def test_pictures_are_whole_svg_files(tmp_path: Path) -> None:
    artifact = copied(tmp_path)
    pictures = tmp_path / "deep" / "pictures"
    done = toolkit("report", artifact, "-o", tmp_path / "page.html", "--images", pictures, fresh=True)
    assert done.code == 0, done.err
    names = {path.name for path in (tmp_path / "deep" / "pictures").iterdir()}
    expected = {"data-grid", "pixels", "network", "training-accuracy", "training-loss", "confusion", "calibration"}
    expected |= {"training-learning-rate", "mistakes", "flips", *(f"neurons-{at:02}" for at in range(1, 13))}
    assert names == {f"{name}.svg" for name in expected}
    for path in (tmp_path / "deep" / "pictures").iterdir():
        text = path.read_text(encoding="utf-8")
        root = ET.fromstring(text)  # noqa: S314 - our own
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in text
        assert not re.search(r'(?:href|src)="(?!data:|#)', text)


def test_people_see_one_line_and_progress_on_stderr(tmp_path: Path) -> None:
    artifact = copied(tmp_path)
    done = toolkit("report", artifact, "-o", tmp_path / "page.html")
    assert done.code == 0
    assert done.out.startswith(f"Report: {tmp_path / 'page.html'} (")
    assert len(done.out.splitlines()) == 1
    assert "Reporting: running the files" in done.err
    assert "missing: The files were not timed yet. It comes with: toolkit bench" in done.err
