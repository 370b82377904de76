"""Which machine is meant: ``ssh://[user@]host[:port]``, or a name from the user's own ssh configuration."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING

from toolkit.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Board", "parse_board", "parse_boards"]

_SCHEME = "ssh://"
# Both become words of a command line, and an ssh configuration may put them into a shell's (ProxyCommand, Match exec):
# nothing that begins like an option, and none of the characters that a shell gives a meaning to (CVE-2023-51385).
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_EXPECTED = "expected ssh://[user@]host[:port], or a name from your ssh configuration"


@dataclass(frozen=True)
class Board:
    """One machine.

    Attributes:
        host: its name or address; OpenSSH looks it up in its configuration.
        user: None: OpenSSH decides.
        port: None: the same.
    """

    host: str
    user: str | None = None
    port: int | None = None

    @property
    def name(self) -> str:
        """What people call it: user@host:port, as far as they were given."""
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{user}{host}:{self.port}" if self.port else f"{user}{host}"

    @property
    def file_name(self) -> str:
        """The same as a part of a file's name."""
        return re.sub(r"[^A-Za-z0-9_.-]+", "-", self.name).strip("-.")

    @property
    def destination(self) -> tuple[str, ...]:
        """Words for ``ssh``: options, ``--``, the host."""
        user = ("-l", self.user) if self.user else ()
        port = ("-p", str(self.port)) if self.port else ()
        return (*user, *port, "--", self.host)


def parse_board(text: str) -> Board:
    """Read what was given to ``--on``.

    Raises:
        UsageError: it is no board, or holds what could be taken for an option or a shell's command.
    """
    url = text.startswith(_SCHEME)
    rest = text.removeprefix(_SCHEME)
    if url and rest.endswith("/"):
        rest = rest[:-1]
    user, at, place = rest.rpartition("@")
    if ":" in user:
        # The text is not repeated: it holds a password.
        raise UsageError(f"--on takes no password (after '{user.split(':')[0][:40]}:'); OpenSSH asks, or uses a key")
    host, port = _host_and_port(place) if url else (place, None)
    if not (_HOST.fullmatch(host) or _is_ipv6(host)) or (at and not _USER.fullmatch(user)):
        raise UsageError(f"--on is {text[:80]!r}, {_EXPECTED}")
    if port is not None and not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise UsageError(f"--on is {text[:80]!r}, whose port is none; {_EXPECTED}")
    return Board(host, user or None, int(port) if port else None)


def _host_and_port(place: str) -> tuple[str, str | None]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", place, re.DOTALL)
    if bracketed:
        return bracketed[1], bracketed[2]
    host, colon, port = place.partition(":")
    return (host, port) if colon and ":" not in port else (place, None)


def _is_ipv6(host: str) -> bool:
    with suppress(AddressValueError):
        address = IPv6Address(host)
        return address.scope_id is None or _HOST.fullmatch(address.scope_id) is not None
    return False


def parse_boards(texts: Iterable[str]) -> list[Board]:
    """Read several.

    Raises:
        UsageError: see `parse_board`; or two are the same, whose figures would disturb each other.
    """
    boards: list[Board] = []
    for text in texts:
        board = parse_board(text)
        if board.file_name in {other.file_name for other in boards}:
            raise UsageError(f"--on {board.name} is given twice; name each board once")
        boards.append(board)
    return boards
