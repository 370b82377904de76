"""Opening a model that a person brings: what it is, by its content; then the reader for that."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import MissingError, ModelError, UsageError
from toolkit.keras_model import archive, hdf5
from toolkit.keras_model.custom import import_custom
from toolkit.keras_model.keras2 import keras2_objects
from toolkit.keras_model.modern import modern_config
from toolkit.keras_model.runtime import import_keras
from toolkit.keras_model.saved_model import is_saved_model, open_saved_model
from toolkit.keras_model.source import SourceModel, from_keras
from toolkit.keras_model.trust import check_config

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["load_keras", "open_model"]

_WANTED = "a .keras or .h5 file of a whole model, or a SavedModel folder"
_STARTS = {b"PK\x03\x04": "keras", b"PK\x05\x06": "keras", b"\x89HDF\r\n\x1a\n": "h5"}
_OTHERS = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model itself; fetch it with: git lfs pull"),
    (4, b"TFL3", f"a LiteRT (TFLite) file, from which no Keras model can be made; give {_WANTED}"),
    (0, b"\x80\x04\x95", f"a pickle, which is a program and is never opened; give {_WANTED}"),
    (0, b"\x80\x02", f"a pickle, which is a program and is never opened; give {_WANTED}"),
    (0, b"\x1f\x8b", f"packed with gzip; unpack it, and give {_WANTED}"),
    (0, b"<", f"a text such as a web page, perhaps what a download got instead; give {_WANTED}"),
    (0, b"{", f"a JSON text, which holds no weights; give {_WANTED}"),
)


def open_model(
    source: Path | Any, shown: object = None, *, custom: Sequence[str] = (), unsafe: bool = False
) -> SourceModel:
    """Open a model for conversion. No code that it brings is run unless that is asked for.

    Args:
        source: a ``.keras`` file, an ``.h5`` file (of Keras 1, 2 or 3), a SavedModel folder, or a Keras model object.
            Files are told apart by their content, whatever they are called.
        shown: how errors call it, where it is a copy of what the person named.
        custom: ``module:name`` of each class or function of the person's own that the model needs.
        unsafe: run Lambda layers and other code in the file.

    Raises:
        MissingError: no such file or folder, no such custom class, or Keras is not installed.
        ModelError: it is no model, is damaged, is too large, or needs code that it brings itself.
        UsageError: a custom name of the wrong form, or a file that may not be read.
    """
    if not isinstance(source, Path | str):
        import_keras()
        return from_keras(source)
    path = Path(source)
    shown = shown or path
    kind = _kind(path, shown)
    if kind == "saved_model":
        if custom:
            raise UsageError(f"--custom does nothing for the SavedModel {shown}, which brings its graph; leave it out")
        import_keras()
        return open_saved_model(path, shown, unsafe=unsafe)
    model, version = (_from_archive if kind == "keras" else _from_hdf5)(path, custom, shown, unsafe=unsafe)
    return from_keras(model, f"Keras {version}", shown)


def load_keras(path: Path, shown: object = None, *, custom: Sequence[str] = (), unsafe: bool = False) -> Any:
    """The Keras model in a ``.keras`` or ``.h5`` file, not compiled; see `open_model` for arguments and errors.

    Raises:
        ModelError: beside `open_model`'s reasons: it is a SavedModel, which holds no Keras model.
    """
    source = open_model(path, shown, custom=custom, unsafe=unsafe)
    if source.keras is None:
        raise ModelError(f"{shown or path} is a SavedModel, expected a Keras model; give its .keras or .h5 file")
    return source.keras


def _kind(path: Path, shown: object) -> str:
    """What a path holds, by its content: "keras", "h5" or "saved_model"."""
    if path.is_dir():
        if is_saved_model(path):
            return "saved_model"
        raise ModelError(f"{shown} is a folder without a model (no saved_model.pb, no manifest.json); give {_WANTED}")
    if not path.exists():
        raise MissingError(f"{shown} does not exist; give {_WANTED}, or train one with: toolkit train")
    if not path.is_file():
        raise ModelError(f"{shown} is no regular file; give {_WANTED}")
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UsageError(f"cannot read {shown}: {error.strerror}; check its permissions") from error
    for magic, kind in _STARTS.items():
        if start.startswith(magic):
            return kind
    raise ModelError(f"{shown} ({path.stat().st_size:,} bytes) is no Keras model: {_what_it_is(start, shown)}")


def _what_it_is(start: bytes, shown: object) -> str:
    if not start:
        return "it is empty; copy or download it again"
    for at, magic, what in _OTHERS:
        if start[at:].startswith(magic):
            return f"it is {what}"
    return f"it is neither a zip archive nor HDF5 (its name ends in '{Path(str(shown)).suffix}'); give {_WANTED}"


def _from_archive(path: Path, custom: Sequence[str], shown: object, *, unsafe: bool) -> tuple[Any, str]:
    with tempfile.TemporaryDirectory(prefix="toolkit-") as name:
        folder = Path(name)
        config, version = archive.unpack(path, folder, shown)
        config, objects = _checked(config, version, custom, shown, unsafe=unsafe)
        weights = folder / archive.WEIGHTS
        with hdf5.opened(weights, shown, "r+" if _is_keras2(version) else "r") as file:
            if _is_keras2(version):
                hdf5.rename_old_groups(file)
        # What Keras opens is the configuration that was looked at, with the weights that were.
        (folder / archive.CONFIG).write_text(json.dumps(config), encoding="utf-8")
        with _building(shown):
            model = import_keras().models.load_model(
                folder, custom_objects=objects, compile=False, safe_mode=not unsafe
            )
    return model, version


def _from_hdf5(path: Path, custom: Sequence[str], shown: object, *, unsafe: bool) -> tuple[Any, str]:
    with hdf5.opened(path, shown) as file:
        config, version = hdf5.read_config(file, shown)
        config, objects = _checked(config, version, custom, shown, unsafe=unsafe)
        with _building(shown):
            model = import_keras().saving.deserialize_keras_object(config, custom_objects=objects, safe_mode=not unsafe)
        hdf5.assign_weights(file, model, shown)
    return model, version


def _checked(
    config: Any, version: str, custom: Sequence[str], shown: object, *, unsafe: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration as Keras 3 takes it, looked at, and the custom objects to give with it."""
    import_keras()
    named = import_custom(custom)
    keras2 = _is_keras2(version)
    rewritten = modern_config(config, named, keras2=keras2, shown=shown)
    objects = {**(keras2_objects() if keras2 else {}), **named}
    if not unsafe:
        check_config(rewritten, objects, shown)
    return rewritten, objects


def _is_keras2(version: str) -> bool:
    return version.split(".", maxsplit=1)[0] in ("0", "1", "2")


class _building:  # noqa: N801 - used as a function
    """What Keras says when it cannot build the model, in one line."""

    def __init__(self, shown: object) -> None:
        self.shown = shown

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or not isinstance(error, Exception):
            return
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ModelError):
                raise ModelError(f"{self.shown}: {cause}") from error
            cause = cause.__cause__ or cause.__context__
        text = " ".join(str(error).split())
        reason = text if len(text) <= 300 else f"{text[:120]} ... {text[-160:]}"
        raise ModelError(
            f"{self.shown} cannot be opened as a Keras model: {reason or type(error).__name__}; save the model again "
            "with Keras 3"
        ) from error
