"""Operating it: ctrl-C, a PostgreSQL ledger, roles, a server that is too new."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.acceptance.conftest import Fleet, eventually
from worker.local.postgres import Postgres
from worker.local.stack import DATABASE


@contextmanager
def locked(fleet: Fleet) -> Iterator[None]:
    """A table that nobody can read: a dump waits."""
    with psycopg.connect(fleet.stack.postgres.dsn(DATABASE)) as blocker:
        blocker.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
        yield


def start(fleet: Fleet, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "worker", *arguments],
        env={**fleet.stack.environment, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def newest(fleet: Fleet) -> str:
    return fleet.ledger.runs(kind="backup", limit=1)[0].id


def test_ctrl_c_while_waiting_leaves_the_run_going(fleet: Fleet) -> None:
    with locked(fleet):
        waiting = start(fleet, "backup")
        eventually(lambda: any(run.state == "running" for run in fleet.ledger.runs(kind="backup")))
        run_id = newest(fleet)
        waiting.send_signal(signal.SIGINT)
        _, said = waiting.communicate(timeout=30)
        assert waiting.returncode == 130
        assert f"pgfleet cancel {run_id}" in said
        assert fleet.ledger.run(run_id).open
    eventually(lambda: not fleet.ledger.run(run_id).open, 90)
    assert fleet.ledger.run(run_id).state == "verified"


def test_ctrl_c_ends_a_run_here_and_clears_up(fleet: Fleet) -> None:
    before = {run.id for run in fleet.ledger.runs()}
    with locked(fleet):
        working = start(fleet, "backup", "--here")
        (run_id,) = eventually(lambda: {run.id for run in fleet.ledger.runs()} - before)
        eventually(lambda: fleet.ledger.run(run_id).state == "running")
        working.send_signal(signal.SIGINT)
        eventually(lambda: fleet.ledger.run(run_id).state == "cancelled")
    working.communicate(timeout=60)
    assert working.returncode == 130
    assert not (Path(fleet.stack.env["PGFLEET_SPOOL"]) / "runs" / run_id).exists()


def test_a_killed_run_here_is_finished_by_the_fleet(fleet: Fleet) -> None:
    before = {run.id for run in fleet.ledger.runs()}
    with locked(fleet):
        working = start(fleet, "backup", "--here")
        (run_id,) = eventually(lambda: {run.id for run in fleet.ledger.runs()} - before)
        eventually(lambda: fleet.ledger.run(run_id).state == "running")
        working.kill()
        working.communicate()
    eventually(lambda: not fleet.ledger.run(run_id).open, 90)
    assert fleet.ledger.run(run_id).state == "verified"


def test_a_ledger_in_postgresql(fleet: Fleet) -> None:
    pg = fleet.stack.postgres
    pg.createdb("ledger")
    url = f"postgresql://{pg.user}:{pg.password}@{pg.host}:{pg.port}/ledger"
    answer = fleet("backup", "--here", "--json", env={"PGFLEET_LEDGER_URL": url})
    assert answer.code == 0, answer.out + answer.err
    (run,) = fleet("runs", "--json", env={"PGFLEET_LEDGER_URL": url}).json
    assert run["state"] == "verified"
    pg.dropdb("ledger")


def test_a_worker_without_the_public_key_does_not_take_dumps(fleet: Fleet, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "celery", "-A", "worker.app", "worker", "-Q", "dump", "-n", "keyless"]
    env = {**fleet.stack.environment, "GNUPGHOME": str(tmp_path / "empty")}
    done = subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert done.returncode == 3
    assert "queue 'dump'" in done.stderr
    assert "Hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_with_a_misspelt_setting_does_not_start(fleet: Fleet, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "celery", "-A", "worker.app", "worker"]
    env = {**fleet.stack.environment, "PGFLEET_SPOOOL": "/nowhere"}
    done = subprocess.run(
        argv, env=env, capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert done.returncode == 3
    assert "PGFLEET_SPOOL" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_newer_than_the_client(fleet: Fleet, postgres_of: Callable[[int], Postgres]) -> None:
    newer = postgres_of(18)
    env = {
        "DB_HOST": newer.host, "DB_PORT": str(newer.port), "DB_USER": newer.user, "DB_PASSWORD": newer.password,
        "DB_NAME": "postgres", "PGFLEET_PG_BIN": str(fleet.stack.postgres.bin_dir), "PGFLEET_MAX_ATTEMPTS": "1",
    }  # fmt: skip
    answer = fleet("backup", "--here", "--json", env=env)
    assert answer.code == 2
    assert "18" in answer.json["error"]["message"]
    assert answer.json["error"]["hint"]
