"""Whatever is killed, the run ends, nothing is left open and nothing is half listed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.conftest import QUICK, Fleet, eventually
from worker.local.sample import load_sample
from worker.local.stack import DATABASE, Stack


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """One worker: when it is killed, nobody is left."""
    with Stack(workers=1, flower=False, settings=QUICK) as stack:
        load_sample(stack.postgres, DATABASE, scale=2)
        yield Fleet(stack)


def kill_worker(fleet: Fleet) -> None:
    """-9 to the worker and its pool, as the kernel's OOM killer or a power cut would."""
    fleet.stack.fleet.workers["worker1"].kill()


def revive(fleet: Fleet) -> None:
    fleet.stack.fleet.workers["worker1"].start()


def running(fleet: Fleet, run_id: str, step: str) -> Callable[[], bool]:
    return lambda: any(found.state == "running" for found in fleet.ledger.steps(run_id, name=step))


def started(fleet: Fleet) -> str:
    return str(fleet("backup", "--no-wait", "--json").json["run_id"])


def ends_verified(fleet: Fleet, run_id: str) -> None:
    eventually(lambda: not fleet.ledger.run(run_id).open, 90)
    run = fleet.ledger.run(run_id)
    assert run.state == "verified", run.error
    eventually(lambda: [s.state for s in fleet.ledger.steps(run_id, name="backup.sweep")] == ["done"])
    assert not fleet.open_uploads()
    assert not (Path(fleet.stack.env["PGFLEET_SPOOL"]) / "runs" / run_id).exists()
    stems = {key.partition(".")[0] for key in fleet.stored() if not key.startswith("pgfleet-audit-")}
    assert stems == {run.backup_id}
    for listed in fleet("list", "--json").json:
        assert {copy["state"] for copy in listed["copies"]} == {"verified"}


def processes(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            if Path(argv[0].decode()).name == word:
                found.append(int(entry.name))
    return found


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def test_killed_while_dumping(fleet: Fleet) -> None:
    with psycopg.connect(fleet.stack.postgres.dsn(DATABASE)) as blocker:
        blocker.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
        run_id = started(fleet)
        eventually(running(fleet, run_id, "backup.dump"))
        kill_worker(fleet)
    revive(fleet)
    ends_verified(fleet, run_id)


def test_killed_while_encrypting(fleet: Fleet) -> None:
    run_id = started(fleet)
    before = set(processes("gpg"))

    def encrypting() -> list[int]:
        return [pid for pid in set(processes("gpg")) - before if b"--encrypt" in _argv(pid)]

    (gpg, *_) = eventually(encrypting, every=0.002)
    with frozen(gpg):
        assert running(fleet, run_id, "backup.encrypt")()
        kill_worker(fleet)
        eventually(lambda: gpg not in processes("gpg"))  # it died with its worker, frozen or not
    revive(fleet)
    ends_verified(fleet, run_id)


def test_killed_while_uploading_and_the_upload_is_resumed(fleet: Fleet) -> None:
    run_id = started(fleet)
    eventually(
        lambda: any(
            s.state == "done" for s in fleet.ledger.steps(run_id, name="backup.upload_part", branch="s3")
        ),
        every=0.002,
    )
    with frozen(fleet.stack.s3.child.pid):
        eventually(running(fleet, run_id, "backup.upload_part"))
        kill_worker(fleet)
    done = {s.id for s in fleet.ledger.steps(run_id, name="backup.upload_part") if s.state == "done"}
    revive(fleet)
    ends_verified(fleet, run_id)
    steps = list(fleet.ledger.steps(run_id, name="backup.upload_part"))
    assert {s.attempts for s in steps if s.id in done} == {1}, "a part that was there is not sent again"
    assert any(s.attempts > 1 for s in steps)


def test_the_broker_comes_back_empty(fleet: Fleet) -> None:
    with psycopg.connect(fleet.stack.postgres.dsn(DATABASE)) as blocker:
        blocker.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
        run_id = started(fleet)
        eventually(running(fleet, run_id, "backup.dump"))
        fleet.stack.valkey.restart(empty=True)
    ends_verified(fleet, run_id)


def _argv(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []
