"""``.keras`` files: zip archives, unpacked by hand so that nothing in them is trusted."""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from toolkit.errors import ModelError
from toolkit.keras_model.limits import CONFIG_LIMIT, WEIGHTS_LIMIT, check_weight_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["CONFIG", "WEIGHTS", "unpack"]

CONFIG = "config.json"
METADATA = "metadata.json"
WEIGHTS = "model.weights.h5"
ASSETS = "assets/"

# Keras stores weights as they are. What is packed to less than a hundredth is there to fill a disk.
_MOST_EXPANSION = 100
_EXPANSION_LOOKED_AT = 64_000_000
_ENCRYPTED = 0x1
_CHUNK = 1 << 20


def unpack(path: Path, folder: Path, shown: object) -> tuple[Any, str]:
    """Unpack what Keras needs of an archive, and nothing else.

    Args:
        path: the archive.
        folder: an empty folder, for the weights and the assets; the configuration is for the caller to write.
        shown: how errors call the file.

    Returns:
        The configuration, parsed from JSON but otherwise as it was found, and the version of Keras that wrote it.

    Raises:
        ModelError: it is no archive of a model, is damaged or encrypted, leads out of its folder, or is too large.
    """
    with _reading(shown), zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        for entry in entries.values():
            _check_entry(entry, shown)
        for name in (CONFIG, METADATA, WEIGHTS):
            if name not in entries:
                raise ModelError(
                    f"{shown} is a zip archive without {name}, so it is no Keras model; give a file saved by "
                    "model.save('NAME.keras')"
                )
        check_weight_bytes(entries[WEIGHTS].file_size, shown)
        if entries[CONFIG].file_size > CONFIG_LIMIT or entries[METADATA].file_size > CONFIG_LIMIT:
            raise ModelError(f"{shown}: its {CONFIG} or {METADATA} unpacks to more than {CONFIG_LIMIT:,} bytes")
        config = json.loads(archive.read(CONFIG))
        metadata = json.loads(archive.read(METADATA))
        assets = [e for n, e in entries.items() if n.startswith(ASSETS) and not e.is_dir()]
        if sum(entry.file_size for entry in assets) > WEIGHTS_LIMIT:
            raise ModelError(f"{shown}: its assets unpack to more than {WEIGHTS_LIMIT / 1e9:.0f} GB")
        for entry in (entries[WEIGHTS], *assets):
            target = folder / entry.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(entry) as packed, target.open("wb") as out:
                shutil.copyfileobj(packed, out, _CHUNK)
    version = metadata.get("keras_version") if isinstance(metadata, dict) else None
    return config, str(version or "3")


def _check_entry(entry: zipfile.ZipInfo, shown: object) -> None:
    name = entry.filename
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or ":" in parts.parts[0] if parts.parts else True:
        raise ModelError(
            f"{shown} is an archive with the name {name[:80]!r}, which leads out of it; Keras writes no such file, do "
            "not trust it"
        )
    if entry.flag_bits & _ENCRYPTED:
        raise ModelError(f"{shown} is encrypted with a password; unpack it and give the model itself")
    if entry.file_size > _EXPANSION_LOOKED_AT and entry.file_size > _MOST_EXPANSION * max(entry.compress_size, 1):
        raise ModelError(
            f"{shown}: {name[:80]!r} unpacks from {entry.compress_size:,} to {entry.file_size:,} bytes, expected "
            f"{_MOST_EXPANSION} times as much at most; it is no model, do not trust it"
        )


@contextmanager
def _reading(shown: object) -> Iterator[None]:
    """What goes wrong while a zip archive is read, in one line."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ModelError(
            f"{shown} is a damaged or truncated zip archive ({error}); copy or download it again"
        ) from error
    except (NotImplementedError, RuntimeError) as error:
        raise ModelError(f"{shown} is a zip archive that cannot be read ({error}); save the model again") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{shown}: its {CONFIG} or {METADATA} is no JSON; save the model again") from error
