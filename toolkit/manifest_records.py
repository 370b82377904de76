"""What the sections of an artifact's manifest hold, each as a value; `toolkit.artifact` reads and writes the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "BundleRecord",
    "CTargetRecord",
    "ConversionRecord",
    "CpuRecord",
    "DataRecord",
    "FileRecord",
    "NativeRecord",
    "ParityRecord",
    "QuantizationRecord",
    "SeedRecord",
    "TensorContract",
    "TrainingRecord",
]


@dataclass(frozen=True)
class FileRecord:
    """One file of the artifact. The last four are for ONNX files only.

    Attributes:
        kind: "keras", "saved_model", "history", "golden", "c", "native", "float32", "int8", "int4" or "float16".
        sha256: of the file's bytes, in hex.
        bytes: its size.
        opset: version of the standard ONNX operators that it needs.
        ir_version: version of the file format.
        operators: how often each operator occurs.
        onnxruntime: the first release that loads it and answers as later ones do, see
            `toolkit.conversion.compatibility`.
    """

    kind: str
    sha256: str
    bytes: int
    opset: int | None = None
    ir_version: int | None = None
    operators: dict[str, int] | None = None
    onnxruntime: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.sha256, str) or not isinstance(self.bytes, int):
            raise TypeError("a file's sha256 is no text or its size no number")


@dataclass(frozen=True)
class TensorContract:
    """What goes in or comes out.

    Attributes:
        name: of the tensor.
        dtype: as numpy calls it.
        shape: with the batch; a name for a free dimension, "batch" for the first.
        range: of the values, where they are bounded.
        task: of an output: "classification", "binary", "multilabel" or "values"; None for an input.
        of: of an output: the source model's output that it is, where that has another name.
    """

    name: str
    dtype: str
    shape: list[str | int]
    range: list[float] | None
    task: str | None = None
    of: str | None = None


@dataclass(frozen=True)
class ConversionRecord:
    """How the float32 file came to be.

    Attributes:
        source: what it was made from, such as "Keras 2.4.0".
        route: "tf2onnx", or "Keras export" where that failed.
        refused: what the first route said where the second was taken.
        folded: scales and shifts a channel that were folded into weights (batch normalization).
        scaling: by input, how raw integers become what the Keras model takes: dtype, scale, offset.
        notes: what a person should know about the source.
    """

    source: str
    route: str
    refused: str | None = None
    folded: int = 0
    scaling: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class DataRecord:
    """What the files were calibrated and verified on.

    Attributes:
        test: the test rows, in a phrase.
        fashion_mnist: they are Fashion-MNIST's, which verification finds by itself.
        calibration: the calibration rows, in a phrase; None where none were used.
    """

    test: str
    fashion_mnist: bool
    calibration: str | None = None


@dataclass(frozen=True)
class SeedRecord:
    """One of several trainings that differ in the seed alone."""

    seed: int
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True)
class TrainingRecord:
    """How model.keras came to be: every setting, and what it reached on training and validation data.

    Attributes:
        recipe: see `toolkit.training.recipe_files`.
        seed: of the model that was taken.
        data: the images, in a phrase.
        epochs_run, seconds, train_accuracy, validation_accuracy, validation_loss, teacher_seconds,
            best_validation_accuracy, teacher_accuracy, quantization_epochs, float_validation_accuracy, precision:
            see `toolkit.training.fit.TrainingResult`; what an earlier version did not know is None, or 0.
        seeds: every training, if there were several.
    """

    recipe: dict[str, Any]
    seed: int
    data: str
    epochs_run: int
    seconds: float
    train_accuracy: float
    validation_accuracy: float
    validation_loss: float
    teacher_seconds: float | None = None
    best_validation_accuracy: float | None = None
    teacher_accuracy: float | None = None
    quantization_epochs: int = 0
    float_validation_accuracy: float | None = None
    precision: str | None = None
    seeds: list[SeedRecord] = field(default_factory=list)


@dataclass(frozen=True)
class QuantizationRecord:
    """How the quantized file came to be.

    Attributes:
        recipe: every setting.
        tensors: dtype, scale and zero point of each quantized tensor.
        kept_float: Keras layers whose weights stayed in float.
        warnings: what calibration found doubtful.
    """

    recipe: dict[str, Any]
    tensors: dict[str, dict[str, Any]]
    kept_float: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ParityRecord:
    """What verification found for one output of an exported file, over the whole test set (parity.json has all of it).

    Attributes:
        output: its name.
        task: of the output.
        rows: compared.
        max_abs, mean_abs: differences of its values to Keras'.
        agreement: share of decisions as Keras'; None for values.
        accuracy, keras_accuracy: share of right decisions; None where the right ones are not known.
        relative_error: of values (see `toolkit.verification.parity`); None for decisions.
    """

    output: str
    task: str
    rows: int
    max_abs: float
    mean_abs: float
    agreement: float | None = None
    accuracy: float | None = None
    keras_accuracy: float | None = None
    relative_error: float | None = None


@dataclass(frozen=True)
class CpuRecord:
    """What one other CPU made of one exported file, beside the machine that verified it (see parity.json for the rest).

    Attributes:
        cpu, architecture, emulator: what was emulated, by what.
        python, numpy, onnxruntime: the versions that ran there.
        images: how many were compared.
        labels_differ: how many of them get another label there; None where there are none.
        logits_differ: values in front of the softmax with other bits there.
        logits_max_abs, probabilities_max_abs: largest differences.
        accuracy: there; None where the right labels are not known.
    """

    cpu: str
    architecture: str
    emulator: str
    python: str
    numpy: str
    onnxruntime: str
    images: int
    labels_differ: int | None
    logits_differ: int
    logits_max_abs: float
    probabilities_max_abs: float
    accuracy: float | None


@dataclass(frozen=True)
class CTargetRecord:
    """What the C code gave on one target, beside the int8 file on the machine that verified it (see parity.json).

    Attributes:
        target, machine, runs_on: what it ran on, and what emulated that.
        compiler, flags: what compiled it.
        rows: how many were compared.
        logits_differ: values in front of the softmax with other bits there.
        logits_max_abs: largest difference of one.
        text, data, bss: bytes of the object file.
        instructions: of one inference.
        flash, ram: bytes of a whole image for a microcontroller.
    """

    target: str
    machine: str
    runs_on: str
    compiler: str
    flags: str
    rows: int
    logits_differ: int
    logits_max_abs: float
    text: int | None = None
    data: int | None = None
    bss: int | None = None
    instructions: int | None = None
    flash: int | None = None
    ram: int | None = None


@dataclass(frozen=True)
class NativeRecord:
    """The int8 model's library, and the CPUs that it is for.

    Attributes:
        compiler: what it says of itself.
        command: the compiler with its flags.
        machine: as ``uname -m`` says it.
        cpu_features: what its code may use, as /proc/cpuinfo calls it.
        rows: on how many its answers were compared here, bit by bit; 0: it is for another machine.
    """

    compiler: str
    command: str
    machine: str
    cpu_features: list[str]
    rows: int

    def __post_init__(self) -> None:
        if not isinstance(self.machine, str) or not isinstance(self.cpu_features, list):
            raise TypeError("the library's machine is no text, or its CPU features no list")


@dataclass(frozen=True)
class BundleRecord:
    """What makes a folder a bundle for a device, and what that device must bring.

    Attributes:
        format: of the bundle; see `toolkit.predictor.BUNDLE_FORMAT`.
        model: the one model file.
        target: "linux" (x86-64 and aarch64), "linux-x86_64" or "linux-aarch64".
        python, onnxruntime, glibc: the lowest versions.
        cpu_features: by architecture, what the pinned wheels need of a CPU, as /proc/cpuinfo calls it.
        exact: the answers in golden.npz hold bit for bit on any CPU; else within its tolerance.
    """

    format: int
    model: str
    target: str
    python: str
    onnxruntime: str
    glibc: str
    cpu_features: dict[str, list[str]]
    exact: bool

    def __post_init__(self) -> None:
        texts = (self.model, self.target, self.python, self.onnxruntime, self.glibc)
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.cpu_features, dict):
            raise TypeError("the bundle's model, target or lowest versions are no text, or its CPU features no table")
