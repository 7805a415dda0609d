"""Long-lived child processes (servers): started, awaited until they answer, stopped by pid, never orphaned.

A child is a session of its own, so the terminal's ctrl-C does not reach it. It gets `death_signal` from the
kernel when we die, kill -9 included (prctl(2), PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from worker.errors import PgfleetError

log = logging.getLogger("pgfleet.local")

_PROBE_SECONDS = 0.02
_TAIL_BYTES = 4096
_TAIL_LINES = 15
# Runs in the child before the program; preexec_fn would be unsafe with threads. The signal is asked for after
# the change of user, which clears it; a parent that died before the call is no longer our parent.
_PRELUDE = """
import ctypes, os, signal, sys
parent, death_signal, uid, gid = map(int, sys.argv[1:5])
try:
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    ctypes.CDLL(None).prctl(1, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(125)
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.execv(sys.argv[5], sys.argv[5:])
except OSError as error:
    sys.stderr.write(f"cannot execute {sys.argv[5]}: {error.strerror}\\n")
    os._exit(126)
"""
# The kernel sends the death signal when the thread that created the child ends, so all are created by one
# thread that lives as long as the process.
_spawner = ThreadPoolExecutor(1, thread_name_prefix="spawner")


@dataclass(frozen=True, slots=True)
class User:
    """Whom a server runs as when we are root."""

    name: str
    uid: int
    gid: int


class Child:
    """One server process. It can be started again after `stop`; its log is appended to.

    log: where stdout and stderr go; None leaves the child our terminal, with its signals (foreground).
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str],
        log: Path | None,
        cwd: Path | None = None,
        user: User | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
        stop_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self.argv = [str(word) for word in argv]
        self._env = dict(env)
        self._log = log
        self._cwd = cwd
        self._user = user
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._told = False

    @property
    def pid(self) -> int:
        """Of the running (or just ended) process. Raises PgfleetError when it was not started."""
        if self._process is None:
            raise PgfleetError(f"{self.name} is not running.", "Start it first.")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and not self._ended(0)

    def start(self) -> None:
        """Raises PgfleetError when it runs already."""
        if self._process is not None:
            raise PgfleetError(f"{self.name} was started already.", "Stop it first.")
        self._told = False
        uid, gid = (self._user.uid, self._user.gid) if self._user else (-1, -1)
        numbers = [str(number) for number in (os.getpid(), int(self._death_signal), uid, gid)]
        argv = [sys.executable, "-I", "-S", "-c", _PRELUDE, *numbers, *self.argv]
        if self._log is None:
            self._process = _spawner.submit(self._popen, argv, None).result()
        else:
            with self._log.open("ab") as output:
                self._process = _spawner.submit(self._popen, argv, output).result()
        log.debug("started", extra={"action": "child.start", "child": self.name, "pid": self.pid})

    def _popen(self, argv: list[str], output: IO[bytes] | None) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv,
            env=self._env,
            cwd=self._cwd,
            stdin=None if output is None else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=output is not None,
        )

    def wait_ready(self, probe: Callable[[], bool], seconds: float) -> None:
        """Until `probe` is true. Raises PgfleetError, with the log's end, when it ends or takes too long."""
        deadline = time.monotonic() + seconds
        self.check(_PROBE_SECONDS)
        while not probe():
            self.check(_PROBE_SECONDS)
            if time.monotonic() > deadline:
                raise PgfleetError(f"{self.name} was not ready after {seconds:.0f} s.", self.explain())

    def check(self, seconds: float = 0) -> None:
        """Raises PgfleetError, with the log's end, when it has ended by itself, or does within `seconds`."""
        assert self._process is not None
        if self._ended(seconds):
            code = self._reap(self._process)
            how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
            raise PgfleetError(f"{self.name} ended by itself ({how}).", self.explain())

    def wait(self, seconds: float | None = None) -> int:
        """Its exit code, 128 + N when signal N ended it. Raises PgfleetError when it takes longer."""
        assert self._process is not None
        if not self._ended(seconds):
            raise PgfleetError(f"{self.name} did not end within {seconds} s.", self.explain())
        code = self._reap(self._process)
        self._process = None
        return code if code >= 0 else 128 - code

    def send(self, number: signal.Signals) -> None:
        """A signal to the process alone; none when it has ended."""
        if self.running:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """The stop signal, once; `stop` waits for what comes of it."""
        if not self._told and self.running:
            self._told = True
            self.send(self._stop_signal)

    def stop(self) -> None:
        """The stop signal, the deadline, then SIGKILL to whatever is left of its session. Idempotent."""
        if self._process is None:
            return
        self.terminate()
        if not self._ended(self._stop_seconds):
            log.warning("killed", extra={"action": "child.kill", "child": self.name, "pid": self.pid})
        self.kill()

    def kill(self) -> None:
        """SIGKILL to its whole session, and reap it. Idempotent."""
        if self._process is not None:
            self._reap(self._process)
            self._process = None

    def tail(self) -> str:
        """The last lines of its log."""
        if self._log is None or not self._log.exists():
            return ""
        with self._log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])

    def explain(self) -> str:
        """The end of its log, as an error's hint."""
        return f"Its log ends with:\n{self.tail()}" if self.tail() else "It wrote nothing to its log."

    def _ended(self, seconds: float | None) -> bool:
        """Has it ended within so many seconds (None: for ever)? It is left to be reaped."""
        assert self._process is not None
        if self._process.returncode is not None:
            return True
        descriptor = os.pidfd_open(self._process.pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            return bool(poll.poll(None if seconds is None else seconds * 1000))
        finally:
            os.close(descriptor)

    def _reap(self, process: subprocess.Popen[bytes]) -> int:
        if process.returncode is None:  # not reaped, so nobody else can have its pid, nor its group's
            with suppress(ProcessLookupError):
                (os.kill if self._log is None else os.killpg)(process.pid, signal.SIGKILL)
        return process.wait()
