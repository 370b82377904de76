"""What the values of shared options ask for: a recipe, seeds, limits, what to export; or why they make no sense."""

import dataclasses
from pathlib import Path
from typing import Any

__all__ = [
    "export_options_from",
    "folder_and_output",
    "limits_from",
    "recipe_from",
    "recipe_of_quantization",
    "seeds_from",
]

_OUTPUTS = ("probabilities", "logits", "both")


def recipe_from(
    name: str, settings: list[str] | None, hidden: str | None, teacher: list[str] | None, **given: Any
) -> Any:
    """The recipe that the command line asks for.

    Args:
        name: of a recipe, or a manifest's path.
        settings: what ``--set`` was given.
        hidden: layer sizes with commas.
        teacher: files of teachers.
        **given: further fields; None leaves one as it is.

    Raises:
        UsageError: a setting that makes no sense.
        MissingError: there is no such file.
    """
    from toolkit.errors import MissingError, UsageError
    from toolkit.training.recipe_files import find_recipe, set_fields

    sizes = None
    if hidden is not None:
        try:
            sizes = tuple(int(part) for part in hidden.split(","))
        except ValueError as error:
            raise UsageError(f"--hidden is {hidden!r}, expected layer sizes with commas, such as 300,100") from error
    files = tuple(teacher) if teacher else None
    recipe = set_fields(find_recipe(name), settings or (), hidden=sizes, teacher_files=files, **given)
    for file in recipe.teacher_files:
        if not Path(file).exists():
            raise MissingError(f"the teacher {file} does not exist; give a .keras file that does")
    return recipe


def seeds_from(seed: int | None, count: int, recipe: str) -> tuple[int, ...]:
    """As many seeds, from the first on.

    Args:
        seed: the first; None: of a single one that of the recipe's manifest, where it comes from one, else 1.
        count: how many.
        recipe: a recipe's name, or a manifest's path.

    Raises:
        UsageError: they would be larger than a seed may be, or the manifest's is none.
    """
    from toolkit.errors import UsageError
    from toolkit.training.recipe_files import find_seed

    if seed is None:
        kept = find_seed(recipe) if count == 1 else None
        seed = 1 if kept is None else kept
    if seed + count > 2**32:
        raise UsageError(f"--seeds {count} from --seed {seed} on goes beyond {2**32 - 1}; begin with a smaller seed")
    return tuple(range(seed, seed + count))


def limits_from(
    max_difference: float | None,
    min_agreement: float | None,
    max_accuracy_drop: float | None,
    max_relative_error: float | None = None,
    max_metric_change: float | None = None,
) -> Any:
    """The gates' limits, with what the command line gives instead of the defaults.

    Raises:
        UsageError: a limit that is no share.
    """
    from toolkit.verification.gates import Limits

    given = {
        "float32_max_abs": max_difference,
        "float32_values": max_difference,
        "int8_min_agreement": min_agreement,
        "int8_max_accuracy_drop": max_accuracy_drop,
        "int8_max_relative_error": max_relative_error,
        "max_metric_change": max_metric_change,
    }
    return dataclasses.replace(Limits(), **{name: value for name, value in given.items() if value is not None})


