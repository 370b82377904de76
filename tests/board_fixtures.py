"""A sshd that plays boards, and a bundle to send there: for the tests of ``toolkit bench --on``."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.bundles import make_bundle
from tests.sshd import server_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.sshd import Place, Server

_names = (f"board-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_or_skip(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "device")


@pytest.fixture
def place(server: Server) -> Place:
    return server.place(next(_names))
