"""The predictor with models of every kind: several inputs and outputs, fixed batches, free lengths, all numbers."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime as ort
import pytest

from tests import small_graphs
from tests.small_graphs import write
from toolkit.predictor import CorruptArtifactError, InputError, ModelError, Predictor, TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(7)
PROBABILITIES = ("classification", (0, 1))
TWO_OUTPUTS = {"brightness": ("values", None), "kind": PROBABILITIES}
KINDS = ("red", "green", "blue")


def _floats(*shape: int) -> Any:
    return RANDOM.normal(size=shape).astype(np.float32)


def _by_runtime(path: Path, rows: dict[str, Any]) -> dict[str, Any]:
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, rows), strict=True))


def _same_every_way(predictor: Predictor, rows: dict[str, Any], expected: dict[str, Any]) -> None:
    batch = predictor.predict_batch(rows)
    count = len(next(iter(rows.values())))
    assert len(batch) == count
    assert set(batch.outputs) == set(expected) == set(predictor.output_names)
    for name, answers in expected.items():
        np.testing.assert_allclose(batch.outputs[name], answers, atol=1e-6)
        assert batch.outputs[name].dtype == answers.dtype
    for i in range(count):
        one = predictor.predict({name: array[i] for name, array in rows.items()})
        for name, answers in expected.items():
            np.testing.assert_allclose(one.outputs[name], answers[i], atol=1e-6)
            np.testing.assert_array_equal(batch[i].outputs[name], batch.outputs[name][i])
        assert one.label == batch[i].label


def test_two_inputs_and_two_outputs_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "two.onnx", small_graphs.TWO, outputs=TWO_OUTPUTS, class_names=KINDS)
    predictor = Predictor(path)
    assert predictor.inputs == (
        TensorInfo("image", np.dtype(np.float32), (4, 3)),
        TensorInfo("rows", np.dtype(np.int32), (2,)),
    )
    assert (predictor.input_name, predictor.input_dtype, predictor.input_shape) == predictor.inputs[0]
    assert [tensor.name for tensor in predictor.outputs] == ["brightness", "kind"]
    assert predictor.output_names == ["kind", "brightness"]
    assert (predictor.batch, predictor.classes, predictor.class_names) == (None, 3, KINDS)
    assert predictor.task_of == {"brightness": "values", "kind": "classification"}
    rows = {"image": _floats(5, 4, 3), "rows": RANDOM.integers(1, 9, (5, 2), np.int32)}
    expected = _by_runtime(path, rows)
    _same_every_way(predictor, rows, expected)
    batch = predictor.predict_batch(dict(reversed(rows.items())))
    np.testing.assert_array_equal(batch.labels, expected["kind"].argmax(axis=1))
    one = {name: array[2] for name, array in rows.items()}
    assert predictor.classify(one) == predictor.predict(one).label == batch.labels[2]
    assert predictor.predict(one).class_name == batch[2].class_name == KINDS[batch.labels[2]]


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    predictor = Predictor(write(tmp_path / "two.onnx", small_graphs.TWO, inputs={"rows": (1, 9)}))
    image, rows = _floats(4, 3), np.array([1, 2], np.int32)
    nan = image.copy()
    nan[1, 1] = np.nan
    cases: list[tuple[Any, str]] = [
        (image, "got one array of shape (4, 3), expected a dict of 2 arrays by input name: {'image': float32 of shape"),
        (7, "got int, expected a dict of 2 arrays"),
        ({"image": image}, "got no 'rows'; expected the inputs 'image', 'rows' and no other"),
        ({"image": image, "row": rows}, "got no 'rows' and 'row'; expected"),
        ({"image": image, "rows": rows, "more": rows}, "got 'more'; expected"),
        ({}, "got no 'image' and no 'rows'"),
        (
            {"image": image, "rows": rows.astype(np.int64)},
            "input 'rows': got dtype int64, expected int32 of shape (2,)",
        ),
        ({"image": image, "rows": rows.astype(np.int64) * 2**40}, "but int32 runs from -2147483648 to 2147483647"),
        ({"image": image[:3], "rows": rows}, "input 'image': got shape (3, 3), expected float32 of shape (4, 3)"),
        ({"image": image, "rows": rows + 8}, "input 'rows': values run from 9 to 10"),
        ({"image": nan, "rows": rows}, "input 'image': contains NaN"),
        ({"image": image.tolist(), "rows": rows}, "input 'image': got list"),
    ]
    for given, says in cases:
        for ask in (predictor.predict, predictor.classify):
            with pytest.raises(InputError) as caught:
                ask(given)
            assert says in str(caught.value)
            assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="got 3 of 'image', 2 of 'rows', expected as many rows"):
        predictor.predict_batch({"image": _floats(3, 4, 3), "rows": np.ones((2, 2), np.int32)})
    with pytest.raises(InputError, match=r"input 'rows': got shape .2,., expected int32 of shape .n, 2."):
        predictor.predict_batch({"image": image[None], "rows": rows})


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 11])
def test_a_fixed_batch_takes_any_number_of_rows(tmp_path: Path, count: int) -> None:
    path = write(
        tmp_path / "fixed.onnx", small_graphs.FIXED, outputs={"probabilities": PROBABILITIES}, class_names="abc"
    )
    predictor = Predictor(path)
    assert (predictor.batch, predictor.input_shape) == (4, (6,))
    rows = _floats(count, 6)
    full = np.concatenate([rows, np.zeros((-count % 4, 6), np.float32)]).reshape(-1, 4, 6)
    parts = [_by_runtime(path, {"x": block})["probabilities"] for block in full]
    expected = np.concatenate([np.zeros((0, 3), np.float32), *parts])[:count]
    _same_every_way(predictor, {"x": rows}, {"probabilities": expected})
    assert [predictor.classify(row) for row in rows] == expected.argmax(axis=1).tolist()


def test_a_fixed_batch_of_one(tmp_path: Path) -> None:
    path = write(tmp_path / "one.onnx", "(float[1,2] x) => (float[1,2] y) { y = Neg (x) }")
    rows = _floats(3, 2)
    _same_every_way(Predictor(path), {"x": rows}, {"y": -rows})


@pytest.mark.parametrize("length", [1, 7, 50])
def test_a_free_length(tmp_path: Path, length: int) -> None:
    path = write(tmp_path / "free.onnx", small_graphs.FREE, outputs={"probabilities": PROBABILITIES}, class_names="ab")
    predictor = Predictor(path)
    assert predictor.input_shape == (None, 2)
    rows = {"signal": _floats(4, length, 2)}
    _same_every_way(predictor, rows, _by_runtime(path, rows))
    assert predictor.classify(rows["signal"][0]) == predictor.predict_batch(rows).labels[0]
    with pytest.raises(InputError, match=r"expected float32 of shape .any, 2."):
        predictor.predict(_floats(length, 3))


def test_what_only_the_runtime_can_refuse_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    predictor = Predictor(write(tmp_path / "tokens.onnx", small_graphs.TOKENS))
    outside = np.array([0, 9, 0], np.int32)  # of a table of 5
    for ask in (predictor.predict, predictor.classify, lambda row: predictor.predict_batch(row[None])):
        with pytest.raises(InputError, match="fails on what it was given") as caught:
            ask(outside)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert predictor.classify(np.array([1, 1, 1], np.int32)) == 0  # it goes on


def test_integer_tokens_and_their_range(tmp_path: Path) -> None:
    path = write(
        tmp_path / "tokens.onnx",
        small_graphs.TOKENS,
        inputs={"tokens": (0, 4)},
        outputs={"answer": PROBABILITIES},
        class_names=("no", "yes"),
    )
    predictor, rows = Predictor(path), {"tokens": RANDOM.integers(0, 5, (6, 3), np.int32)}
    _same_every_way(predictor, rows, _by_runtime(path, rows))
    for ask in (predictor.classify, predictor.predict, lambda row: predictor.predict_batch(row[None])):
        with pytest.raises(InputError, match=r"values run from 0 to 5, expected int32 of shape .* from 0 to 4"):
            ask(np.array([0, 5, 1], np.int32))


def test_yes_or_no(tmp_path: Path) -> None:
    path = write(
        tmp_path / "b.onnx", small_graphs.BINARY, outputs={"yes": ("binary", (0, 1))}, class_names=("off", "on")
    )
    predictor = Predictor(path)
    rows = np.array([[1], [-1], [0], [-1e-7]], np.float32) * np.ones((4, 4), np.float32)
    batch = predictor.predict_batch(rows)
    shares = _by_runtime(path, {"x": rows})["yes"][:, 0]
    assert shares[2] == 0.5  # is a yes
    assert batch.labels.tolist() == [1, 0, 1, int(shares[3] >= 0.5)]
    np.testing.assert_allclose(batch.probabilities, np.stack([1 - shares, shares], axis=1))
    assert predictor.classes == 2
    for row, expected in zip(rows, batch, strict=True):
        one = predictor.predict(row)
        assert one.label == expected.label == predictor.classify(row)
        assert one.class_name == ("off", "on")[one.label]
        assert one.confidence == one.probabilities[one.label] >= 0.5
        assert one.outputs["yes"].shape == (1,)
    nameless = Predictor(write(tmp_path / "n.onnx", small_graphs.BINARY, outputs={"yes": ("binary", (0, 1))}))
    assert nameless.predict(rows[0]).label is None
    assert [nameless.classify(row) for row in rows] == batch.labels.tolist()


@pytest.mark.parametrize(
    ("text", "task"), [(small_graphs.MULTILABEL, "multilabel"), (small_graphs.AUTOENCODER, "values")]
)
def test_what_has_no_classes_gets_no_label(tmp_path: Path, text: str, task: str) -> None:
    foreign = write(tmp_path / "foreign.onnx", text)
    name = Predictor(foreign).outputs[0].name
    predictor = Predictor(write(tmp_path / "ours.onnx", text, outputs={name: (task, None)}))
    rows = _floats(3, 4)
    assert predictor.classes is None
    one, batch = predictor.predict(rows[0]), predictor.predict_batch(rows)
    assert one[:5] == (None, None, None, None, None)
    assert (batch.labels, batch.probabilities, batch.logits, batch.class_names) == (None, None, None, None)
    np.testing.assert_array_equal(one.outputs[name], _by_runtime(foreign, {"x": rows})[name][0])
    with pytest.raises(ModelError, match=f"gives '{name}' .{task}, float32 .* expected one output of classes"):
        predictor.classify(rows[0])
    assert 0 <= Predictor(foreign).classify(rows[0]) < 4  # of someone else's file nobody knows


def test_logits_under_any_name_become_probabilities(tmp_path: Path) -> None:
    path = write(
        tmp_path / "l.onnx", small_graphs.LOGITS, outputs={"kind": ("classification", None)}, class_names="abcd"
    )
    predictor, rows = Predictor(path), _floats(5, 4)
    batch = predictor.predict_batch(rows)
    np.testing.assert_array_equal(batch.logits, -rows)
    np.testing.assert_allclose(batch.probabilities, np.exp(-rows) / np.exp(-rows).sum(axis=1, keepdims=True), rtol=1e-5)
    one = predictor.predict(rows[1])
    np.testing.assert_array_equal(one.logits, -rows[1])
    np.testing.assert_allclose(one.probabilities, batch.probabilities[1], rtol=1e-6)
    far = np.array([-1000, -1001, -1000.0001, -999], np.float32)  # equal after a softmax, but not before
    assert predictor.classify(far) == predictor.predict(far).label == 1


def test_two_outputs_of_classes_are_one_too_many_to_classify(tmp_path: Path) -> None:
    text = "(float[n,4] x) => (float[n,4] a, float[n,4] b) { a = Neg (x)  b = Tanh (x) }"
    outputs = {"a": ("classification", None), "b": ("classification", None)}
    predictor = Predictor(write(tmp_path / "m.onnx", text, outputs=outputs, class_names="wxyz"))
    row = _floats(4)
    assert predictor.predict(row).label == (-row).argmax()  # the names are those of the first
    with pytest.raises(ModelError, match="expected one output of classes"):
        predictor.classify(row)


NUMBERS = [
    "float",
    "float16",
    "double",
    "bool",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
]


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("number", NUMBERS)
def test_every_kind_of_number(tmp_path: Path, number: str, free: bool) -> None:
    length = "length" if free else "3"
    path = write(tmp_path / "m.onnx", f"({number}[n,{length}] x) => ({number}[n,{length}] y) {{ y = Identity (x) }}")
    dtype = np.dtype({"float": "float32", "double": "float64"}.get(number, number))
    rows = RANDOM.integers(0, 2, (4, 3)).astype(dtype)
    predictor = Predictor(path)
    assert predictor.input_dtype == dtype
    _same_every_way(predictor, {"x": rows}, {"y": rows})
    other = np.dtype(np.int64 if dtype != np.int64 else np.int32)
    with pytest.raises(InputError, match=f"got dtype {other}, expected {dtype} of shape"):
        predictor.predict(rows[0].astype(other))


@pytest.mark.parametrize(
    "text",
    [
        "(float[n,3] x) => (float[n,3] y) { y = Identity (x) }",
        "(float[n,k] x) => (float[n,k] y) { y = Identity (x) }",
        small_graphs.FIXED,
    ],
)
def test_results_are_the_callers_own(tmp_path: Path, text: str) -> None:
    predictor = Predictor(write(tmp_path / "m.onnx", text))
    size = predictor.input_shape[0] or 3
    rows, others = _floats(4, size), _floats(4, size)
    kept = rows.copy()
    one, batch = predictor.predict(rows[0]), predictor.predict_batch(rows)
    before = {name: (one.outputs[name].copy(), batch.outputs[name].copy()) for name in one.outputs}
    predictor.predict(others[0])
    predictor.predict_batch(others)
    for name, (alone, together) in before.items():
        np.testing.assert_array_equal(one.outputs[name], alone)
        np.testing.assert_array_equal(batch.outputs[name], together)
        one.outputs[name][...] = batch.outputs[name][...] = 77
    batch[0].outputs[predictor.output_names[0]][...] = 5
    assert (batch.outputs[predictor.output_names[0]] == 77).all()
    np.testing.assert_array_equal(rows, kept)


def test_one_number_a_row(tmp_path: Path) -> None:
    predictor = Predictor(write(tmp_path / "m.onnx", "(float[n] x) => (float[n] y) { y = Neg (x) }"))
    rows = _floats(3)
    _same_every_way(predictor, {"x": rows}, {"y": -rows})
    assert predictor.predict(rows[0]).outputs["y"].shape == ()


def test_dynamic_quantization_sees_one_row_at_a_time(tmp_path: Path) -> None:
    """Here the largest value of the whole batch goes into each answer, as a dynamic scale does."""
    text = "(float[n,4] x, float[n,4] z) => (float[n,4] y) {"
    text += "top = ReduceMax <keepdims = 0> (x)  s = Mul (z, top)  y = Neg (s) }"
    rows = {"x": _floats(5, 4), "z": _floats(5, 4)}
    path = write(tmp_path / "m.onnx", text, outputs={"y": ("values", None)}, quantization="dynamic")
    expected = -rows["z"] * rows["x"].max(axis=1, keepdims=True)
    _same_every_way(Predictor(path), rows, {"y": expected})
    together = Predictor(write(tmp_path / "plain.onnx", text)).predict_batch(rows).outputs["y"]
    assert not np.allclose(together, expected)


def test_threads_and_pickle_with_two_inputs(tmp_path: Path) -> None:
    predictor = Predictor(write(tmp_path / "two.onnx", small_graphs.TWO, outputs=TWO_OUTPUTS, class_names=KINDS))
    rows = [{"image": _floats(4, 3), "rows": RANDOM.integers(1, 9, 2, np.int32)} for _ in range(20)]
    expected = [predictor.predict(row).probabilities.tolist() for row in rows]
    with ThreadPoolExecutor(8) as pool:
        futures = [
            pool.submit(lambda: [predictor.predict(row).probabilities.tolist() for row in rows]) for _ in range(32)
        ]
        assert all(future.result() == expected for future in futures)
    again = pickle.loads(pickle.dumps(predictor))  # noqa: S301 - our own bytes
    assert again.task_of == predictor.task_of
    assert [again.classify(row) for row in rows] == [predictor.classify(row) for row in rows]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("(string[n,3] x) => (string[n,3] y) { y = Identity (x) }", "takes 'x', tensor.string."),
        ("(float x) => (float y) { y = Neg (x) }", "takes 'x', tensor.float. of shape"),
        ("(float[n,3] x) => (float y) { y = ReduceMax <keepdims = 0> (x) }", "gives 'y', tensor.float. of shape"),
        ("(float[n,3] x) => (float[1,1] y) { y = ReduceMax <keepdims = 1> (x) }", "no common batch axis"),
        ("(float[4,3] x, float[3,4] z) => (float[4,4] y) { y = MatMul (x, z) }", "no common batch axis"),
        ("() => (float[n] y) { y = Constant <value_floats = [1.0]> () }", "takes no input"),
    ],
)
def test_what_has_no_rows_of_numbers_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "m.onnx", text)
    with pytest.raises(ModelError, match=says) as caught:
        Predictor(path)
    assert "\n" not in str(caught.value)


def test_a_wrong_number_of_answers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", "(float[n,3] x) => (float[m,3] y) { y = Concat <axis = 0> (x, x) }")
    with pytest.raises(ModelError, match="gives 10 rows of 'y' for 5"):
        Predictor(path).predict_batch(_floats(5, 3))


@pytest.mark.parametrize(
    ("outputs", "names"),
    [
        ({"answers": ("values", None)}, "abcd"),
        ({"answers": ("multilabel", (0, 1))}, "abcd"),
        ({"answers": ("binary", (0, 1))}, None),
        ({"answers": ("classification", (0, 1))}, "abc"),
        ({"answers": ("clustering", None)}, None),
    ],
)
def test_a_contract_that_does_not_fit_its_graph_is_refused(tmp_path: Path, outputs: Any, names: str | None) -> None:
    path = write(tmp_path / "m.onnx", small_graphs.MULTILABEL, outputs=outputs, class_names=names)
    with pytest.raises(CorruptArtifactError, match="export it again"):
        Predictor(path)
