"""OpenSSH's own client, as a process: its configuration, its keys, its known hosts, its questions.

Nothing here weakens what the user set up: an unknown host key is refused (or asked about, in a terminal), and passwords
are OpenSSH's business alone.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING

from toolkit.errors import MissingError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from toolkit.remote.boards import Board

__all__ = ["BOOT", "NO_PYTHON", "PYTHONS", "reason", "remote_command", "ssh_command", "start"]

PYTHONS = ("python3", "python3.13", "python3.12", "python3.11")
"""Looked for on a board where none is named: the first that is new enough, else the first."""

NO_PYTHON = "@toolkit-no-python"
"""What a board says that has none of them."""

# One line without a single quote, so that every login shell hands it on: reads the agent's length and source, runs it.
BOOT = (
    "import sys; "
    'sys.version_info < (3, 9) and sys.exit("@toolkit-old-python %d.%d" % sys.version_info[:2]); '
    "source = sys.stdin.buffer; "
    'names = {"__name__": "toolkit_board"}; '
    'exec(compile(source.read(int(source.readline())), "agent", "exec"), names); '
    'names["main"]()'
)
_FIND = (
    "run=$1; shift; "
    'for each in "$@"; do '
    '"$each" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" </dev/null >/dev/null 2>&1 '
    '&& exec "$each" -I -c "$run"; done; '
    'for each in "$@"; do command -v "$each" >/dev/null 2>&1 && exec "$each" -I -c "$run"; done; '
    f"echo {NO_PYTHON} >&2; exit 127"
)
_HOME = 'case $2 in "~/"*) each=$HOME/${2#??}; run=$1; shift 2; set -- "$run" "$each" "$@";; esac; '


def remote_command(pythons: Sequence[str] = PYTHONS) -> str:
    """What the board's login shell is given, whichever that is: find a Python, and let it run `BOOT`.

    Args:
        pythons: names or paths, the best first; "~/" is the board's home.
    """
    return " ".join(map(shlex.quote, ("exec", "sh", "-c", _HOME + _FIND, "toolkit", BOOT, *pythons)))


def ssh_command(board: Board, *, interactive: bool, config: Path | None, alive: int) -> list[str]:
    """The client's command line up to the remote command.

    Args:
        board: which.
        interactive: OpenSSH may ask on the terminal; otherwise it fails where it would have to.
        config: a configuration in place of the user's.
        alive: seconds between two signs of life; after three without an answer the board is gone.

    Raises:
        MissingError: no OpenSSH here.
    """
    program = shutil.which("ssh")
    if program is None:
        raise MissingError("there is no ssh here; install OpenSSH's client (Debian: apt-get install openssh-client)")
    options = {
        "BatchMode": "no" if interactive else "yes",
        "ConnectTimeout": "15",
        "ServerAliveInterval": str(alive),
        "ServerAliveCountMax": "3",
        "LogLevel": "ERROR",  # no banners
        # What a configuration may say for people at a prompt, and what a pipe of bytes must not have.
        "RequestTTY": "no",
        "RemoteCommand": "none",
        "ControlMaster": "no",
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "EscapeChar": "none",
    }
    chosen = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return [program, *(("-F", str(config)) if config else ()), *chosen, *board.destination]


def start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start the client so that Ctrl-C does not end it: the board is told to clean up first.

    It stays in the terminal's session, where it may ask for a password.
    """
    # A shell is the one way to start a process with a signal ignored that is safe beside threads; ssh leaves it so.
    wrapped = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command]
    return subprocess.Popen(wrapped, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def reason(said: str, code: int | None, board: Board, config: Path | None = None) -> str:
    """Why a connection did not come about: what happened and what to do, in one phrase.

    Args:
        said: the client's standard error.
        code: how it ended; None: not yet.
        board: which.
        config: see `ssh_command`.
    """
    chosen = ("-F", str(config)) if config else ()
    by_hand = shlex.join(("ssh", *chosen, *(word for word in board.destination if word != "--")))
    for sign, text in (
        (
            "REMOTE HOST IDENTIFICATION HAS CHANGED",
            f"its host key is another than the one known here; find out why, then see: ssh-keygen -R {board.host}",
        ),
        (
            "Host key verification failed",
            f"its host key is not known here; connect once by hand and compare the fingerprint: {by_hand}",
        ),
        ("Permission denied", f"it does not let this user in; see that this works without a question: {by_hand} true"),
        ("Too many authentication failures", f"it does not let this user in; try by hand: {by_hand} true"),
        ("Could not resolve hostname", "no such host; check its name"),
        ("Connection refused", "nothing listens there; check that sshd runs, and the port"),
        ("No route to host", "it cannot be reached; check that it is on, and in this network"),
        ("Network is unreachable", "it cannot be reached; check this machine's network"),
        ("onnection timed out", "it does not answer; check that it is on, and in this network"),
    ):
        if sign in said:
            return text
    last = (said.strip().splitlines() or [""])[-1].strip()
    how = "there is no connection" if code in (None, 255) else f"its shell ended with exit code {code}"
    return f"{how}{f' ({last})' if last else ''}; try by hand: {by_hand} true"
