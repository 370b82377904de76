"""Nothing that a model's file brings is run, read or fetched, unless that is asked for.

Each file here leaves a mark when its code runs; that it can is shown by opening it with ``unsafe``.
"""

from __future__ import annotations

import base64
import marshal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pytest

from tests.keras_files import (
    edit_config,
    edit_weights,
    keras2_functional,
    keras2_h5,
    keras2_input,
    keras2_layer,
    layer_named,
)
from toolkit.errors import ModelError, ToolkitError
from toolkit.keras_model import import_keras, open_model

if TYPE_CHECKING:
    from collections.abc import Callable


def _dense_model() -> Any:
    keras = import_keras()
    given = keras.Input((2,), name="x")
    return keras.Model(given, keras.layers.Dense(1, name="dense")(given))


def _lambda_model(mark: Path) -> Any:
    """Writes the file `mark` whenever its layer is called, which opening it does."""
    keras = import_keras()
    # All that the code needs is inside it, as in a file from a stranger.
    code = f"lambda x: (__import__('pathlib').Path({str(mark)!r}).touch(), x * 2)[1]"
    given = keras.Input((2,), name="x")
    return keras.Model(given, keras.layers.Lambda(eval(code), name="stranger")(given))  # noqa: S307


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_lambda_layer_is_not_run(tmp_path: Path, name: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / name
    _lambda_model(mark).save(path)
    mark.unlink()
    with pytest.raises(ModelError, match=r"layer 'stranger': a Lambda layer, .* is not run; .*--unsafe"):
        open_model(path)
    assert not mark.exists()
    open_model(path, unsafe=True)
    assert mark.exists()


def test_the_marshalled_lambda_of_a_keras_2_file_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = compile(
        f"lambda x: (__import__('pathlib').Path({str(mark)!r}).touch(), x * 2)[1]", "file", "eval"
    ).co_consts[0]
    packed = base64.b64encode(marshal.dumps(code)).decode()
    stranger = keras2_layer(
        "Lambda",
        "stranger",
        ["x"],
        function=[packed, None, None],
        function_type="lambda",
        module="__main__",
        output_shape=None,
        output_shape_type="raw",
        output_shape_module=None,
        arguments={},
    )
    config = keras2_functional([keras2_input("x", (None, 2)), stranger], ["x"], ["stranger"])
    path = keras2_h5(tmp_path / "model.h5", config, {})
    with pytest.raises(ModelError, match="layer 'stranger': a Lambda layer"):
        open_model(path)
    assert not mark.exists()
    source = open_model(path, unsafe=True)
    np.testing.assert_array_equal(source.answers({"x": np.ones((1, 2), np.float32)})["stranger"], [[2, 2]])
    assert mark.exists()


def _hidden_in(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        layer_named(config, "dense")["config"][key] = value

    return change


def _turned_into(kind: str, **entry: Any) -> Callable[[dict[str, Any]], None]:
    def change(config: dict[str, Any]) -> None:
        layer = layer_named(config, "dense")
        layer.update({"class_name": kind, **entry})

    return change


_LOADER = {"module": "keras.models", "class_name": "function", "config": "load_model", "registered_name": "function"}


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        # A function of any module (CVE-2025-1550), of Keras' own (CVE-2025-8747, CVE-2025-9906), and bytecode.
        (_hidden_in("activation", {"module": "os", "class_name": "function", "config": "system"}), "'system'"),
        (
            _hidden_in("activation", {"module": "keras.utils", "class_name": "function", "config": "get_file"}),
            "'get_file'",
        ),
        (_hidden_in("activation", {"class_name": "__lambda__", "config": {"value": "4wAA"}}), "Python function"),
        (_turned_into("Lambda", config={"name": "dense", "function": _LOADER}), "a Lambda layer"),
        (_turned_into("Lambda", module="keras.src.layers.core.lambda_layer"), "a Lambda layer"),
        (_turned_into("Popen", module="subprocess", config={"args": "true"}), "class 'Popen'"),
        (_turned_into("Dense", module="subprocess", registered_name="os>system"), ""),
        (_turned_into("TFSMLayer", config={"name": "dense", "filepath": "/elsewhere"}), "SavedModel from elsewhere"),
        (_turned_into("TorchModuleWrapper", config={"name": "dense", "module": "gASV"}), "pickled"),
        (_turned_into("JaxLayer", config={"name": "dense"}), "pickled"),
        (_turned_into("__typespec__", config=[]), "__typespec__"),
        # A file of this machine as a vocabulary (CVE-2025-12058).
        (_turned_into("StringLookup", config={"name": "dense", "vocabulary": "/etc/passwd"}), "not\nread"),
        (_turned_into("MyOwn"), r"class 'MyOwn' is not one of Keras' own; give --custom MODULE:MyOwn"),
    ],
)
def test_what_a_configuration_names_is_not_trusted(
    tmp_path: Path, name: str, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    path = tmp_path / name
    _dense_model().save(path)
    edit_config(path, change)
    if not says:  # a Keras layer under a false address is the Keras layer
        assert type(open_model(path).keras.get_layer("dense")) is import_keras().layers.Dense
        return
    with pytest.raises(ModelError, match=says.replace("\n", " ")) as caught:
        open_model(path)
    assert "\n" not in str(caught.value)


def test_a_tensorflow_function_that_writes_files_is_not_called(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    config = {"name": "tf.io", "trainable": True, "dtype": "float32", "function": "io.write_file"}
    call = ["_CONSTANT_VALUE", -1, str(mark), {"contents": "run"}]
    stranger = {"class_name": "TFOpLambda", "name": "tf.io", "config": config, "inbound_nodes": [call]}
    layers = [keras2_input("x", (None, 2)), stranger, keras2_layer("Dense", "dense", ["x"], units=1, use_bias=False)]
    weights = {"dense": {"dense/kernel": np.ones((2, 1), np.float32)}}
    path = keras2_h5(tmp_path / "model.h5", keras2_functional(layers, ["x"], ["dense"]), weights)
    with pytest.raises(ModelError, match=r"calls tf\.io\.write_file, which is not on the list"):
        open_model(path)
    assert not mark.exists()


def _external_link(file: Any) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/elsewhere.h5", "/secret")


def _soft_link(file: Any) -> None:
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.SoftLink("/layers/dense/vars/1")


def _external_values(file: Any) -> None:
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (2, 1), "f4", external=[("/etc/passwd", 0, 8)])


def _virtual_values(file: Any) -> None:
    del file["layers/dense/vars/0"]
    layout = h5py.VirtualLayout((2, 1), "f4")
    layout[:] = h5py.VirtualSource("/elsewhere.h5", "secret", (2, 1))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


@pytest.mark.parametrize("change", [_external_link, _soft_link, _external_values, _virtual_values])
def test_weights_that_lie_elsewhere_are_not_read(tmp_path: Path, change: Callable[[Any], None]) -> None:
    path = tmp_path / "model.keras"
    _dense_model().save(path)
    edit_weights(path, change)
    with pytest.raises(ModelError, match=r"link to something else|values in another file"):
        open_model(path)


def test_links_in_h5_models_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    _dense_model().save(path)
    with h5py.File(path, "r+") as file:
        del file["model_weights"]
        file["model_weights"] = h5py.ExternalLink("/elsewhere.h5", "/")
    with pytest.raises(ModelError, match="model_weights is a link"):
        open_model(path)


def test_a_saved_model_that_writes_a_file_is_not_run(tmp_path: Path) -> None:
    import tensorflow as tf

    mark = tmp_path / "mark"
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])  # type: ignore[untyped-decorator]  # tensorflow is untyped
    def forward(x: Any) -> Any:
        return {"y": tf.cond(tf.size(x) > 0, lambda: _write(x), lambda: x)}

    def _write(x: Any) -> Any:
        with tf.control_dependencies([tf.io.write_file(str(mark), "run")]):
            return tf.identity(x)

    module.forward = forward
    tf.saved_model.save(module, str(tmp_path / "stranger"), signatures=forward)
    with pytest.raises(ModelError, match=r"the operation WriteFile .*--unsafe"):
        open_model(tmp_path / "stranger")
    assert not mark.exists()
    open_model(tmp_path / "stranger", unsafe=True).answers({"x": np.ones(3, np.float32)})
    assert mark.exists()


