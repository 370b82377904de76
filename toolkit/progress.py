"""How library functions tell of their progress, without knowing who listens."""

from collections.abc import Callable

__all__ = ["Note", "Step", "silent_note", "silent_step"]

Note = Callable[[str], None]
"""Takes one line of text for people."""

Step = Callable[[int, int, str], None]
"""Takes (done, total, what is being done); done runs from 0 to total."""


def silent_note(text: str) -> None:
    """Say nothing."""


def silent_step(done: int, total: int, what: str) -> None:
    """Say nothing."""
