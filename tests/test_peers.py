"""The comparison with other runtimes: what no other environment is needed for, and what no noise can change.

The runtimes themselves are installed and measured by `make peers` alone; benchmarks/RESULTS.md has what it found.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from xml.dom import minidom

import numpy as np
import pytest

from benchmarks.peers import measure, report
from benchmarks.peers.convert import by_hand, by_native
from benchmarks.peers.engines import handwritten, plain
from benchmarks.peers.field import BY_HAND, FIELD, GENERATED, NATIVE, OURS, STEPS, Peer, Step
from benchmarks.peers.measure import Contestant, Plan, Trial
from benchmarks.peers.page import plots, results_page, summary
from benchmarks.peers.reasons import FIGURES, better, reason
from benchmarks.peers.targets import TARGETS, judged
from benchmarks.readme_blocks.shared import table
from benchmarks.shared.asking import Asked
from benchmarks.shared.environments import LOCKS, locked
from benchmarks.shared.native import native_artifact
from tests.conftest import REFERENCE, ROOT
from toolkit.errors import MissingError, ModelError, ToolkitError

if TYPE_CHECKING:
    from pathlib import Path

    from toolkit.data import FashionMnist

RESULTS = ROOT / "benchmarks" / "results"
SHORT = Plan(rounds=2, calls=20, seconds=0.05, runs=3, label_seconds=20, starts=1, start_seconds=5, timeout=60)
IMAGES = 1500


def _peer(name: str, engine: str, files: dict[str, str], environment: str = "project") -> Peer:
    return Peer(name, engine, environment, None, files, "as its experts would", counts=("one",))


@pytest.fixture
def trial(tmp_path: Path, fashion_mnist: FashionMnist) -> Trial:
    """A trial in this environment, with some images and the trained weights."""
    import onnx
    from onnx import numpy_helper

    np.save(tmp_path / "images.npy", fashion_mnist.test_images[:IMAGES])
    found = {t.name: numpy_helper.to_array(t) for t in onnx.load(REFERENCE / "model.onnx").graph.initializer}
    trained = [v for v in found.values() if v.size > 1 and v.dtype == np.float32]
    trained.sort(key=lambda v: (-v.shape[-1], v.ndim == 1))  # by layer: the kernel, then the bias
    np.savez(tmp_path / "weights.npz", *trained)
    return Trial(tmp_path, tmp_path / "images.npy", SHORT)


@pytest.fixture
def published() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / "peers.json").read_text(encoding="utf-8"))
    return found


@pytest.fixture
def mlperf() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / "mlperf.json").read_text(encoding="utf-8"))
    return found


# The kernel by hand


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here")
def test_the_kernel_gives_the_logits_of_onnxruntime_bit_for_bit(tmp_path: Path, fashion_mnist: FashionMnist) -> None:
    model, images = REFERENCE / "model.int8.onnx", fashion_mnist.test_images[:4000]
    right = by_hand.file_logits(model, images).view(np.int32)
    got = by_hand.kernel_logits(by_hand.build(model, tmp_path), images).view(np.int32)
    assert np.array_equal(got, right)
    header = (tmp_path / "layers.h").read_text()
    line = next(line for line in header.splitlines() if "float scale_3" in line)
    number = line.partition("{")[2].split(",")[0].removesuffix("f")
    next_one = np.nextafter(np.float32(float.fromhex(number)), np.float32(1))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "layers.h").write_text(header.replace(line, line.replace(number, float(next_one).hex())))
    other = by_hand.kernel_logits(by_hand.compiled(elsewhere), images).view(np.int32)
    assert (other != right).mean() > 0.1


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here")
def test_the_kernel_is_for_one_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not three dense layers in int8"):
        by_hand.build(REFERENCE / "model.onnx", tmp_path)


def test_without_gcc_the_kernel_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="needs gcc"):
        by_hand.build(REFERENCE / "model.int8.onnx", tmp_path)


# The same file as C


@pytest.mark.skipif(not shutil.which("gcc"), reason="no gcc here")
def test_the_generated_function_is_built_and_called_as_the_kernel_is(
    tmp_path: Path, fashion_mnist: FashionMnist
) -> None:
    images = fashion_mnist.test_images[:300]
    native_artifact(tmp_path / "native", images)
    libraries = by_native.function_alone(tmp_path / "native"), by_hand.build(REFERENCE / "model.int8.onnx", tmp_path)
    engines = [handwritten.Engine({"files": {"library": str(path)}}) for path in libraries]
    one, other = ([engine.classify(image) for image in images] for engine in engines)
    assert one == other == engines[0].classify_batch(images).tolist()
    for engine in engines:
        samples = engine.time_inside(images)
        assert samples.shape == (300,)
        assert 0 < samples.min() < 1e9


def _measured(name: str, *medians: int, inside: int | None = None, failed: str | None = None) -> Contestant:
    """A peer with these medians of rounds."""
    peer = next(peer for peer in FIELD if peer.name == name)
    it = Contestant(peer, 1, failed, times=[[each] * 3 for each in medians])
    it.inside_times = [] if inside is None else [[inside] * 3 for _ in medians]
    return it


def _contestants(native: int = 50, by_hand: int = 40, *, dynamic_failed: str | None = None) -> list[Contestant]:
    return [
        _measured(OURS, 120, 120, 120),
        _measured(NATIVE, native, native, native),
        _measured("LiteRT, dynamic int8", 70, 70, 70, failed=dynamic_failed),
        _measured("LiteRT, full int8", 90, 90, 90),
        _measured(GENERATED, 60, 60, 60, inside=42),
        _measured(BY_HAND, 60, 60, 60, inside=by_hand),
    ]


def test_what_the_model_in_c_is_to_reach() -> None:
    faster, runtime, alone, called = judged(_contestants())
    assert (faster["base"], faster["ratio"], faster["met"]) == ("LiteRT, dynamic int8", pytest.approx(50 / 70), True)
    assert (runtime["base"], runtime["ratio"], runtime["met"]) == (OURS, pytest.approx(50 / 120), True)
    assert (alone["ratio"], alone["met"]) == (pytest.approx(42 / 40), True)
    assert (called["ratio"], called["met"]) == (1.0, True)
    # Slower than the faster of LiteRT's forms allows, though not than the slower one.
    faster, runtime, alone, _ = judged(_contestants(native=61, by_hand=30))
    assert [entry["met"] for entry in (faster, runtime, alone)] == [False, False, False]
    # Nothing is said where the faster one may be the one that is not there.
    faster, *_ = judged(_contestants(dynamic_failed="hung"))
    assert (faster["met"], faster["ratio"]) == (None, None)
    assert len(TARGETS) == 4
    assert {target.peer for target in TARGETS} | {base for target in TARGETS for base in target.bases} <= {
        peer.name for peer in FIELD
    }


def test_the_page_says_what_was_reached(published: dict[str, Any], mlperf: dict[str, Any]) -> None:
    published["targets"] = judged(_contestants(by_hand=30, dynamic_failed="hung"))
    page = results_page(published, mlperf, "machine", table)
    names = ("| `Predictor(backend", "| the generated function")
    lines = [line for line in page.splitlines() if line.startswith(names)]
    assert "| LiteRT, dynamic int8 or LiteRT, full int8 | not measured | 0.85 |  |" in lines[0]
    assert "| 0.42 (0.42 to 0.42) | 0.5 | met |" in lines[1]
    assert "| 1.40 (1.40 to 1.40) | 1.2 | **missed** |" in lines[2]
    assert "1.40 (1.40 to 1.40) of hand-written C, int8 (at most 1.2: **missed**)" in summary(published, mlperf, table)


# A small comparison in this environment


def test_a_comparison_of_two_and_what_becomes_of_those_that_fail(
    trial: Trial, fashion_mnist: FashionMnist, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = "the packages of nowhere cannot be installed: no such package; see the lock file"
    refuse = MissingError(missing)

    def not_there(name: str, _: str) -> str:
        raise refuse if name == "nowhere" else AssertionError(name)

    monkeypatch.setattr(measure, "locked", lambda _: "")
    monkeypatch.setattr(measure, "environment", not_there)
    monkeypatch.setattr(measure, "REFERENCE", trial.scratch)
    monkeypatch.setattr(report, "required", lambda _: ["numpy"])
    shutil.copy(REFERENCE / "model.int8.onnx", trial.scratch)
    peers = [
        _peer(OURS, "this_toolkit", {"model": "model.int8.onnx"}),
        _peer("numpy", "plain", {"weights": "weights.npz"}),
        _peer("killed", "plain", {"weights": "weights.npz"}),
        _peer("not installed", "plain", {"weights": "weights.npz"}, "nowhere"),
        _peer("no file", "this_toolkit", {"model": "none.onnx"}),
        _peer("cannot be had", "", {}),
    ]
    contestants = measure.start_all(peers, trial)
    measure.take_labels(contestants, SHORT)
    killed = contestants[2].worker
    assert killed is not None
    os.kill(killed.pid, signal.SIGKILL)
    measure.take_times(contestants, SHORT)
    for it in contestants:
        it.stop()
    measure.take_starts(contestants[:2], trial)

    keras = np.array(contestants[1].singles)  # numpy computes what Keras does
    found = {row["name"]: row for row in report.rows(contestants, trial, keras, fashion_mnist.test_labels[:IMAGES])}
    assert found["killed"]["threads"]["1"] == {"failed": "the killed worker ended: by SIGKILL"}
    assert found["not installed"]["threads"]["1"] == {"failed": missing}
    assert "none.onnx does not exist" in found["no file"]["threads"]["1"]["failed"]
    assert found["cannot be had"]["threads"]["1"] == {"failed": "as its experts would"}
    ours, numpy = (found[name]["threads"]["1"] for name in (OURS, "numpy"))
    assert ours["ratio"] == {"ratio": 1.0, "low": 1.0, "high": 1.0}
    for entry in (ours, numpy):
        assert entry["images"] == entry["one_by_one"] == IMAGES
        assert entry["batches_differ"] == 0
        assert entry["calls"] == 2 * SHORT.calls
        assert 0 < entry["p50_us"] <= entry["p99_us"]
        assert entry["images_per_second"] > 0
        assert entry["starts"] == 1
        assert 5e6 < entry["peak_bytes"] <= entry["worked_bytes"]
    assert [package["package"] for package in found["numpy"]["packages"]] == ["numpy"]
    assert found["numpy"]["installed_bytes"] > 10e6
    assert found["numpy"]["file_bytes"] == (trial.scratch / "weights.npz").stat().st_size
    assert 0.99 * IMAGES < ours["labels_as_keras"] < numpy["labels_as_keras"] == IMAGES


def test_one_core_has_no_second_number_of_threads(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "start", lambda _: None)
    for cores, threads in (({3}, [1]), ({0, 1, 2}, [1, 3])):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores)
        assert [it.threads for it in measure.start_all([FIELD[0]], trial)] == threads


def test_plain_numpy_has_the_labels_of_keras(trial: Trial) -> None:
    engine = plain.Engine({"files": {"weights": str(trial.scratch / "weights.npz")}})
    with np.load(ROOT / "tests" / "golden" / "keras.npz") as golden:
        images, labels = golden["images"], golden["probabilities"].argmax(axis=1)
    assert np.array_equal(engine.classify_batch(images), labels)
    assert [engine.classify(image) for image in images] == labels.tolist()


def test_a_conversion_that_fails_is_told_each_time_and_tried_once(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STEPS, "bad", Step("by_hand", "project"))  # without what comes before it
    for _ in range(2):
        with pytest.raises(ToolkitError, match=r"by_hand ended with 1: .*test\.npy"):
            trial.convert("bad")
        monkeypatch.setattr(subprocess, "run", None)  # the second time nothing is run


# Workers


HANGS = "import json, time; print(json.dumps('ready'), flush=True); time.sleep(600)"
CRASHES = "import os, signal; print('1', flush=True); input(); os.kill(os.getpid(), signal.SIGSEGV)"
BABBLES = "print('hello', flush=True); input()"


def test_a_worker_that_hangs_is_ended_and_reported() -> None:
    with Asked("slow worker", [sys.executable, "-c", HANGS], timeout=30) as worker:
        assert worker.said == "ready"
        with pytest.raises(ToolkitError, match=r"the slow worker gave no answer in 0\.3 s and was killed"):
            worker.ask("anything", timeout=0.3)
        with pytest.raises(ToolkitError, match="the slow worker has ended"):
            worker.ask("anything", timeout=0.3)
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)


def test_a_worker_that_crashes_is_reported() -> None:
    worker = Asked("fragile worker", [sys.executable, "-c", CRASHES], timeout=30)
    with pytest.raises(ToolkitError, match="the fragile worker ended: by SIGSEGV"):
        worker.ask("anything", timeout=30)
    worker.end()


def test_a_worker_that_says_something_else_or_is_not_there() -> None:
    with pytest.raises(ToolkitError, match="said b'hello', expected JSON"):
        Asked("odd worker", [sys.executable, "-c", BABBLES], timeout=30)
    with pytest.raises(ToolkitError, match="the lost worker cannot be started"):
        Asked("lost worker", ["/nowhere/python"], timeout=30)


def test_what_failed_once_is_not_tried_again() -> None:
    it = Contestant(FIELD[0], 1)

    def fails() -> None:
        raise ToolkitError("broken")

    it.attempt(fails)
    assert it.failed == "broken"
    it.attempt(lambda: pytest.fail("tried again"))


# What is committed


def test_every_environment_of_the_field_is_locked_with_hashes() -> None:
    named = {peer.environment for peer in FIELD if peer.engine} | {step.environment for step in STEPS.values()}
    for name in named - {"project", "numpy", "onnxruntime"}:
        text = locked(name)
        entries = [line for line in text.splitlines() if "==" in line]
        assert entries
        assert text.count("--hash=sha256:") >= len(entries)
        assert "://" not in text + (LOCKS / f"{name}.in").read_text()


def test_every_peer_has_its_engine_and_its_step() -> None:
    assert len({peer.name for peer in FIELD}) == len(FIELD)
    for peer in FIELD:
        assert not peer.engine or (measure.HERE / "engines" / f"{peer.engine}.py").is_file()
        assert peer.step is None or peer.step in STEPS
        assert set(peer.shipped or ()) <= set(peer.files)
    assert all((measure.HERE / "convert" / f"{step.script}.py").is_file() for step in STEPS.values())


def test_the_page_has_a_row_for_every_peer(published: dict[str, Any], mlperf: dict[str, Any]) -> None:
    page = results_page(published, mlperf, "machine", table)
    measured = [peer["name"] for peer in published["peers"]]
    assert measured == [peer.name for peer in FIELD if peer.name in measured]
    (missing,) = re.findall(r"^Not measured yet: (.*)\.$", page, re.MULTILINE) or [""]
    assert set(filter(None, missing.split("; "))) == {peer.name for peer in FIELD} - set(measured)
    for peer in published["peers"]:
        assert f"{peer['name']}" in page
        assert "p50_us" in peer["threads"]["1"] or f"| {peer['name']} | not measured: " in page
    for plot in plots(published).values():
        assert plot.startswith("<svg ")
        minidom.parseString(plot)  # noqa: S318 - our own
        assert len(plot) < 20_000


def test_a_peer_that_failed_has_a_row_that_says_why(published: dict[str, Any], mlperf: dict[str, Any]) -> None:
    peer = next(peer for peer in published["peers"] if peer["name"] == "LiteRT, full int8")
    peer["threads"] = {count: {"failed": "it | hung"} for count in peer["threads"]}
    for key in ("file_bytes", "packages", "installed_bytes"):
        del peer[key]
    page = results_page(published, mlperf, "machine", table)
    assert page.count("| LiteRT, full int8 | not measured: it / hung |") == len(peer["threads"])
    assert "LiteRT, full int8" not in summary(published, mlperf, table)
    plots(published)


def test_noise_and_interruption_are_said(published: dict[str, Any], mlperf: dict[str, Any]) -> None:
    for peer in published["peers"]:
        for entry in peer["threads"].values():
            entry["spread"] = 0.01
    assert "noisy" not in results_page(published, mlperf, "machine", table)
    changed = copy.deepcopy(published) | {"interrupted": True}
    changed["peers"][0]["threads"]["1"]["spread"] = 0.5
    page = results_page(changed, mlperf, "machine", table)
    assert "The machine was noisy: medians of our own rounds lie 50% apart." in page
    assert "The run was interrupted" in page


def test_whoever_is_better_is_named(published: dict[str, Any], mlperf: dict[str, Any]) -> None:
    ours = published["peers"][0]
    slow = next(peer for peer in published["peers"] if peer["name"] == "Keras, `predict`")
    assert slow not in [peer for peer, _ in better(published["peers"], ours, FIGURES[0]) or []]
    slow["threads"]["1"]["ratio"] = {"ratio": 0.25, "low": 0.2, "high": 1.1}  # it may be none
    assert slow not in [peer for peer, _ in better(published["peers"], ours, FIGURES[0]) or []]
    told = summary(published, mlperf, table)
    assert "Perhaps too, as the interval holds 1: Keras, `predict` (0.25, up to 1.10)" in told
    slow["threads"]["1"]["ratio"]["high"] = 0.3
    named = {peer["name"]: ratio for peer, ratio in better(published["peers"], ours, FIGURES[0]) or []}
    assert named[slow["name"]] == pytest.approx(0.25)
    page = results_page(published, mlperf, "machine", table)
    line = next(line for line in page.splitlines() if line.startswith("- p50 of one image, one thread: "))
    assert "Keras, `predict` (0.25)" in line


def test_every_loss_has_its_reason(published: dict[str, Any]) -> None:
    ours = published["peers"][0]
    for figure in FIGURES:
        for peer, _ in better(published["peers"], ours, figure) or []:
            assert reason(figure, peer["engine"]), f"{peer['name']} is better in {figure.name}; say why in reasons.py"
