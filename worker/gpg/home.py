"""A private GnuPG home, how gpg is started in it, and the life of its agent."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import gnupg

from worker import process
from worker.errors import Cancelled, ConfigError, MissingDependency

# python-gnupg logs the beginning of the keys that it scans at DEBUG: of a private key that is a secret.
logging.getLogger("gnupg").setLevel(logging.CRITICAL)

_OLDEST = (2, 2)  # --pinentry-mode, --import-options show-only, DECRYPTION_KEY
_LONGEST_SOCKET = 107  # bytes of a path in sockaddr_un, less the final NUL
_AGENT_ENDS_SECONDS = 5.0
_OURS = b"ours"
_STATUS = "[GNUPG:] "


@dataclass(frozen=True, slots=True)
class Status:
    """What gpg said on its status-fd (GnuPG's doc/DETAILS); decisions are made from this, never from prose.

    detail: the last line of prose, for people. stdout: what was captured.
    """

    returncode: int
    lines: tuple[tuple[str, ...], ...]
    detail: str
    stdout: bytes

    def said(self, *keywords: str) -> bool:
        return any(line[0] in keywords for line in self.lines)

    def values(self, keyword: str) -> list[tuple[str, ...]]:
        return [line[1:] for line in self.lines if line[0] == keyword]

    def error_codes(self, where: str) -> set[int]:
        """libgpg-error's codes in the ERROR lines of a place; the upper bits name a source."""
        return {int(value[1]) & 0xFFFF for value in self.values("ERROR") if value[0] == where}


class Home:
    """`path` is made (mode 0700) when it is missing. Raises ConfigError, MissingDependency."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK, effective_ids=True):
            raise self._unusable("no right to write to it")
        self.keyring = self._keyring()
        self._socket = self._agent_socket()
        if not (self.path / "trustdb.gpg").exists():  # gpg fails to show an expired key without one
            self._run(["--no-options", "--no-autostart", "--check-trustdb"], None, None, None, None)

    def run(
        self,
        *arguments: str,
        stdin: IO[bytes] | None = None,
        input: bytes | None = None,
        stdout: Callable[[bytes | memoryview], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Status:
        """Start gpg for something that needs no agent, and wait for it.

        Raises Cancelled when `stop` was set, and whatever `stdout` raises.
        """
        return self._run([*_options(agent=False), *arguments], stdin, input, stdout, stop)

    def run_private(
        self,
        passphrase_file: Path | None,
        *arguments: str,
        stdin: IO[bytes] | None = None,
        input: bytes | None = None,
        stdout: Callable[[bytes | memoryview], None] | None = None,
        stop: threading.Event | None = None,
    ) -> Status:
        """`run` with the private keys at hand. Raises ConfigError too, when the passphrase cannot be read."""
        options = _options(agent=True)
        if passphrase_file is not None:
            if not os.access(passphrase_file, os.R_OK, effective_ids=True):
                raise ConfigError(
                    f"PGFLEET_GPG_PASSPHRASE_FILE: {passphrase_file} cannot be read.",
                    "Name a file that this worker may read.",
                )
            options += ["--passphrase-file", str(passphrase_file)]
        with self._agent():
            return self._run([*options, *arguments], stdin, input, stdout, stop)

    def _run(
        self,
        arguments: list[str],
        stdin: IO[bytes] | None,
        input: bytes | None,
        stdout: Callable[[bytes | memoryview], None] | None,
        stop: threading.Event | None,
    ) -> Status:
        argv = ["gpg", "--homedir", str(self.path), "--batch", "--no-tty", "--status-fd", "2", *arguments]
        finished = process.run(argv, input=input, stdin=stdin, stdout=stdout, stop=stop)
        if finished.killed:
            raise Cancelled("gpg was stopped.", "")
        return _read_status(finished)

    @contextmanager
    def _agent(self) -> Iterator[None]:
        """gpg may start its agent (which alone touches private keys) in this block; the last one out ends it.

        Others, here or in another process, may be inside at the same time: each holds a shared lock. An agent
        that was there before all of them is the user's own, and stays.
        """
        lock = os.open(self.path / ".pgfleet-agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH)
            if not self._agent_answers():
                os.pwrite(lock, _OURS, 0)
            try:
                yield
            finally:
                if _alone(lock) and os.pread(lock, len(_OURS), 0) == _OURS:
                    self._end_agent()
                    os.ftruncate(lock, 0)
        finally:
            os.close(lock)

    def _end_agent(self) -> None:
        process.run(["gpgconf", "--homedir", str(self.path), "--kill", "gpg-agent"])
        deadline = time.monotonic() + _AGENT_ENDS_SECONDS
        while self._agent_answers() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _agent_answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self._socket) == 0

    def _agent_socket(self) -> bytes:
        """Where the agent listens. gpg reports errors even without one when that path is too long."""
        finished = process.run(["gpgconf", "--homedir", str(self.path), "--list-dirs", "agent-socket"])
        path = finished.stdout.removesuffix(b"\n")
        excess = len(path + b".browser") - _LONGEST_SOCKET  # the longest of the agent's sockets
        if excess > 0:
            raise ConfigError(
                f"PGFLEET_GPG_HOME: {self.path} is too long by {excess} bytes for the socket of gpg's agent.",
                "Name a directory with a shorter path.",
            )
        return path

    def _keyring(self) -> Any:
        """python-gnupg, to look at public keys."""
        try:
            keyring = gnupg.GPG(
                gnupghome=str(self.path), options=_options(agent=False), env=process.base_environment()
            )
        except OSError as error:
            raise MissingDependency(
                "The program gpg is not installed here.", "Install GnuPG 2.2 or newer (Debian: gnupg)."
            ) from error
        except ValueError as error:
            raise self._unusable(str(error)) from error
        if keyring.version is None or keyring.version < _OLDEST:
            raise MissingDependency(f"gpg {keyring.version} is too old.", "Install GnuPG 2.2 or newer.")
        # Not Latin-1, its default: that takes the second byte of Å (and of Cyrillic х) for the end of a line.
        keyring.encoding, keyring.decode_errors = "utf-8", "replace"
        return keyring

    def _unusable(self, why: str) -> ConfigError:
        return ConfigError(
            f"PGFLEET_GPG_HOME: {self.path} cannot be used: {why}.",
            "Name a directory that this worker may write to.",
        )


def _alone(lock: int) -> bool:
    """Take the lock for us only, if nobody else has it."""
    fcntl.flock(lock, fcntl.LOCK_UN)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _options(agent: bool) -> list[str]:
    """No configuration file has a say. Keys are trusted because they were configured, by full fingerprint."""
    options = ["--no-options", "--trust-model", "always", "--pinentry-mode", "loopback"]
    return options if agent else [*options, "--no-autostart"]


def _read_status(finished: process.Finished) -> Status:
    lines: list[tuple[str, ...]] = []
    detail = ""
    for line in finished.stderr.split("\n"):  # splitlines() would obey a user id
        if line.startswith(_STATUS):
            lines.append(tuple(line.removeprefix(_STATUS).split()))
        elif line.startswith("gpg: "):
            detail = line.removeprefix("gpg: ")
    return Status(finished.returncode, tuple(line for line in lines if line), detail, finished.stdout)
