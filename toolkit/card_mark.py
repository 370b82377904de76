"""How a model card that `toolkit report` wrote is told from a person's own README.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["CARD", "CARD_MARK", "is_own_card"]

CARD, CARD_MARK = "README.md", "<!-- Written by toolkit report. -->"
"""The name of a card in an artifact, and the line that ours ends with."""

_MOST_BYTES = 1_000_000


def is_own_card(path: Path) -> bool:
    """Whether a file was written by `toolkit report`: then it is about one model, and goes with it."""
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            return False
        with path.open("rb") as file:
            return CARD_MARK.encode() in file.read(_MOST_BYTES)
    except OSError:
        return False
