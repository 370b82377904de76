"""The predictor under MLPerf's load generator: what a query does with the predictor, and how the figures are judged.

The load generator itself stands in an environment of its own and runs in `make peers`; here a few lines stand for it.
"""

from __future__ import annotations

import json
import struct
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benchmarks.mlperf.__main__ import judged
from benchmarks.mlperf.drive import BATCH, System, figure
from benchmarks.mlperf.page import mlperf_section, mlperf_summary
from benchmarks.readme_blocks.shared import table
from tests.conftest import REFERENCE, ROOT
from toolkit.predictor import Predictor

if TYPE_CHECKING:
    from toolkit.data import FashionMnist


class Answers:
    """What a system under test hands back, read from its memory as the load generator does."""

    def __init__(self) -> None:
        self.labels: dict[int, int] = {}

    def complete(self, responses: list[tuple[int, int, int]]) -> None:
        import ctypes

        for query, address, size in responses:
            (self.labels[query],) = struct.unpack("<q", ctypes.string_at(address, size))


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    found = Answers()
    stand_in = SimpleNamespace(QuerySampleResponse=lambda *given: given, QuerySamplesComplete=found.complete)
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", stand_in)
    return found


def test_both_scenarios_give_the_predictors_labels(answers: Answers, fashion_mnist: FashionMnist) -> None:
    predictor, images = Predictor(REFERENCE / "model.int8.onnx"), fashion_mnist.test_images[:600]
    right = predictor.predict_batch(images).labels
    system = System(predictor.classify, lambda rows: predictor.predict_batch(rows).labels, images)
    order = np.random.default_rng(1).permutation(len(images)).tolist()
    for query, index in enumerate(order[:50]):
        system.issue([query], [index])
    assert [answers.labels[query] for query in range(50)] == right[order[:50]].tolist()
    assert len(system.inner) == 50
    answers.labels.clear()
    assert len(order) % BATCH  # the last batch is not a whole one
    system.issue(list(range(len(order))), order)
    assert [answers.labels[query] for query in range(len(order))] == right[order].tolist()


def _rounds(loadgen: float, inner: float, empty: float, ours: float) -> dict[str, Any]:
    single = {"loadgen": loadgen, "inner": inner, "empty": empty, "ours": ours}
    rates = {"offline": [50_000.0] * 3, "offline_empty": [60_000.0] * 3, "batches": [1e6] * 3}
    accuracy = {"images": 10_000, "accuracy": 0.8969}
    rounds = {name: [[p90 / 2, p90, p90 * 2]] * 3 for name, p90 in single.items()}
    return {"single_stream": accuracy, "offline": accuracy, "scenarios_differ": 0, "rounds": {**rounds, **rates}}


def test_two_that_agree() -> None:
    report = judged(_rounds(10_900, 9_900, 500, 10_000), 5000)
    assert report["agree"]
    assert report["p90_ratio"] == {"ratio": 1.09, "low": 1.09, "high": 1.09}
    assert report["latency"]["loadgen"] == {"p50_us": 5.45, "p90_us": 10.9, "p99_us": 21.8}
    host = {"cpu_model": "CPU", "architecture": "x86_64"}
    page = mlperf_section(report | {"host": host}, table)
    assert "10.90 us by the load generator, 10.00 by us, which agree within 10 %" in page
    assert "| **CPU** (our model, the load generator's p50) | x86_64, one thread | 183,486 | 0.00545 |" in page
    assert "265,864" in page
    assert "266,610" in page
    assert "they agree within 10 %" in mlperf_summary(report)


def test_two_that_do_not_agree_are_explained_by_their_parts() -> None:
    report = judged(_rounds(12_500, 10_500, 2_000, 10_000), 5000)
    assert not report["agree"]
    assert report["agree_without_its_own"] is True
    assert report["p90_ratio_without_its_own"]["ratio"] == pytest.approx(1.05)
    assert report["p90_ratio_same_calls"]["ratio"] == pytest.approx(1.0)
    page = mlperf_section(report | {"host": {"cpu_model": "CPU", "architecture": "x86_64"}}, table)
    assert "they do not agree within 10 %" in page
    assert "is 2.00 us; without it the ratio is 1.05" in page
    assert "differ by the load generator's own part of a call." in mlperf_summary(report)
    assert "its work between two calls" in mlperf_summary(report | {"agree_without_its_own": False})


def test_figures_are_read_from_the_load_generators_summary() -> None:
    text = "Samples per second: 3945.69\n90.00 percentile latency (ns)   : 25680\n"
    assert figure(text, "90.00 percentile latency (ns)") == 25680
    assert figure(text, "Samples per second") == 3945.69
    with pytest.raises(SystemExit, match="no 'QPS'"):
        figure(text, "QPS")


def test_the_published_run_has_the_accuracy_of_the_manifest() -> None:
    report = json.loads((ROOT / "benchmarks" / "results" / "mlperf.json").read_text(encoding="utf-8"))
    manifest = json.loads((REFERENCE / "manifest.json").read_text(encoding="utf-8"))
    (parity,) = manifest["parity"]["model.int8.onnx"]
    assert report["single_stream"]["accuracy"] == report["offline"]["accuracy"] == pytest.approx(parity["accuracy"])
    assert report["scenarios_differ"] == 0
