"""Every error that a person can do something about, each with its exit code.

The classes live in `toolkit.predictor`, because that one file must work alone on a device; the rest of the toolkit
takes them from here. Exit codes: 0 all is well, 1 a gate failed, 2 bad usage or bad input, 3 something needed is
missing, 4 an artifact is corrupt or was changed.
"""

from toolkit.predictor import (
    CorruptArtifactError,
    InputError,
    MissingError,
    ModelError,
    ToolkitError,
    UsageError,
)

__all__ = [
    "BoardError",
    "CorruptArtifactError",
    "CpuError",
    "DataError",
    "DivergedError",
    "GateError",
    "InputError",
    "MissingError",
    "ModelError",
    "StorageError",
    "ToolkitError",
    "UsageError",
]


class GateError(ToolkitError):
    """A model did not pass verification, so it was not published."""

    exit_code = 1


class DivergedError(ToolkitError):
    """Training reached a loss that is no number."""

    exit_code = 1


class DataError(ToolkitError, ValueError):
    """A data file that is not what it should be."""

    exit_code = 2


class CpuError(ToolkitError):
    """A CPU on which the installed libraries do not run, or that an emulator does not play as it should."""

    exit_code = 3


class BoardError(ToolkitError):
    """Another machine that cannot be reached, went away, or lacks something.

    Args:
        text: the line.
        exit_code: of what failed there, where that is not 3.
    """

    exit_code = 3

    def __init__(self, text: str, exit_code: int = 3) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class StorageError(ToolkitError, OSError):
    """The disk is full or failed while something was written; what was there before is whole."""

    exit_code = 3
