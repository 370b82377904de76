"""The choice among candidates: by figures made up here, and by real ones through the command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests import breaking
from tests.conftest import REFERENCE, toolkit
from toolkit.artifact import sha256_of
from toolkit.benchmarking.rounds import ratio_interval
from toolkit.conversion.recipe import QuantizationRecipe
from toolkit.errors import UsageError
from toolkit.golden import load
from toolkit.keras_model import load_keras
from toolkit.tuning.candidates import first_candidates, rescue_candidates
from toolkit.tuning.choose import Budget, Measured, choose, pareto
from toolkit.tuning.tune import TuneSettings

if TYPE_CHECKING:
    from pathlib import Path

INT8 = QuantizationRecipe()
OTHER = QuantizationRecipe(calibration="entropy")


def _one(recipe: QuantizationRecipe | None, p50: float = 20_000, **changes: Any) -> Measured:
    figures: dict[str, Any] = {
        "title": recipe.title if recipe else "float32",
        "accuracy": 0.9,
        "accuracy_drop": 0.0,
        "accuracy_drop_error": 0.001,
        "agreement": 0.995,
        "bytes": 1000 if recipe is None else 260,
        "medians_ns": tuple(p50 * factor for factor in (1.0, 1.01, 0.99, 1.02, 0.98)),
        "p50_ns": p50,
        "p99_ns": 2 * p50,
        "cold_start_ms": 100.0,
        "can_saturate": False,
    }
    return Measured(recipe=recipe, **(figures | changes))


def test_the_fastest_within_the_budget_wins() -> None:
    measured = [_one(None), _one(INT8, 10_000), _one(OTHER, 8_000, accuracy_drop=0.02)]
    choice = choose(measured, Budget())
    assert choice.index == 1
    assert choice.refused == {2: "loses 2.00 points of accuracy, 0.50 allowed"}
    assert "0.50 of float32's time" in choice.reason
    assert choose(measured, Budget(max_accuracy_drop=0.02)).index == 2


def test_what_cannot_be_told_apart_is_settled_by_agreement() -> None:
    measured = [_one(None), _one(INT8, 10_000, agreement=0.99), _one(OTHER, 10_100, agreement=0.997)]
    choice = choose(measured, Budget())
    assert (choice.index, choice.tied) == (2, [1, 2])
    assert "1 more are as good" in choice.reason


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ([_one(INT8, 19_900)], "none of the others within the budget (1) is faster"),
        ([_one(INT8, 30_000), _one(OTHER, 40_000)], "none of the others within the budget (2) is faster"),
        ([_one(INT8, 10_000, agreement=0.5)], "no other form stays within the budget (the first: agrees with Keras on"),
        ([_one(INT8, 10_000, can_saturate=True)], "answers would depend on the CPU"),
        ([], "no other form could be made"),
    ],
)
def test_float32_is_kept_where_nothing_is_really_better(others: list[Measured], says: str) -> None:
    choice = choose([_one(None), *others], Budget())
    assert choice.index == 0
    assert choice.reason.startswith("keep float32")
    assert says in choice.reason


def test_plain_scales_win_only_if_that_is_allowed() -> None:
    measured = [_one(None), _one(INT8, 10_000, can_saturate=True)]
    assert choose(measured, Budget()).index == 0
    assert choose(measured, Budget(portable=False)).index == 1


@pytest.mark.parametrize("method", ["int4", "float16"])
def test_what_computes_in_the_cpus_own_precision_is_not_portable(method: str) -> None:
    measured = [_one(None), _one(QuantizationRecipe(method=method), 10_000, bytes=100)]
    choice = choose(measured, Budget(objective="size"))
    assert choice.index == 0
    assert "own precision" in choice.refused[1]
    assert choose(measured, Budget(objective="size", portable=False)).index == 1


def test_a_noisy_tie_is_not_chosen_where_it_may_be_slower_than_float32() -> None:
    noisy = _one(OTHER, 10_300, agreement=0.999, medians_ns=(8_000.0, 9_500.0, 10_300.0, 12_000.0, 15_000.0))
    measured = [_one(None, 10_000), _one(INT8, 9_000, agreement=0.99), noisy]
    assert choose(measured, Budget()).index == 1


def test_a_figure_that_is_no_number_is_refused() -> None:
    measured = [_one(None), _one(INT8, 10_000, accuracy_drop=np.nan), _one(OTHER, 10_000, agreement=np.nan)]
    assert choose(measured, Budget()).index == 0


def test_the_objective_may_be_size() -> None:
    measured = [_one(None), _one(INT8, 30_000, bytes=260), _one(OTHER, 10_000, bytes=300)]
    assert choose(measured, Budget(objective="size")).index == 1
    assert choose(measured, Budget(objective="latency")).index == 2
    assert choose([_one(None), _one(INT8, 10_000, bytes=995)], Budget(objective="size")).index == 0


def test_the_pareto_front() -> None:
    measured = [
        _one(None, 20_000, agreement=1.0),
        _one(INT8, 10_000, agreement=0.99, bytes=260),
        _one(OTHER, 10_050, agreement=0.98, bytes=260),  # as fast, as small, agrees less
        _one(OTHER, 15_000, agreement=0.97, bytes=130),
        _one(OTHER, 5_000, agreement=0.10, bytes=100),
    ]
    assert pareto(measured, [4]) == [0, 1, 3]
    assert pareto(measured, []) == [0, 1, 3, 4]


def test_a_choice_needs_float32() -> None:
    with pytest.raises(ValueError, match="float32 is not among"):
        choose([_one(INT8)], Budget())


@pytest.mark.parametrize(
    "wrong",
    [{"objective": "speed"}, {"max_accuracy_drop": -0.1}, {"min_agreement": 2.0}, {"max_accuracy_drop": np.nan}],
)
def test_budgets_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected"):
        Budget(**wrong)


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(UsageError, match="too few to choose by"):
        TuneSettings(rounds=2)


def test_the_interval_of_a_ratio_holds_what_is_true() -> None:
    generator = np.random.default_rng(0)
    held = detected = 0
    for trial in range(100):
        drift = generator.lognormal(0, 0.3, 15)  # what both of a round's times share
        times, base = (drift * generator.lognormal(0, 0.02, 15) for _ in range(2))
        low, high = ratio_interval(times.tolist(), base.tolist(), seed=trial)
        held += low <= 1 <= high
        detected += ratio_interval((1.05 * times).tolist(), base.tolist(), seed=trial)[0] > 1
    assert held >= 88
    assert detected >= 95


@pytest.mark.parametrize(("times", "base"), [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [0.0, 1.0])])
def test_no_ratio_without_rounds(times: list[float], base: list[float]) -> None:
    with pytest.raises(ValueError, match="no ratio"), np.errstate(divide="ignore"):
        ratio_interval(times, base)


def test_the_candidates_are_those_that_the_runtime_has() -> None:
    found = first_candidates(("hidden_2",), 100, 0)
    titles = ["float32" if one is None else one.title for one in found]
    assert titles[0] == "float32"
    assert len(set(titles)) == len(titles)
    for word in ("static", "dynamic", "per tensor", "per channel", "minmax", "entropy", "percentile", "portable"):
        assert any(word in title for title in titles)
    for word in ("7 bits", "plain", "int4", "float16"):
        assert any(word in title for title in titles)
    assert all(one is None or one.keep_float == ("hidden_2",) for one in found)
    rescued = rescue_candidates(("a", "b", "c"), ("b",), 100, 0)
    assert [one.keep_float for one in rescued if one] == [("b", "a"), ("b", "c")]
    assert rescue_candidates(("a", "b"), ("b",), 100, 0) == []


def _poisoned(path: Path, layers: tuple[int, ...]) -> Path:
    """The reference model, the same function, but in some layers one neuron is a thousand times the others.

    Relu is homogeneous: what goes into a neuron times 1,000 and what comes out of it divided by 1,000 cancel.
    """
    model = load_keras(REFERENCE / "model.keras")
    weights = model.get_weights()
    for layer in layers:
        weights[2 * layer][:, 7] *= 1000
        weights[2 * layer + 1][7] *= 1000
        weights[2 * layer + 2][7] /= 1000
    model.set_weights(weights)
    model.save(path)
    return path


def _tuned(*arguments: object) -> dict[str, Any]:
    finished = toolkit("tune", *arguments, "--rounds", 5, "--json")
    assert finished.code == 0, finished.err
    report: dict[str, Any] = json.loads(finished.out)
    return report


def test_int8_is_chosen_for_the_reference_and_applied(trained: Path, tmp_path: Path) -> None:
    artifact = breaking.copy_of(trained, tmp_path)
    # By size: how busy this machine is must not decide. A quarter of the usual images calibrates 9 forms as well.
    report = _tuned(artifact, "--objective", "size", "--apply", "--calibration-images", 500)
    chosen = report["measured"][report["choice"]["index"]]
    assert chosen["chosen"] is True
    assert chosen["title"].startswith("int8")
    assert "portable" in chosen["title"] or "7 bits" in chosen["title"]
    assert chosen["can_saturate"] is False
    assert sum(one["chosen"] for one in report["measured"]) == 1
    assert len(report["measured"]) == 15
    assert report["failed"] == []
    for one in report["measured"]:
        assert one["p99_ns"] >= one["p50_ns"] > 0
        assert one["bytes"] > 0
        assert one["cold_start_ms"] > 0
        assert len(one["medians_ns"]) == 5
    base, *others = report["measured"]
    assert base["bytes"] == (artifact / "model.onnx").stat().st_size
    assert chosen["bytes"] == (artifact / "model.int8.onnx").stat().st_size
    assert (base["agreement"], base["accuracy_drop"], base["accuracy_drop_error"]) == (1, 0, 0)
    for one in others:
        # Each image on which a form differs from Keras counts at most once in the variance.
        differing = 5000 * (1 - one["agreement"])
        assert 5000 * one["accuracy_drop_error"] <= differing**0.5 + 1e-9
        assert (one["accuracy_drop_error"] > 0) == ("float16" not in one["title"])
        assert one["accuracy"] == pytest.approx(base["accuracy"] - one["accuracy_drop"])
    plain = [one for one in report["measured"] if "plain" in one["title"]]
    assert [one["can_saturate"] for one in plain] == [True, True]
    assert json.loads((artifact / "tune.json").read_text()) == report
    manifest = json.loads((artifact / "manifest.json").read_text())
    assert manifest["quantization"]["recipe"] == chosen["recipe"]
    golden = artifact / "golden.npz"
    assert manifest["files"][golden.name]["sha256"] == sha256_of(golden)
    assert list(load(golden.read_bytes(), golden.name).files) == ["model.onnx", "model.int8.onnx"]
    assert toolkit("verify", artifact).code == 0


@pytest.mark.slow
def test_what_was_exported_is_exported_again_and_warnings_are_told(tmp_path: Path) -> None:
    """The winner takes the place of a file that gives logits, and so does it; three images are too few."""
    target = tmp_path / "logits"
    exported = toolkit("export", REFERENCE, "--quantize", "--output", "logits", "--input", "float32", "-o", target)
    assert exported.code == 0, exported.err
    finished = toolkit("tune", target, "--rounds", 5, "--calibration-images", 3, "--apply")
    assert finished.code == 0, finished.err
    # Once for all forms, and by the export if int8 won: on a busy machine time may not tell it from float32.
    warned = 2 if (target / "model.int8.onnx").exists() else 1
    assert finished.err.count("warning: calibration sees 3 images") == warned
    report = json.loads((target / "tune.json").read_text())
    assert len(report["warnings"]) == 1
    manifest = json.loads((target / "manifest.json").read_text())
    assert [entry["name"] for entry in manifest["outputs"]] == ["logits"]
    assert [entry["dtype"] for entry in manifest["inputs"]] == ["float32"]


@pytest.mark.slow
def test_float32_is_kept_for_a_model_that_8_bits_ruin(tmp_path: Path) -> None:
    source = _poisoned(tmp_path / "poisoned.keras", (0, 1))
    options = ("--rounds", 5, "--calibration-images", 500, "--apply")
    finished = toolkit("tune", source, *options, cwd=tmp_path, fresh=True)
    assert finished.code == 0, finished.err
    assert "Chosen: keep float32" in finished.out
    assert "trying each layer in float" in finished.err
    report = json.loads((tmp_path / "poisoned.tune.json").read_text())
    assert report["measured"][report["choice"]["index"]]["recipe"] is None
    assert len(report["measured"]) == 18
    published = tmp_path / "exported" / "poisoned"
    assert sorted(path.name for path in published.glob("*.onnx")) == ["model.onnx"]


@pytest.mark.slow
def test_one_poisonous_layer_is_left_in_float(tmp_path: Path) -> None:
    source = _poisoned(tmp_path / "poisoned.keras", (0,))
    report = _tuned(source, "--objective", "size", "--min-agreement", 0.993)
    chosen = report["measured"][report["choice"]["index"]]
    assert chosen["recipe"]["keep_float"] == ["hidden_2"]
    assert "--keep-float=hidden_2" in chosen["options"]
    assert chosen["agreement"] >= 0.993


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--objective", "beauty"], 2, "expected one of latency, size"),
        (["--max-accuracy-drop", "2"], 2, "expected a share from 0 to 1"),
        (["--keep-float", "hidden_9"], 2, "the model has hidden_1, hidden_2, output"),
        (["--exclude", "hidden_9"], 2, "no layer 'hidden_9' to keep in float"),
        (["--rounds", "1"], 2, "too few to choose by"),
        (["-o", "report.txt"], 2, "expected a name such as tune.json"),
        (["nowhere.keras"], 3, "nowhere.keras does not exist"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path: Path, arguments: list[str], code: int, says: str) -> None:
    named = [] if arguments[0].endswith(".keras") else [REFERENCE / "model.keras"]
    finished = toolkit("tune", *named, *arguments, cwd=tmp_path)
    assert finished.code == code
    assert says in finished.error_line
    assert list(tmp_path.iterdir()) == []
