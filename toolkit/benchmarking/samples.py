"""Every sample kept, in little room: how a report holds whole numbers by the thousand.

A packed sequence is {"counts": [n, ...], "dtype": "<u4" or "<u8", "data": TEXT}: the numbers of all rounds one after
the other, counts of them a round, little endian, deflated (zlib) and in base64. numpy reads it back in one line:
``numpy.frombuffer(zlib.decompress(base64.b64decode(data)), dtype)``.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["pack", "unpack"]

_NARROW, _WIDE = "<u4", "<u8"


def pack(rounds: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Whole numbers from 0 up, one sequence a round, as JSON values."""
    flat = np.concatenate([np.asarray(r, np.uint64) for r in rounds]) if rounds else np.zeros(0, np.uint64)
    dtype = _NARROW if not len(flat) or flat.max() <= np.iinfo(np.uint32).max else _WIDE
    data = base64.b64encode(zlib.compress(flat.astype(dtype).tobytes(), 9)).decode("ascii")
    return {"counts": [len(r) for r in rounds], "dtype": dtype, "data": data}


def unpack(packed: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
    """What `pack` was given.

    Raises:
        ValueError: it is no packed sequence, or is damaged.
    """
    try:
        counts, dtype = [int(n) for n in packed["counts"]], str(packed["dtype"])
        if dtype not in (_NARROW, _WIDE) or min(counts, default=0) < 0:
            raise ValueError(f"dtype {dtype}")
        flat = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"], validate=True)), dtype).tolist()
    except (KeyError, TypeError, zlib.error) as error:
        raise ValueError(f"no packed samples: {error!r}") from error
    if len(flat) != sum(counts):
        raise ValueError(f"{len(flat)} packed samples, expected {sum(counts)}")
    rounds, at = [], 0
    for count in counts:
        rounds.append(tuple(flat[at : at + count]))
        at += count
    return tuple(rounds)
