"""A real OpenSSH server on this machine for tests: 127.0.0.1 alone, with keys, ports and logs of its own."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRED = os.environ.get("TOOLKIT_REQUIRE_SSH") == "1"
_RUN = 'exec sh -c "$SSH_ORIGINAL_COMMAND"'


@dataclass(frozen=True)
class Place:
    """A name for the server under which a login finds a temporary folder of its own.

    Attributes:
        name: for ``--on``.
        tmp: its TMPDIR, empty unless something was left there.
    """

    name: str
    tmp: Path

    def left_now(self) -> list[str]:
        """What stands there."""
        return sorted(path.name for path in self.tmp.iterdir())

    def left(self) -> list[str]:
        """What stands there once the far end had time to notice that it is alone."""
        for _ in range(100):
            if not self.left_now():
                break
            time.sleep(0.1)
        return self.left_now()


@dataclass
class Server:
    """A running server, and an ssh configuration that knows it.

    Attributes:
        folder: keys, configurations, log.
        config: for ``--ssh-config``.
    """

    folder: Path
    program: str
    port: int = 0
    names: set[str] = field(default_factory=set)
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    def start(self) -> None:
        """Make the keys, and start it.

        Raises:
            RuntimeError: it does not come up; the log is in the message.
        """
        self._key("host")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder / 'host'}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            "UsePAM no",
            "StrictModes no",  # of the folder that the keys are in
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 100",
            "PidFile none",
        ]
        file = self.folder / "sshd_config"
        file.write_text("\n".join(lines) + "\nPerSourcePenalties no\n")  # killed sessions count as crashes
        if subprocess.run([self.program, "-t", "-f", file], capture_output=True, check=False).returncode:
            file.write_text("\n".join(lines) + "\n")  # before OpenSSH 9.8 there were none
        (self.folder / "authorized_keys").touch()
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where it shuts its unprivileged part in
        with (self.folder / "log").open("wb") as log:
            command = [self.program, "-D", "-e", "-f", str(file)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                if connection.recv(4) == b"SSH-":
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"sshd does not come up: {(self.folder / 'log').read_text()[-500:]}")

    def stop(self) -> None:
        """End it with all its sessions."""
        if self.process is not None:
            for session in self.sessions():
                with suppress(ProcessLookupError):
                    os.kill(session, signal.SIGKILL)
            self.process.kill()
            self.process.wait()

    def place(
        self,
        name: str,
        *,
        before: str = "",
        known: bool = True,
        allowed: bool = True,
        user: str | None = None,
    ) -> Place:
        """A new name.

        Args:
            name: given once.
            before: shell commands ahead of what is asked for.
            known: its host key is in the list of known ones.
            allowed: its key lets the user in.
            user: another than this process'.
        """
        assert name not in self.names
        self.names.add(name)
        place = Place(name, self.folder / f"tmp of {name}")
        place.tmp.mkdir()
        self._key(name)
        if allowed:
            shell = f"export TMPDIR={shlex.quote(str(place.tmp))}; {before}{_RUN}".replace('"', '\\"')
            with (self.folder / "authorized_keys").open("a") as file:
                file.write(f'command="{shell}" {(self.folder / f"{name}.pub").read_text()}')
        if known:
            kind, key, *_ = (self.folder / "host.pub").read_text().split()
            with (self.folder / "known_hosts").open("a") as file:
                file.write(f"{name} {kind} {key}\n")
        with self.config.open("a") as file:
            file.write(
                f"Host {name}\n HostName 127.0.0.1\n Port {self.port}\n User {user or getpass.getuser()}\n"
                f" HostKeyAlias {name}\n IdentityFile {self.folder / name}\n IdentitiesOnly yes\n"
                f" IdentityAgent none\n UserKnownHostsFile {self.folder / 'known_hosts'}\n"
                " GlobalKnownHostsFile /dev/null\n"
            )
        return place

    def sessions(self) -> list[int]:
        """The server's processes that serve one connection each."""
        assert self.process is not None
        return _children(self.process.pid)

    def _key(self, name: str) -> None:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name)]
        subprocess.run(command, check=True, timeout=60)


def _children(pid: int) -> list[int]:
    """Children, and theirs, that are sshd too: with privilege separation a session is two processes."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, rest = stat.read_text().rsplit(")", 1)
            if int(rest.split()[1]) == pid and "(sshd" in name:
                found.append(int(stat.parent.name))
    return [*found, *(inner for each in found for inner in _children(each))]


@contextmanager
def server_or_skip(folder: Path) -> Iterator[Server]:
    """A server, until the end. What hinders it skips the test, and in CI fails it."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    if program is None or missing:
        assert not REQUIRED, "OpenSSH's server and client must be installed here"
        pytest.skip("OpenSSH's server and client are not installed (Debian: openssh-server, openssh-client)")
    server = Server(folder, program)
    try:
        try:
            server.start()
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            if REQUIRED:
                raise
            pytest.skip(f"sshd does not run here: {error}")
        yield server
    finally:
        server.stop()
