"""Real workers on ledgers of other versions."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.services import wait_until
from worker.ledger import schema
from worker.local.valkey import Valkey

DATA = Path(__file__).parents[1] / "data" / "ledger"
#: Without Celery's banner; no database and no destination is needed to take nothing.
WORKER = (sys.executable, "-m", "celery", "--quiet", "-A", "worker.app", "worker", "-Q", "control", "-c", "1",
          "--hostname", "new@b", "--without-gossip", "--without-mingle")  # fmt: skip


class Host:
    """A host whose ledger is of version 1, and the one worker of this version on it."""

    def __init__(self, place: Path, broker_url: str) -> None:
        self.path = place / "ledger.sqlite"
        self._env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(place),
            "PGFLEET_STATE_DIR": str(place),
            "PGFLEET_SPOOL": str(place / "spool"),
            "PGFLEET_LEDGER_URL": f"sqlite:///{self.path}",
            "PGFLEET_BROKER_URL": broker_url,
        }
        self._workers: list[subprocess.Popen[str]] = []
        for part in ("sqlite", "rows"):
            self.sql((DATA / f"version-1.{part}.sql").read_text())

    def sql(self, script: str) -> None:
        conn = sqlite3.connect(self.path)
        conn.executescript(script)
        conn.close()

    def ask(self, query: str) -> list[tuple[object, ...]]:
        conn = sqlite3.connect(self.path)
        try:
            return conn.execute(query).fetchall()
        finally:
            conn.close()

    def start(self) -> subprocess.Popen[str]:
        self._workers.append(
            subprocess.Popen(
                WORKER, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
        return self._workers[-1]

    def pgfleet(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = (sys.executable, "-m", "worker", *words)
        return subprocess.run(argv, env=self._env, capture_output=True, text=True, timeout=60, check=False)

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.communicate()


@pytest.fixture
def host(tmp_path: Path, valkey: Valkey) -> Iterator[Host]:
    made = Host(tmp_path, valkey.url)
    yield made
    made.close()


def said(worker: subprocess.Popen[str], seconds: float = 60) -> str:
    """All that it said until it ended."""
    return worker.communicate(timeout=seconds)[0]


def eventually(what: Callable[[], bool]) -> None:
    assert wait_until(what, 60)


def test_a_worker_waits_for_the_old_ones_migrates_and_says_goodbye(host: Host) -> None:
    host.sql(f"INSERT INTO workers VALUES ('old@a', 'a', '[\"dump\"]', 's1', '0.0.9', {time.time()})")
    refused = host.start()
    told = said(refused)
    assert refused.returncode == 1
    assert "still at work, of a version that could not go on: old@a (pgfleet 0.0.9)." in told
    assert "Traceback" not in told
    command = host.pgfleet("runs")
    assert command.returncode == 1
    assert command.stderr.count("\n") == 2, command.stderr

    host.sql("UPDATE workers SET seen_at = seen_at - 61")
    worker = host.start()
    eventually(lambda: host.ask("SELECT version FROM ledger_version") == [(schema.VERSION,)])
    signed = "SELECT schema, stopped_at IS NULL FROM workers WHERE name = 'new@b'"
    eventually(lambda: host.ask(signed) == [(schema.VERSION, 1)])
    worker.send_signal(signal.SIGTERM)
    said(worker)
    assert worker.returncode == 0
    assert host.ask(signed) == [(schema.VERSION, 0)]


def test_a_worker_ends_when_the_fleet_was_upgraded_without_it(host: Host) -> None:
    worker = host.start()
    eventually(lambda: bool(host.ask("SELECT 1 FROM workers WHERE name = 'new@b'")))
    host.sql("UPDATE ledger_version SET version = 99, oldest = 99")
    told = said(worker)
    assert "have version 99" in told
    assert worker.returncode == 3
