"""Other CPUs for tests: skipped only where they cannot be prepared, and in CI not even then."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from toolkit.emulation.cpus import choose
from toolkit.emulation.run import prepared
from toolkit.errors import ToolkitError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolkit.emulation.run import Machine

REQUIRED = os.environ.get("TOOLKIT_REQUIRE_EMULATION") == "1"


def nothing(*_: object) -> None:
    """A Note, or a Step, that nobody reads."""


@contextmanager
def machines_or_skip(*names: str) -> Iterator[list[Machine]]:
    """Emulated CPUs by name. What goes wrong once they are there fails the test."""
    with ExitStack() as stack:
        try:
            machines = stack.enter_context(prepared(choose(names), nothing, nothing))
        except ToolkitError as error:
            if REQUIRED:
                raise
            pytest.skip(str(error))
        yield machines
