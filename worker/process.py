"""The only starter of finite child processes: pg_dump, gpg, docker.

A child is a session (so a process group) of its own and dies with us: the kernel sends it SIGKILL when the
thread that started it ends, and `run` keeps that thread until the child is gone. Its environment is minimal
and its files are private (umask 077). Our own environment is read only to pass on what is named here.
"""

from __future__ import annotations

import fcntl
import logging
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Literal

from worker.errors import MissingDependency, PgfleetError

log = logging.getLogger("pgfleet.process")

Killed = Literal["", "stopped", "timeout"]
Sink = Callable[[memoryview | bytes], None]

_MIB = 1024 * 1024
_STDERR_TAIL = 64 * 1024
_GRACE_SECONDS = 5.0
_DRAIN_SECONDS = 1.0  # how long to go on reading from grandchildren once the child itself has ended
_TICK_SECONDS = 0.2  # how soon `stop` is noticed
_INHERITED = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
# Runs in the child before the program, because preexec_fn is unsafe with threads. PR_SET_PDEATHSIG is 1;
# a parent that died before the call is our parent no more. Python ignores SIGPIPE, which would outlive exec.
_PRELUDE = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    os._exit(125)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
try:
    os.execv(sys.argv[2], sys.argv[3:])
except OSError as error:
    sys.stderr.write(f"cannot execute {sys.argv[2]}: {error.strerror}\\n")
    os._exit(126)
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """stderr: its last 64 KiB. stdout: empty when it went elsewhere. killed: why we ended it, or ""."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: str
    seconds: float
    killed: Killed = ""


def base_environment(inherit: Sequence[str] = ()) -> dict[str, str]:
    """What every child gets, and the variables named in `inherit` where we have them."""
    passed = {name: os.environ[name] for name in (*_INHERITED, *inherit) if name in os.environ}
    return {"PATH": os.defpath, **passed, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    inherit: Sequence[str] = (),
    input: bytes | None = None,
    stdin: IO[bytes] | None = None,
    stdout: IO[bytes] | Sink | None = None,
    timeout: float | None = None,
    stop: threading.Event | None = None,
    poll: Callable[[], None] | None = None,
    poll_seconds: float = 0.5,
    stdout_limit: int = 16 * _MIB,
) -> Finished:
    """Run a program to its end. A non-zero exit is not an error here.

    stdout: a file that the child writes to itself, a function that gets each chunk (valid only during the
    call), or None to capture at most `stdout_limit` bytes. `poll` is called every `poll_seconds`. `timeout`
    (seconds) and `stop` end the whole process group: SIGTERM, 5 s, SIGKILL. What `stdout` or `poll` raises
    ends it too, and is raised again. `inherit` names variables of our own environment to pass on.
    Raises MissingDependency when there is no such program, PgfleetError when the captured output is too long.
    """
    environment = {**base_environment(inherit), **(env or {})}
    program = shutil.which(argv[0], path=environment["PATH"])
    if program is None:
        raise MissingDependency(
            f"The program {argv[0]} is not installed here.", "Install it, or put its directory on PATH."
        )
    captured = _Capture(argv[0], stdout_limit)
    sink = captured if stdout is None else stdout if callable(stdout) else None
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _PRELUDE, str(os.getpid()), program, *argv],
        stdin=subprocess.PIPE if input is not None else (stdin or subprocess.DEVNULL),
        stdout=subprocess.PIPE if sink is not None else stdout,  # type: ignore[arg-type]  # a file, then
        stderr=subprocess.PIPE,
        bufsize=0,
        env=environment,
        start_new_session=True,
        umask=0o077,
    )
    child = _Child(process, sink, input)
    try:
        child.attend(stop, started + timeout if timeout is not None else None, poll, poll_seconds)
    except BaseException:
        child.end()
        raise
    finally:
        child.close()
    finished = Finished(
        tuple(argv),
        process.returncode,
        bytes(captured.data),
        child.stderr.decode(errors="replace"),
        time.monotonic() - started,
        child.killed,
    )
    log.debug(
        "process ended",
        extra={
            "action": "process.run",
            "program": os.path.basename(program),
            "returncode": finished.returncode,
            "seconds": round(finished.seconds, 3),
            "killed": finished.killed,
        },
    )
    return finished


class _Capture:
    def __init__(self, program: str, limit: int) -> None:
        self.data = bytearray()
        self._program = program
        self._limit = limit

    def __call__(self, chunk: memoryview | bytes) -> None:
        if len(self.data) + len(chunk) > self._limit:
            raise PgfleetError(
                f"{self._program} wrote more than {self._limit} bytes, which was not expected.",
                "Please report this with the command that you ran.",
            )
        self.data += chunk


class _Child:
    """One running child: its pipes are served and its end is awaited by one thread, so memory is bounded."""

    def __init__(self, process: subprocess.Popen[bytes], sink: Sink | None, input_: bytes | None) -> None:
        self.stderr = bytearray()
        self.killed: Killed = ""
        self._process = process
        self._sink = sink
        self._input = memoryview(input_ or b"")
        self._buffer = memoryview(bytearray(_MIB if sink is not None else _STDERR_TAIL))
        self._selector = selectors.DefaultSelector()
        self._kill_at: float | None = None
        self._serve(process.stdout, selectors.EVENT_READ, self._read_stdout)
        self._serve(process.stderr, selectors.EVENT_READ, self._read_stderr)
        self._serve(process.stdin, selectors.EVENT_WRITE, self._write_stdin)
        if process.stdout is not None:
            with suppress(OSError):  # beyond the user's limit, the default of 64 KiB is only slower
                fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, _MIB)

    def attend(
        self,
        stop: threading.Event | None,
        deadline: float | None,
        poll: Callable[[], None] | None,
        poll_seconds: float,
    ) -> None:
        """Serve the pipes until the child has ended, and reap it with what is left of its group."""
        next_poll = time.monotonic() + poll_seconds
        drain_until: float | None = None
        while True:
            pipes = bool(self._selector.get_map())
            for key, _ in self._selector.select(min(poll_seconds, _TICK_SECONDS) if pipes else 0):
                key.data(key.fileobj)
            now = time.monotonic()
            if self._exited():
                drain_until = drain_until or now + _DRAIN_SECONDS
                if not self._selector.get_map() or now >= drain_until:
                    break
                continue
            self._maybe_kill(now, stop, deadline)
            if poll is not None and not self.killed and now >= next_poll:
                poll()
                next_poll = time.monotonic() + poll_seconds
            if not pipes:
                time.sleep(min(poll_seconds, 0.01))
        self._signal(signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """TERM, 5 s, KILL, reap: nothing of the group is left."""
        self.close()
        try:
            self._signal(signal.SIGTERM)
            deadline = time.monotonic() + _GRACE_SECONDS
            while not self._exited() and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def close(self) -> None:
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _maybe_kill(self, now: float, stop: threading.Event | None, deadline: float | None) -> None:
        if self._kill_at is not None:
            if now >= self._kill_at:
                self._signal(signal.SIGKILL)
            return
        if stop is not None and stop.is_set():
            self.killed = "stopped"
        elif deadline is not None and now >= deadline:
            self.killed = "timeout"
        else:
            return
        self._kill_at = now + _GRACE_SECONDS
        self._signal(signal.SIGTERM)

    def _exited(self) -> bool:
        """Ended, but not reaped: until then nobody else can get its pid, nor its group's."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _serve(self, pipe: IO[bytes] | None, event: int, handler: Callable[[IO[bytes]], None]) -> None:
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, event, handler)

    def _drop(self, pipe: IO[bytes]) -> None:
        self._selector.unregister(pipe)
        pipe.close()

    def _read(self, pipe: IO[bytes]) -> memoryview:
        count = os.readv(pipe.fileno(), [self._buffer])
        if not count:
            self._drop(pipe)
        return self._buffer[:count]

    def _read_stdout(self, pipe: IO[bytes]) -> None:
        chunk = self._read(pipe)
        if chunk and self._sink is not None and not self.killed:
            self._sink(chunk)

    def _read_stderr(self, pipe: IO[bytes]) -> None:
        self.stderr += self._read(pipe)
        del self.stderr[:-_STDERR_TAIL]

    def _write_stdin(self, pipe: IO[bytes]) -> None:
        try:
            self._input = self._input[os.write(pipe.fileno(), self._input) :] if self._input else self._input
        except BrokenPipeError:  # it wants no more: its exit code says whether that is a failure
            self._input = self._input[:0]
        if not self._input:
            self._drop(pipe)
