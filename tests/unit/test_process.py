"""Real children: what they get, how they end, and that none of them outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.errors import MissingDependency, PgfleetError
from worker.process import run

PYTHON = sys.executable
ROOT = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def read_pid(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def python(code: str) -> list[str]:
    return [PYTHON, "-c", code]


def test_captures_output_and_reports_the_exit_code() -> None:
    finished = run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (finished.returncode, finished.stdout, finished.stderr, finished.killed) == (
        3,
        b"out\n",
        "err\n",
        "",
    )
    assert finished.argv[0] == "sh"
    assert 0 < finished.seconds < 10


def test_a_missing_program_is_named() -> None:
    with pytest.raises(MissingDependency, match="pg_dampf") as caught:
        run(["pg_dampf", "--version"])
    assert caught.value.hint


def test_a_file_that_cannot_be_executed_says_why(tmp_path: Path) -> None:
    program = tmp_path / "broken"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    finished = run([str(program)])
    assert finished.returncode == 126
    assert "cannot execute" in finished.stderr


def test_the_environment_is_minimal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    monkeypatch.setenv("DOCKER_HOST", "unix:///x")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    finished = run(["/usr/bin/env"], env={"PGHOST": "here"}, inherit=["DOCKER_HOST"])
    names = dict(line.split("=", 1) for line in finished.stdout.decode().splitlines())
    assert set(names) - {"HOME", "TMPDIR", "PWD", "_", "SHLVL"} == {
        "PATH", "LANG", "LC_ALL", "TZ", "PGHOST", "DOCKER_HOST", "LD_LIBRARY_PATH",
    }  # fmt: skip
    assert (names["LC_ALL"], names["TZ"]) == ("C.UTF-8", "UTC")


def test_signals_and_file_modes_are_the_usual_ones(tmp_path: Path) -> None:
    status = run(["cat", "/proc/self/status"]).stdout.decode()
    ignored = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigIgn")), 16)
    assert not ignored >> (signal.SIGPIPE - 1) & 1
    run(["touch", str(tmp_path / "new")])
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o600


def test_input_and_stdin(tmp_path: Path) -> None:
    text = os.urandom(3 * 1024 * 1024)
    assert run(["cat"], input=text).stdout == text
    source = tmp_path / "source"
    source.write_bytes(text)
    with source.open("rb") as file:
        assert run(["cat"], stdin=file).stdout == text
    assert run(["cat"]).stdout == b""  # nobody is asked
    assert run(["true"], input=text).returncode == 0  # it did not read
    assert run(["cat"], input=b"").stdout == b""


def test_stdout_to_a_file(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        finished = run(["echo", "hello"], stdout=file)
    assert (tmp_path / "out").read_bytes() == b"hello\n"
    assert finished.stdout == b""


def test_stdout_to_a_function_is_whole_and_in_order() -> None:
    seen = bytearray()
    sizes = []

    def sink(chunk: memoryview | bytes) -> None:
        seen.extend(chunk)
        sizes.append(len(chunk))

    finished = run(["head", "-c", "20000000", "/dev/zero"], stdout=sink)
    assert finished.returncode == 0
    assert seen == bytes(20_000_000)
    assert max(sizes) <= 1024 * 1024


def test_what_the_sink_raises_ends_the_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def sink(chunk: memoryview | bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        run(["sh", "-c", f"echo $$ > {pid_file}; exec yes"], stdout=sink)
    assert not alive(read_pid(pid_file))


def test_captured_output_is_bounded() -> None:
    with pytest.raises(PgfleetError, match="yes wrote more than"):
        run(["yes"], stdout_limit=100_000)


def test_only_the_end_of_stderr_is_kept() -> None:
    finished = run(
        python("import sys; sys.stderr.write('x' * 300_000 + 'the end'); sys.stderr.buffer.write(b'\\xff')")
    )
    assert len(finished.stderr) == 64 * 1024
    assert finished.stderr.endswith("the end\ufffd")


def test_both_pipes_full_at_once_do_not_block() -> None:
    code = "import os; [os.write(fd, bytes(65536)) for _ in range(40) for fd in (1, 2)]"
    assert len(run(python(code), timeout=30).stdout) == 40 * 65536


def test_timeout() -> None:
    finished = run(["sleep", "60"], timeout=0.3)
    assert (finished.killed, finished.returncode) == ("timeout", -signal.SIGTERM)
    assert finished.seconds < 5


def test_stop_ends_the_whole_group(tmp_path: Path) -> None:
    stop, inner = threading.Event(), tmp_path / "inner"

    def poll() -> None:
        if inner.exists() and inner.read_text().endswith("\n"):
            stop.set()

    finished = run(
        ["sh", "-c", f"sleep 60 & echo $! > {inner}; wait"], stop=stop, poll=poll, poll_seconds=0.02
    )
    assert finished.killed == "stopped"
    until(lambda: not alive(read_pid(inner)))


def test_a_child_that_ignores_term_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.process._GRACE_SECONDS", 0.3)
    stop, ready = threading.Event(), bytearray()

    def sink(chunk: memoryview | bytes) -> None:
        ready.extend(chunk)
        stop.set()

    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    finished = run(python(code), stdout=sink, stop=stop)
    assert (finished.killed, finished.returncode, ready) == ("stopped", -signal.SIGKILL, b"ready\n")


def test_a_grandchild_that_holds_the_pipes_does_not_hold_us(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    finished = run(["sh", "-c", f"echo done; sleep 60 & echo $! > {inner}"])
    assert (finished.returncode, finished.stdout) == (0, b"done\n")
    assert finished.seconds < 10
    until(lambda: not alive(read_pid(inner)))


def test_what_poll_raises_ends_the_group(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"

    def poll() -> None:
        if pid_file.exists() and pid_file.read_text().endswith("\n"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", f"sleep 60 & echo $! > {pid_file}; wait"], poll=poll, poll_seconds=0.02)
    pid, deadline = read_pid(pid_file), time.monotonic() + 10
    while alive(pid):  # it is dead at once, and gone when init has reaped it
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_many_threads_at_once() -> None:
    results: list[bytes] = []

    def work(number: int) -> None:
        results.append(run(["echo", str(number)]).stdout)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=int) == [b"%d\n" % number for number in range(12)]


def test_kill_9_of_the_parent_leaves_no_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"from worker.process import run; run(['sh', '-c', 'echo $$ > {pid_file}; exec sleep 60'])"
    parent = subprocess.Popen([PYTHON, "-c", code], cwd=ROOT)
    try:
        child = read_pid(pid_file)
        assert alive(child)
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not alive(child))


def test_ctrl_c_of_the_parent_leaves_no_child(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"from worker.process import run; run(['sh', '-c', 'sleep 60 & echo $! > {pid_file}; wait'])"
    parent = subprocess.Popen([PYTHON, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        child = read_pid(pid_file)
        parent.send_signal(signal.SIGINT)
        assert parent.wait(10) != 0
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not alive(child))


def test_a_child_whose_parent_died_first_does_not_start(tmp_path: Path) -> None:
    """The window between fork and prctl: the prelude has another parent than it was told of."""
    from worker.process import _PRELUDE

    mark = tmp_path / "mark"
    argv = [
        PYTHON,
        "-I",
        "-S",
        "-c",
        _PRELUDE,
        "1" if os.getpid() != 1 else "2",
        "/bin/touch",
        "touch",
        str(mark),
    ]
    assert subprocess.run(argv, check=False).returncode == 125
    assert not mark.exists()
