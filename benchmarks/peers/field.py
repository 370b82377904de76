"""Who is compared: each peer's files, its environment, and how its experts would set it up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["BY_HAND", "ENVIRONMENTS", "FIELD", "GENERATED", "NATIVE", "OURS", "STEPS", "Peer", "Step"]


@dataclass(frozen=True)
class Step:
    """A conversion, in a process of its own.

    Attributes:
        script: a module of `convert`.
        environment: one of `ENVIRONMENTS`.
        after: the step whose files it takes.
    """

    script: str
    environment: str
    after: str | None = None


@dataclass(frozen=True)
class Peer:
    """One way to have the same trained model answer.

    Attributes:
        name: for people.
        engine: a file of `engines`; empty: it cannot be had, and `settings` says why.
        environment: one of `ENVIRONMENTS`.
        step: one of `STEPS`, which makes its files; None: they are in the reference artifact.
        files: by the name that the engine knows them by.
        settings: how it was set up, for people.
        options: of the engine.
        counts: the numbers of threads that it can be given: "one", "all".
        shipped: the files that count as its size; None: all.
        inside: its engine can also time the function without Python around it.
    """

    name: str
    engine: str
    environment: str
    step: str | None
    files: dict[str, str]
    settings: str
    options: dict[str, Any] = field(default_factory=dict)
    counts: tuple[str, ...] = ("one", "all")
    shipped: tuple[str, ...] | None = None
    inside: bool = False


OURS, NATIVE = "this toolkit, int8", "this toolkit, native"
GENERATED, BY_HAND = "the generated C function", "hand-written C, int8"

ENVIRONMENTS = {
    "project": "this project's own (Keras, TensorFlow)",
    "numpy": "numpy alone",
    "onnxruntime": "numpy and onnxruntime as devices get them",
}
"""Those that need no lock file of their own; any other name is a file of `benchmarks/shared/locks`."""

STEPS = {
    "keras": Step("from_keras", "project"),
    "onnxruntime": Step("by_onnxruntime", "project", "keras"),
    "hand": Step("by_hand", "project", "keras"),
    "native": Step("by_native", "project", "keras"),
    "nncf": Step("by_nncf", "nncf", "keras"),
    "mnn": Step("by_mnn", "mnn", "keras"),
    "pnnx": Step("by_pnnx", "pnnx", "keras"),
}

DIVIDES = "pixels divided by 255 in numpy, as the file takes float32"

FIELD = (
    Peer(
        OURS,
        "this_toolkit",
        "onnxruntime",
        None,
        {"model": "model.int8.onnx"},
        "`Predictor.classify` and `predict_batch`; the committed artifact, default options",
    ),
    Peer(
        "this toolkit, float32",
        "this_toolkit",
        "onnxruntime",
        None,
        {"model": "model.onnx"},
        "the same with the float32 file",
    ),
    Peer(
        NATIVE,
        "this_toolkit",
        "numpy",
        "native",
        {"model": "native/model.int8.onnx", "library": "native/model.so"},
        "the same int8 file as C, by `export --native` for this very CPU; `Predictor(backend='native')`, in one thread",
        {"backend": "native"},
        counts=("one",),
        shipped=("library",),
    ),
    Peer(
        "Keras, `predict`",
        "keras_calls",
        "project",
        None,
        {"model": "model.keras"},
        "`model.predict(rows, verbose=0)`, TensorFlow as backend",
        {"way": "predict"},
    ),
    Peer(
        "Keras, `__call__`",
        "keras_calls",
        "project",
        None,
        {"model": "model.keras"},
        "`model(rows, training=False).numpy()`, eager",
        {"way": "call"},
    ),
    Peer(
        "Keras, in `tf.function`",
        "keras_calls",
        "project",
        None,
        {"model": "model.keras"},
        "the call compiled once, as its experts would for one image at a time",
        {"way": "function"},
    ),
    Peer(
        "onnxruntime, float32",
        "onnxruntime_session",
        "onnxruntime",
        "keras",
        {"model": "float.onnx"},
        f"Keras' own `export(format='onnx')`, a session with default options but the threads; {DIVIDES}",
    ),
    Peer(
        "onnxruntime, static int8",
        "onnxruntime_session",
        "onnxruntime",
        "onnxruntime",
        {"model": "static.onnx"},
        f"`quant_pre_process`, then `quantize_static` in QDQ format, all options default, 1,024 training images; "
        f"{DIVIDES}",
    ),
    Peer(
        "onnxruntime, dynamic int8",
        "onnxruntime_session",
        "onnxruntime",
        "onnxruntime",
        {"model": "dynamic.onnx"},
        f"`quant_pre_process`, then `quantize_dynamic`, all options default; {DIVIDES}",
    ),
    *(
        Peer(
            f"LiteRT, {form}",
            "litert_interpreter",
            "litert",
            "keras",
            {"model": f"{file}.1.tflite", "batch": f"{file}.256.tflite"},
            f"{how}; through a SavedModel, batch fixed, XNNPACK, views of the tensors; batches have their own file",
            shipped=("model",),
        )
        for form, file, how in (
            ("float32", "float32", "no optimization, raw pixels in"),
            ("dynamic int8", "dynamic range", "`Optimize.DEFAULT`: weights in 8 bits, raw pixels in"),
            ("full int8", "int8", "`TFLITE_BUILTINS_INT8`, uint8 in and out, 1,024 training images"),
        )
    ),
    Peer(
        "OpenVINO, float32",
        "openvino_request",
        "openvino",
        "keras",
        {"model": "float.onnx"},
        "one stream with the hint LATENCY, scaling by its PrePostProcessor, tensors in place; batches by a stream a "
        "thread with THROUGHPUT",
    ),
    Peer(
        "OpenVINO, NNCF int8",
        "openvino_request",
        "openvino",
        "nncf",
        {"model": "nncf.xml", "weights": "nncf.bin"},
        "the same; `nncf.quantize` with default options, 1,024 training images",
    ),
    Peer(
        "MNN, float32",
        "mnn_module",
        "mnn",
        "mnn",
        {"model": "float.mnn"},
        f"`mnnconvert`, module interface with fixed shapes, precision normal; {DIVIDES}",
        {"output": "Identity:0"},
    ),
    Peer(
        "MNN, int8 weights",
        "mnn_module",
        "mnn",
        "mnn",
        {"model": "int8.mnn"},
        f"the same with `--weightQuantBits 8` and memory low; {DIVIDES}",
        {"output": "Identity:0"},
    ),
    Peer(
        "ncnn, float16 weights",
        "ncnn_net",
        "ncnn",
        "pnnx",
        {"model": "one.param", "model weights": "one.bin", "batch": "many.param", "batch weights": "many.bin"},
        f"`pnnx` with default options (its wheels bring no quantizer), an extractor a run; {DIVIDES}",
        shipped=("model", "model weights"),
    ),
    Peer(
        "tract, float32",
        "tract_runnable",
        "tract",
        None,
        {"model": "model.onnx"},
        "our float32 file, made runnable for a fixed shape; it has no threads to set",
        counts=("one",),
    ),
    Peer(
        "tract, int8",
        "tract_runnable",
        "tract",
        None,
        {"model": "model.int8.onnx"},
        "our int8 file, made runnable for a fixed shape; it has no threads to set",
        counts=("one",),
    ),
    Peer(
        "plain numpy, float32",
        "plain",
        "numpy",
        "keras",
        {"weights": "weights.npz"},
        "three products of matrices, sums in place; the division by 255 is in the first weights",
    ),
    Peer(
        GENERATED,
        "handwritten",
        "numpy",
        "native",
        {"library": "native/generated.so"},
        "what `export --c` writes of our int8 file, `NAME_classify`, built and called as the hand-written kernel below",
        inside=True,
    ),
    Peer(
        BY_HAND,
        "handwritten",
        "numpy",
        "hand",
        {"library": "kernel.so"},
        "the limit: our int8 file's numbers in a kernel for this one network and this one CPU (`gcc -O3 "
        "-march=native`), called through ctypes with one fixed buffer; batches by OpenMP",
        inside=True,
    ),
    *(
        Peer(
            f"{name}, int8",
            "",
            "",
            None,
            {},
            f"not measured: {name} imports torch, whose wheels for Linux take 3 GB with what they need; it hands the "
            "work to onnxruntime's quantizers, whose own rows are above",
            counts=("one",),
        )
        for name in ("optimum", "Olive")
    ),
)