def recipe_of_quantization(
    quantize: str | None,
    *,
    per_channel: bool,
    portable: bool,
    reduce_range: bool,
    calibration_method: str | None,
    percentile: float | None,
    calibration_images: int | None,
    keep_float: list[str] | None,
    bias_correction: bool = True,
) -> Any:
    """The quantization recipe that the command line asks for, or None.

    Raises:
        UsageError: a value that makes no sense, or an option that would do nothing.
    """
    from toolkit.conversion.recipe import METHODS, QuantizationRecipe
    from toolkit.errors import UsageError

    if quantize == "none":
        quantize = None
    if quantize not in (None, *METHODS):
        raise UsageError(f"--quantize is {quantize!r}, expected one of {', '.join(METHODS)}, none")
    given = {
        "--per-channel": per_channel,
        "--no-portable": not portable,
        "--reduce-range": reduce_range,
        "--calibration-method": calibration_method is not None,
        "--percentile": percentile is not None,
        "--calibration-images": calibration_images is not None,
        "--no-bias-correction": not bias_correction,
        "--keep-float": bool(keep_float),
    }
    calibrated = {"--calibration-method", "--percentile", "--calibration-images", "--no-bias-correction"}
    does_nothing = {
        None: set(given),
        "dynamic": calibrated,
        "int4": set(given) - {"--keep-float"},
        "float16": set(given) - {"--keep-float"},
    }.get(quantize, set())
    if idle := [name for name, is_given in given.items() if is_given and name in does_nothing]:
        if quantize is None:
            raise UsageError(f"without --quantize, {', '.join(idle)} would do nothing; add --quantize, or drop it")
        raise UsageError(f"with --quantize={quantize}, {', '.join(idle)} would do nothing; drop it")
    if percentile is not None and calibration_method != "percentile":
        raise UsageError("--percentile does nothing without --calibration-method percentile; add it, or drop this")
    if reduce_range and not portable:
        raise UsageError("--no-portable does nothing with --reduce-range, whose weights cannot saturate; drop it")
    if quantize is None:
        return None
    settings: dict[str, Any] = {
        "calibration": calibration_method,
        "percentile": percentile,
        "calibration_images": calibration_images,
        "keep_float": tuple(dict.fromkeys(keep_float)) if keep_float else None,
    }
    return QuantizationRecipe(
        method=quantize,
        per_channel=per_channel,
        portable=portable and not reduce_range,
        reduce_range=reduce_range,
        bias_correction=bias_correction,
        **{name: value for name, value in settings.items() if value is not None},
    )


def folder_and_output(values: list[str] | None) -> tuple[Path | None, str]:
    """What ``--output`` was given: the artifact folder, and what the model shall give.

    Raises:
        UsageError: two of a kind.
    """
    from toolkit.errors import UsageError

    words = [value for value in values or [] if value in _OUTPUTS]
    folders = [value for value in values or [] if value not in _OUTPUTS]
    if len(words) > 1 or len(folders) > 1:
        twice = words if len(words) > 1 else folders
        raise UsageError(
            f"--output is given as {' and '.join(twice)}; give one folder, and one of {', '.join(_OUTPUTS)}"
        )
    return (Path(folders[0]) if folders else None), (words[0] if words else _OUTPUTS[0])


def export_options_from(
    quantization: Any,
    *,
    output: str,
    limits: Any,
    raw: Any = None,
    data: Any = None,
    tasks: dict[str, str] | None = None,
    metrics: Any = (),
    c: bool = False,
    native: bool = False,
    cc: str | None = None,
    keep_failed: bool = False,
    cpus: Any = None,
    custom: list[str] | None = None,
    unsafe: bool = False,
) -> Any:
    """What to export, as the command line gives it.

    Raises:
        UsageError: an option that would do nothing.
    """
    from toolkit.errors import UsageError
    from toolkit.other_cpus import OtherCpus
    from toolkit.pipeline import ExportOptions, OwnData, RawInput

    of_int8 = ("int8_min_agreement", "int8_max_accuracy_drop", "int8_max_relative_error")
    idle = [name for name in of_int8 if getattr(limits, name) != getattr(type(limits)(), name)]
    if quantization is None and idle:
        names = ", ".join("--" + name.removeprefix("int8_").replace("_", "-") for name in idle)
        raise UsageError(f"without --quantize, {names} would do nothing; add --quantize, or drop it")
    return ExportOptions(
        quantization,
        raw=raw or RawInput(),
        output=output,
        data=data or OwnData(),
        tasks=tasks or {},
        metrics=tuple(metrics),
        limits=limits,
        c=c,
        native=native,
        cc=cc,
        keep_failed=keep_failed,
        cpus=cpus or OtherCpus(),
        custom=tuple(custom or ()),
        unsafe=unsafe,
    )
