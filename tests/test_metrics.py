"""The user's own figures of merit: by hand, for whom they are, and what is refused."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from toolkit.errors import MissingError, UsageError
from toolkit.verification.gates import Limits, judge
from toolkit.verification.metrics import BUILT_IN, Metric, MetricChange, applicable, evaluate, metrics_from, targets_of
from toolkit.verification.parity import compare_values

if TYPE_CHECKING:
    from pathlib import Path

TARGETS = np.array([[1.0], [2.0], [6.0]])
KERAS = np.array([[1.5], [2.0], [5.5]], np.float32)
FILE = np.array([[2.0], [2.0], [5.0]], np.float32)


def _change(name: str) -> MetricChange:
    (metric,) = metrics_from([name])
    return evaluate(metric, TARGETS, KERAS, FILE, {})


@pytest.mark.parametrize(
    ("name", "keras", "exported", "judged"),
    [
        ("mae", 1 / 3, 2 / 3, 1.0),
        ("mse", 1 / 6, 4 / 6, 3.0),
        ("rmse", math.sqrt(1 / 6), math.sqrt(4 / 6), 1.0),
        ("r2", 1 - 0.5 / 14, 1 - 2 / 14, 1.5 / 13.5),
    ],
)
def test_built_in_by_hand(name: str, keras: float, exported: float, judged: float) -> None:
    found = _change(name)
    assert (found.keras, found.exported, found.judged) == pytest.approx((keras, exported, judged))
    (gate,) = [g for g in judge("int8", compare_values(KERAS, FILE), [], Limits(), [found]) if "change" in g.name]
    assert (gate.name, gate.passed) == (f"change of {name}", False)
    # For the better is no fault.
    better = evaluate(metrics_from([name])[0], TARGETS, FILE, KERAS, {})
    assert better.judged < 0


def test_of_another_metric_either_way_counts() -> None:
    metric = Metric("mine:score", lambda targets, answers: float(answers.mean() - targets.mean() + 3))
    assert evaluate(metric, TARGETS, KERAS, KERAS + 1, {}).judged == pytest.approx(1 / 3, rel=0.1)
    assert evaluate(metric, TARGETS, KERAS, KERAS - 1, {}).judged == pytest.approx(1 / 3, rel=0.1)


def test_what_was_perfect_may_not_get_worse() -> None:
    (mae,) = metrics_from(["mae"])
    assert evaluate(mae, KERAS, KERAS, KERAS, {}).judged == 0
    worse = evaluate(mae, KERAS, KERAS, FILE, {})
    assert worse.change == math.inf
    assert not judge("float32", compare_values(KERAS, KERAS), [], Limits(), [worse])[-1].passed


def test_answers_that_are_no_numbers_fail_the_gate() -> None:
    (mae,) = metrics_from(["mae"])
    poisoned = FILE.copy()
    poisoned[1] = np.nan
    found = evaluate(mae, TARGETS, KERAS, poisoned, {})
    assert math.isnan(found.exported)
    assert not judge("int8", compare_values(KERAS, FILE), [], Limits(), [found])[-1].passed


def test_the_roc_curve_of_an_autoencoder_is_a_function_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As MLPerf Tiny's anomaly detection is judged: the targets are labels, the rows' errors come from the inputs."""
    (tmp_path / "anomalies.py").write_text(
        "import numpy as np\n"
        "def auc(targets, answers, inputs):\n"
        "    (given,) = inputs.values()\n"
        "    errors = ((answers - given) ** 2).mean(axis=1)\n"
        "    odd, usual = errors[targets == 1], errors[targets == 0]\n"
        "    return np.mean(odd[:, None] > usual) + np.mean(odd[:, None] == usual) / 2\n"
    )
    monkeypatch.chdir(tmp_path)
    (metric,) = metrics_from(["anomalies:auc"])
    given = np.zeros((4, 2), np.float32)
    labels = np.array([0, 1, 0, 1])
    keras = np.array([[0, 0], [1, 1], [0, 0.5], [2, 2]], np.float32)
    found = evaluate(metric, labels, keras, keras[[1, 0, 2, 3]], {"x": given})
    assert (found.keras, found.exported, found.change) == (1, 0.5, -0.5)


