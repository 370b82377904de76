"""``SHA256SUMS``: the hash of every file of a bundle, in the one form that `sha256sum -c` takes and we write."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["write"]

SUMS, SIGNATURE = "SHA256SUMS", "model.sig"


def write(files: Mapping[str, bytes]) -> bytes:
    """What SHA256SUMS holds for some files by name: all but itself and the signature, which comes after it.

    Lines "<hash>  <name>", sorted by name, LF, UTF-8.
    """
    names = sorted(files.keys() - {SUMS, SIGNATURE})
    return "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in names).encode()
