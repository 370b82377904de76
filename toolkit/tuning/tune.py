"""The measurement: every candidate made, judged on the validation images, timed in turn, and one chosen."""

from __future__ import annotations

import dataclasses
import math
import statistics
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.artifact import ONNX, QUANTIZED, versions
from toolkit.benchmarking.footprint import Start, start_fresh, summarize_starts
from toolkit.benchmarking.host import Host, describe_host
from toolkit.benchmarking.latency import time_calls
from toolkit.benchmarking.rounds import Measurement, run_rounds
from toolkit.errors import ModelError, ToolkitError, UsageError
from toolkit.pipeline import ExportOptions, OwnData, RawInput, export_onnx, gather, quantize_on, stage_source
from toolkit.pipeline.material import is_fashion, keras_rows
from toolkit.predictor import Predictor
from toolkit.progress import silent_note
from toolkit.tuning.candidates import first_candidates, rescue_candidates
from toolkit.tuning.choose import Budget, Choice, Measured, choose, pareto
from toolkit.verification.parity import compare_decisions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from toolkit.conversion.keras_to_onnx import Exported
    from toolkit.conversion.recipe import QuantizationRecipe
    from toolkit.data import FashionMnist
    from toolkit.keras_model import SourceModel
    from toolkit.pipeline import Material
    from toolkit.progress import Note, Step

__all__ = ["Failed", "TuneReport", "TuneSettings", "tune"]

FORMAT = 1


@dataclass(frozen=True)
class TuneSettings:
    """What to try and how long to measure.

    Attributes:
        budget: what the winner may cost.
        keep_float: Keras layers that stay in float in every candidate.
        calibration_images: what static calibration sees.
        rounds: interleaved rounds; in each, every candidate is opened anew and timed.
        calls: single images a round and candidate.
        starts: fresh processes a candidate, for its cold start.
        seed: of the calibration images.
        data: rows of one's own: for calibration, and for validation (as ``test``); else Fashion-MNIST.
        raw: what the files take, see `toolkit.pipeline.RawInput`.
        custom: see `toolkit.keras_model.open_model`.
        unsafe: see there.
    """

    budget: Budget = field(default_factory=Budget)
    keep_float: tuple[str, ...] = ()
    calibration_images: int = 2000
    rounds: int = 15
    calls: int = 300
    starts: int = 3
    seed: int = 0
    data: OwnData = field(default_factory=OwnData, repr=False)
    raw: RawInput = field(default_factory=RawInput)
    custom: tuple[str, ...] = ()
    unsafe: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 5 or self.calls < 100 or self.starts < 1:
            raise UsageError(
                f"{self.rounds} rounds of {self.calls} calls and {self.starts} starts are too few to choose by; "
                "expected 5 rounds, 100 calls and 1 start or more"
            )


@dataclass(frozen=True)
class Failed:
    """A candidate that could not be made or run."""

    title: str
    reason: str


@dataclass(frozen=True)
class TuneReport:
    """Everything that was tried; ``tune.json`` is this."""

    model: str
    keras_sha256: str
    keras_accuracy: float
    data: str
    settings: TuneSettings
    host: Host
    versions: dict[str, str]
    created: str
    measured: list[Measured]
    failed: list[Failed]
    choice: Choice
    pareto: list[int]
    warnings: list[str]

    @property
    def chosen(self) -> Measured:
        """The winner."""
        return self.measured[self.choice.index]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON values, with the options of `toolkit export` that ask for each form."""
        value = {"format": FORMAT, **dataclasses.asdict(self)}
        del value["settings"]["data"]  # what it was is in "data"
        value["choice"]["refused"] = {str(i): why for i, why in self.choice.refused.items()}
        for i, (one, entry) in enumerate(zip(self.measured, value["measured"], strict=True)):
            entry["options"] = one.recipe.options() if one.recipe else []
            entry["chosen"] = i == self.choice.index
            entry["pareto"] = i in self.pareto
        return value


@dataclass(frozen=True)
class _Made:
    """A candidate's file and how it answers the validation images."""

    recipe: QuantizationRecipe | None
    path: Path
    correct: NDArray[np.bool_]
    agreement: float
    can_saturate: bool