def test_an_autoencoders_target_is_its_input() -> None:
    x = np.ones((3, 4), np.float32)
    one: dict[str, Any] = {"x": x}
    assert list(targets_of({}, {"again": "values"}, {"again": x}, one)) == ["again"]
    assert targets_of({}, {"again": "values"}, {"again": x[:, :2]}, one) == {}
    assert targets_of({}, {"again": "values"}, {"again": x}, {"x": x.astype(np.uint8)}) == {}
    assert targets_of({}, {"again": "values"}, {"again": x}, {"x": x, "y": x}) == {}
    assert targets_of({}, {"again": "multilabel"}, {"again": x}, one) == {}
    assert targets_of({}, {"a": "values", "b": "values"}, {"a": x, "b": x}, one) == {}
    given = np.zeros(3)
    assert targets_of({"again": given}, {"again": "values"}, {"again": x}, one)["again"] is given


def test_a_metric_is_for_the_outputs_of_values_or_for_the_one_that_is_named() -> None:
    tasks = {"kind": "classification", "warmth": "values", "height": "values"}
    known = {"kind": TARGETS, "warmth": TARGETS}
    found = applicable(metrics_from(["mae", "kind=rmse"]), known, tasks)
    assert {name: [metric.name for metric in metrics] for name, metrics in found.items()} == {
        "kind": ["rmse"],
        "warmth": ["mae"],
        "height": [],
    }


@pytest.mark.parametrize(
    ("texts", "tasks", "says"),
    [
        (["accuracy"], {}, "expected mae, mse, rmse, r2 or module:function"),
        (["mae", "mae"], {}, "the same metric twice"),
        (["width=mae"], {"height": "values"}, "the model has no output 'width', only height"),
        (["mae"], {"kind": "binary"}, "--metric kind=mae"),
        (["mae"], {"height": "values"}, "needs targets of the output height, and the test set has none"),
    ],
)
def test_a_metric_that_would_do_nothing_is_refused(texts: list[str], tasks: dict[str, str], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        applicable(metrics_from(texts), {}, tasks)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_function_that_fails_or_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_figures.py").write_text(
        "def broken(targets, answers):\n    return 1 / 0\ndef endless(targets, answers):\n    return float('inf')\n"
    )
    monkeypatch.chdir(tmp_path)
    for name, says in (
        ("broken", "--metric my_figures:broken fails with ZeroDivisionError: division by zero"),
        ("endless", "--metric my_figures:endless gives inf, expected a number"),
    ):
        (metric,) = metrics_from([f"my_figures:{name}"])
        with pytest.raises(UsageError) as caught:
            evaluate(metric, TARGETS, KERAS, FILE, {})
        assert str(caught.value) == says
    for text in ("no_such_module:f", "my_figures:missing"):
        with pytest.raises(MissingError, match="--metric"):
            metrics_from([text])


def test_shapes_that_numpy_would_spread_are_refused() -> None:
    """A difference of (n,) and (n, 1) is (n, n) in numpy, and its mean is nonsense."""
    (mae,) = metrics_from(["mae"])
    assert evaluate(mae, TARGETS[:, 0], KERAS, FILE, {}).keras == pytest.approx(1 / 3)
    with pytest.raises(UsageError, match="give one target a value"):
        evaluate(mae, TARGETS, np.ones((3, 2)), np.ones((3, 2)), {})
    (r2,) = metrics_from(["r2"])
    with pytest.raises(UsageError, match="r2 is not defined"):
        evaluate(r2, np.ones((3, 1)), KERAS, FILE, {})
    assert set(BUILT_IN) == {"mae", "mse", "rmse", "r2"}