@pytest.mark.parametrize("reach", ["read_file", "py_function", "print"])
def test_a_saved_model_that_reaches_out_is_refused(tmp_path: Path, reach: str) -> None:
    import tensorflow as tf

    def body(x: Any) -> Any:
        if reach == "read_file":
            return tf.strings.length(tf.io.read_file("/etc/passwd"))
        if reach == "print":
            with tf.control_dependencies([tf.print("run", output_stream="file:///tmp/never")]):
                return tf.identity(x)
        return tf.py_function(lambda value: value, [x], tf.float32)

    module = tf.Module()
    module.forward = tf.function(body, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    tf.saved_model.save(module, str(tmp_path / "stranger"), signatures=module.forward)
    with pytest.raises(ModelError, match="may reach files, Python or the network"):
        open_model(tmp_path / "stranger")


def _write_own_module(folder: Path) -> None:
    (folder / "my_layers.py").write_text(
        "import keras\n"
        "@keras.saving.register_keras_serializable('mine')\n"
        "class Twice(keras.layers.Layer):\n"
        "    def call(self, x):\n"
        "        return 2 * x\n"
        "def cube(x):\n"
        "    return x * x * x\n"
        "number = 3\n"
    )


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_custom_layers_and_functions_come_from_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    keras = import_keras()
    _write_own_module(tmp_path)
    monkeypatch.chdir(tmp_path)
    own: dict[str, Any] = {}
    exec((tmp_path / "my_layers.py").read_text(), {"__name__": "their_training_script"}, own)  # noqa: S102
    given = keras.Input((2,), name="x")
    x = keras.layers.Dense(2, activation=own["cube"], name="cubed")(own["Twice"](name="twice")(given))
    x = keras.layers.Lambda(own["cube"], name="lambda")(x)
    model = keras.Model(given, x)
    model.save(tmp_path / name)
    keras.saving.get_custom_objects().clear()
    x = np.ones((1, 2), np.float32)
    expected = model.predict(x, verbose=0)
    with pytest.raises(ModelError, match="--custom"):
        open_model(tmp_path / name)
    source = open_model(tmp_path / name, custom=["my_layers:Twice", "my_layers:cube"])
    np.testing.assert_allclose(next(iter(source.answers({"x": x}).values())), expected, rtol=1e-6)
    keras.saving.get_custom_objects().clear()


@pytest.mark.parametrize(
    ("custom", "code", "says"),
    [
        ("my_layers", 2, "expected module:name"),
        ("my layers:Twice", 2, "expected module:name"),
        ("my_layers:Thrice", 3, "the module my_layers has no Thrice"),
        ("my_layers:number", 2, "number is of type int, expected a class or a function"),
        ("nowhere.at_all:Twice", 3, "no such module here or in the environment"),
        ("broken:Twice", 2, "importing it fails with ZeroDivisionError: division by zero"),
        ("needy:Twice", 3, "it needs no_such_package, which is not installed"),
    ],
)
def test_custom_names_that_lead_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, custom: str, code: int, says: str
) -> None:
    _write_own_module(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "needy.py").write_text("import no_such_package\n")
    monkeypatch.chdir(tmp_path)
    _dense_model().save("model.keras")
    with pytest.raises(ToolkitError, match=says) as caught:
        open_model(Path("model.keras"), custom=[custom])
    assert caught.value.exit_code == code
    import_keras().saving.get_custom_objects().clear()
