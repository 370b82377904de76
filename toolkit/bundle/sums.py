"""``SHA256SUMS``: the hash of every file of a bundle, in the one form that `sha256sum -c` takes and we write."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from toolkit.bundle.layout import SIGNATURE, SUMS
from toolkit.errors import CorruptArtifactError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SIGNATURE", "SUMS", "read", "write"]

_LINE = re.compile(r"([0-9a-f]{64})  ([^./\\\s][^/\\\s]*)")


def write(files: Mapping[str, bytes]) -> bytes:
    """What SHA256SUMS holds for some files by name: all but itself and the signature, which comes after it.

    Lines "<hash>  <name>", sorted by name, LF, UTF-8.
    """
    names = sorted(files.keys() - {SUMS, SIGNATURE})
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in names).encode()


def read(data: bytes, path: str) -> dict[str, str]:
    """The hashes by name, if every byte is as `write` writes it.

    Args:
        data: what the file holds.
        path: how errors call it.

    Raises:
        CorruptArtifactError: it has another form, order, or a name that leads somewhere.
    """
    found: dict[str, str] = {}
    try:
        lines = data.decode().split("\n")
    except UnicodeDecodeError:
        lines = []
    if lines[-1:] != [""]:
        raise CorruptArtifactError(f"{path} is damaged: expected lines of text; copy the bundle again as a whole")
    for number, line in enumerate(lines[:-1], 1):
        match = _LINE.fullmatch(line)
        if not match or match[2] <= max(found, default=""):
            raise CorruptArtifactError(
                f"{path} is damaged: line {number} is {line[:80]!r}, expected 64 hex digits, two blanks and a name, "
                "sorted; copy the bundle again as a whole"
            )
        found[match[2]] = match[1]
    return found
