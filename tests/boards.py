"""Ways to use boards in tests: the installed command, the library, a bare connection."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.conftest import Finished, toolkit
from toolkit.remote import BoardOptions
from toolkit.remote.boards import parse_boards
from toolkit.remote.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sshd import Place, Server

SHORT = ("--quick", "--scenario=single-stream", "--calls=400")


def bench(server: Server, bundle: Path, *options: object, on: list[str]) -> Finished:
    """The installed command, with the Python that runs the tests on the board."""
    words = [word for name in on for word in ("--on", name)]
    python = () if "--python" in options else ("--python", sys.executable)
    return toolkit("bench", bundle, *words, *python, "--ssh-config", server.config, *SHORT, *options)


def options(server: Server, **more: Any) -> BoardOptions:
    return BoardOptions(**{"python": sys.executable, "ssh_config": server.config, "arguments": SHORT, **more})


@contextmanager
def connected(server: Server, place: Place, python: str = sys.executable, **more: Any) -> Iterator[Connection]:
    (board,) = parse_boards([place.name])
    there = Connection(board, python=python, config=server.config, **more)
    try:
        there.open()
        there.begin(need=0, keep=False)
        yield there
    finally:
        there.close()