def tune(
    source: Path, fashion: Callable[[], FashionMnist], settings: TuneSettings, note: Note, step: Step
) -> TuneReport:
    """Try every sensible form of a model on this machine and choose one.

    Accuracy and agreement are taken on the validation images: the test images stay unseen until `verify`. If no int8
    form stays within the budget, each layer in turn is left in float too.

    Args:
        source: an artifact folder, a model's file or a SavedModel folder.
        fashion: gives Fashion-MNIST, which is used where the settings have no other data.
        settings: what to try.
        note: told what is being done.
        step: told of the progress.

    Raises:
        MissingError, ModelError, CorruptArtifactError: the source is no model.
        UsageError: a layer to keep in float that is not there; or the model or its data do not allow to say how many
            rows it labels right.
        ToolkitError: a fresh process crashed or hung.
    """
    from toolkit.conversion.layers import check_kept, weighted_layers

    host = describe_host()  # first: its load average should not be our own
    with tempfile.TemporaryDirectory(prefix="toolkit-tune-") as scratch:
        folder = Path(scratch)
        options = ExportOptions(None, custom=settings.custom, unsafe=settings.unsafe)
        model, manifest = stage_source(source, folder, options)
        sha256 = manifest.source_sha256
        recipes = first_candidates(settings.keep_float, settings.calibration_images, settings.seed)
        static = next(recipe for recipe in recipes if recipe is not None and recipe.method == "static")
        material = gather(model, settings.data, settings.raw, _validation(model, settings, fashion), static, note, step)
        float32 = folder / ONNX
        exported = export_onnx(model, float32, material, options, sha256, note)
        bench = _Workbench(float32, folder, material, exported, model)
        import onnx

        graph = onnx.load(float32)
        check_kept(graph, settings.keep_float)  # what makes no sense should be said before the work
        note(f"Asking Keras for its answers to {bench.described}")
        bench.ask()
        made, failed = bench.make_all(recipes, step)
        if not any(m.recipe and m.recipe.kind == "int8" and _serves(m, bench, settings.budget) for m in made):
            layers = list(weighted_layers(graph))
            more = rescue_candidates(layers, settings.keep_float, settings.calibration_images, settings.seed)
            if more:
                note("No int8 form stays within the budget; trying each layer in float")
            rescued, failed_too = bench.make_all(more, step)
            made, failed = made + rescued, failed + failed_too
        for warning in bench.warnings:
            note(f"warning: {warning}")
        measured = _measure(made, bench, settings, step)
    choice = choose(measured, settings.budget)
    return TuneReport(
        model=str(source),
        keras_sha256=sha256,
        keras_accuracy=float(bench.keras_correct.mean()),
        data=bench.described,
        settings=settings,
        host=host,
        versions=versions(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        measured=measured,
        failed=failed,
        choice=choice,
        pareto=pareto(measured, choice.refused),
        warnings=list(bench.warnings),
    )


def _validation(model: SourceModel, settings: TuneSettings, fashion: Callable[[], FashionMnist]) -> FashionMnist | None:
    """Fashion-MNIST with its validation images in the place of the test images, which stay unseen."""
    if settings.data.given:
        return None
    if not is_fashion(model):
        raise UsageError(
            "the model is not of Fashion-MNIST's form, so it needs data: give --calibration and --validation"
        )
    data = fashion()
    return dataclasses.replace(data, test_images=data.validation_images, test_labels=data.validation_labels)


class _Workbench:
    """Makes candidates of one model and looks at their answers."""

    def __init__(self, float32: Path, folder: Path, material: Material, exported: Exported, model: SourceModel) -> None:
        self.float32, self.folder, self.material, self.model = float32, folder, material, model
        rows = material.test
        one = len(exported.outputs) == 1 and exported.outputs[0].task == "classification"
        own = model.outputs[0].name
        if not one or own not in rows.targets or rows.targets[own].ndim != 1:
            told = ", ".join(f"{output.name}: {output.task}" for output in exported.outputs)
            raise UsageError(
                f"the model gives {told}, and {rows.source} has {', '.join(rows.targets) or 'no labels'}; tune counts "
                "right labels, so it expects one output of classes and --validation with their labels"
            )
        self.output, self.own = exported.outputs[0].name, own
        self.labels = rows.targets[own]
        fashion = material.record.fashion_mnist
        self.described = (
            f"Fashion-MNIST, {rows.count:,} validation images" if fashion else f"{rows.source}, {rows.count:,} rows"
        )
        self._count = 0
        self.warnings: dict[str, None] = {}

    def ask(self) -> None:
        """Keras' own answers.

        Raises:
            ModelError: they are no numbers.
        """
        given = keras_rows(self.material.test.inputs, self.material.inputs)
        self.keras = self.model.answers(given)[self.own]
        if not np.isfinite(self.keras).all():
            raise ModelError(f"{self.model.name} answers NaN or infinity on the validation rows; train the model again")
        self.keras_correct: NDArray[np.bool_] = self.keras.argmax(axis=1) == self.labels

    @property
    def rows(self) -> list[Any]:
        """Some rows one by one, as the predictor takes them."""
        few = self.material.test.take(slice(0, 64)).inputs
        if len(few) == 1:
            return list(next(iter(few.values())))
        return [{name: array[at] for name, array in few.items()} for at in range(len(next(iter(few.values()))))]

    def make_all(self, recipes: Sequence[QuantizationRecipe | None], step: Step) -> tuple[list[_Made], list[Failed]]:
        made, failed = [], []
        for done, recipe in enumerate(recipes):
            step(done, len(recipes), "quantizing")
            try:
                made.append(self._make(recipe))
            except ModelError as error:
                failed.append(Failed(recipe.title if recipe else "float32", str(error)))
                if recipe is None:
                    raise
        step(len(recipes), len(recipes), "quantizing")
        return made, failed

    def _make(self, recipe: QuantizationRecipe | None) -> _Made:
        from toolkit.conversion.saturation import as_run, layer_loads

        path = self.float32
        if recipe is not None:
            self._count += 1
            # The kind in the name tells the predictor what it is.
            place = self.folder / f"candidate{self._count}"
            place.mkdir()
            _, warnings = quantize_on(self.material, self.float32, place, recipe, self.model.layers, silent_note)
            self.warnings |= dict.fromkeys(warnings)
            path = place / QUANTIZED[recipe.kind]
        answers = Predictor(path).predict_batch(self.material.test.inputs).outputs[self.output]
        parity = compare_decisions("classification", self.keras, answers, self.labels)
        if parity.not_finite:
            raise ModelError(f"it answers {parity.not_finite} values that are no numbers")
        return _Made(
            recipe,
            path,
            answers.argmax(axis=1) == self.labels,
            parity.agreement,
            any(layer.can_saturate for layer in layer_loads(as_run(path.read_bytes(), path.name))),
        )


def _serves(made: _Made, bench: _Workbench, budget: Budget) -> bool:
    drop = (int(bench.keras_correct.sum()) - int(made.correct.sum())) / len(made.correct)
    within = drop <= budget.max_accuracy_drop and made.agreement >= budget.min_agreement
    return within and not (budget.portable and made.can_saturate)


def _measure(made: Sequence[_Made], bench: _Workbench, settings: TuneSettings, step: Step) -> list[Measured]:
    images = bench.rows
    times: list[Measurement[tuple[int, ...]]] = [
        Measurement(partial(_time_anew, one.path, images, settings.calls)) for one in made
    ]
    run_rounds(times, settings.rounds, step)
    starts: list[Measurement[Start]] = [Measurement(partial(start_fresh, str(one.path), threads=1)) for one in made]
    run_rounds(starts, settings.starts, lambda done, total, _: step(done, total, "cold starts"))
    return [
        _measured(one, bench, time.results, summarize_starts(start.results, warmup=1).total_ms)
        for one, time, start in zip(made, times, starts, strict=True)
    ]


def _time_anew(path: Path, images: Sequence[Any], calls: int) -> tuple[int, ...]:
    """Opened anew each time: where its memory comes to lie moves a small model's time, and must not decide."""
    return time_calls(Predictor(path).classify, images, calls=calls, warmup=max(10, calls // 10))


def _measured(made: _Made, bench: _Workbench, rounds: Sequence[Sequence[int]], cold_start_ms: float) -> Measured:
    n = len(made.correct)
    lost = int((bench.keras_correct & ~made.correct).sum())
    won = int((~bench.keras_correct & made.correct).sum())
    samples = np.concatenate([np.asarray(r) for r in rounds])
    medians = tuple(float(statistics.median(r)) for r in rounds)
    if min(medians) <= 0:
        raise ToolkitError("the clock of this machine is too coarse to tell the candidates apart; use another machine")
    return Measured(
        recipe=made.recipe,
        title=made.recipe.title if made.recipe else "float32",
        accuracy=float(made.correct.mean()),
        accuracy_drop=(lost - won) / n,
        # Of a difference of paired shares (McNemar): only images on which the two differ count.
        accuracy_drop_error=math.sqrt(max(lost + won - (lost - won) ** 2 / n, 0)) / n,
        agreement=made.agreement,
        bytes=made.path.stat().st_size,
        medians_ns=medians,
        p50_ns=float(np.percentile(samples, 50)),
        p99_ns=float(np.percentile(samples, 99)),
        cold_start_ms=cold_start_ms,
        can_saturate=made.can_saturate,
    )
