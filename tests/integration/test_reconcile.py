"""What beat's tick does, against a real ledger."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from worker import flows, reconcile
from worker.config.load import load
from worker.ledger.model import NewRun, WorkerInfo
from worker.owner import me
from worker.steps.context import Adapters


def adapters(directory: Path, **more: str) -> Adapters:
    return Adapters(
        load(
            {
                "BACKUP_DIR": str(directory / "backups"),
                "PGFLEET_STATE_DIR": str(directory / "state"),
                "PGFLEET_SPOOL": str(directory / "spool"),
                "PGFLEET_LEDGER_URL": f"sqlite:///{directory / 'ledger.db'}",
                "GPG_RECIPIENT": "nobody@example.com",
                "PGFLEET_CLEANUP_SCHEDULE": "off",
                "PGFLEET_DRILL_SCHEDULE": "off",
                "PGFLEET_SCRUB_SCHEDULE": "off",
                "PGFLEET_REPORT_SCHEDULE": "off",
                **more,
            }
        )
    )


@pytest.fixture
def here(tmp_path: Path) -> Adapters:
    return adapters(tmp_path)


def later(**time: float) -> datetime:
    return datetime.now(UTC) + timedelta(**time)


def test_a_missed_slot_is_caught_up_once(here: Adapters) -> None:
    assert reconcile.schedule(here) == 0, "at first sight nothing is owed"
    assert reconcile.schedule(here, later(days=3)) == 1, "three missed nights make one backup"
    assert reconcile.schedule(here, later(days=3)) == 0
    (run,) = here.ledger.runs()
    assert (run.kind, run.database, run.job, run.requested_by) == (
        "backup",
        "goimg",
        "backup:goimg",
        "schedule",
    )


def test_two_beats_at_once_make_one_run(here: Adapters) -> None:
    reconcile.schedule(here)
    at = later(days=1)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: reconcile.schedule(here, at), range(8)))
    assert sorted(made) == [0] * 7 + [1]


def test_a_schedule_that_is_off_owes_nothing(tmp_path: Path) -> None:
    off = adapters(tmp_path, PGFLEET_SCHEDULE="off")
    reconcile.schedule(off)
    assert reconcile.schedule(off, later(days=40)) == 0


def test_a_run_whose_spool_is_gone_starts_again(here: Adapters) -> None:
    run = _dumped(here, spool="gone0000")
    here.ledger.beat(WorkerInfo("w", "h", ("dump",), "another0", "0", 0.0))
    assert reconcile.rewind_lost(here) == 1
    again = here.ledger.run(run)
    assert (again.state, again.generation, again.spool_id, again.backup_id) == ("running", 2, None, None)
    (dump,) = here.ledger.steps(run, name="backup.dump")
    assert dump.state == "due"


def test_a_run_whose_spool_is_mounted_goes_on(here: Adapters) -> None:
    run = _dumped(here, spool="mounted0")
    here.ledger.beat(WorkerInfo("w", "h", ("dump",), "mounted0", "0", 0.0))
    assert reconcile.rewind_lost(here) == 0
    assert here.ledger.run(run).generation == 1


def test_what_a_lost_spool_s_run_left_elsewhere_is_swept(here: Adapters) -> None:
    run = _dumped(here, spool="gone0000")
    assert here.ledger.cancel(run, "test")
    here.ledger.beat(WorkerInfo("w", "h", ("dump",), "another0", "0", 0.0))
    reconcile.rewind_lost(here)
    (sweep,) = here.ledger.steps(run, name="backup.sweep")
    assert sweep.state == "done"


def test_what_was_swept_is_not_looked_at_again(here: Adapters) -> None:
    run = _dumped(here, spool="gone0000")
    assert here.ledger.cancel(run, "test")
    assert [(found, spool) for found, _, spool in here.ledger.unswept()] == [(run, "gone0000")]
    reconcile.rewind_lost(here)
    assert here.ledger.unswept() == [], "a fleet keeps the runs of all the spools that it ever had"


def _dumped(here: Adapters, spool: str) -> str:
    new = NewRun("backup", "goimg", {"databases": ["goimg"]})
    run, _ = here.ledger.create_run(new, flows.first(new))
    (dump,) = here.ledger.steps(run.id, name="backup.dump")
    claim = here.ledger.claim(run.id, dump.id, owner=me())
    assert claim is not None
    here.ledger.set_run(claim, spool_id=spool, backup_id="goimg-backup-20261123-020000")
    archive = {"stem": "dump", "kind": "dump", "size": 1, "sha256": "0" * 64}
    result = {"archives": [archive], "destinations": ["local"]}
    here.ledger.commit(claim, result, flows.follow(claim.step, result))
    return run.id


class Received(BaseHTTPRequestHandler):
    bodies: list[dict[str, Any]]
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(type(self).status)
        self.end_headers()
        self.bodies.append(json.loads(body))

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def listener() -> Iterator[tuple[str, type[Received]]]:
    class Own(Received):
        bodies: list[dict[str, Any]] = []  # noqa: RUF012 - one class a test

    server = HTTPServer(("127.0.0.1", 0), Own)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_port}/", Own
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_failure_is_told_once(tmp_path: Path, listener: tuple[str, type[Received]]) -> None:
    url, received = listener
    here = adapters(tmp_path, PGFLEET_NOTIFY_URLS=url)
    run = _failed(here)
    assert reconcile.tell(here) == 1
    assert reconcile.tell(here) == 0
    (body,) = received.bodies
    assert body["title"] == "pgfleet: backup of goimg failed"
    assert "The disk is full." in body["message"]
    assert f"pgfleet run show {run}" in body["message"]


def test_a_notice_that_is_not_taken_is_kept(tmp_path: Path, listener: tuple[str, type[Received]]) -> None:
    url, received = listener
    received.status = 500
    here = adapters(tmp_path, PGFLEET_NOTIFY_URLS=url)
    _failed(here)
    assert reconcile.tell(here) == 0
    assert here.ledger.stats().pending_notices == 1


def _failed(here: Adapters) -> str:
    new = NewRun("backup", "goimg", {"databases": ["goimg"]})
    run, _ = here.ledger.create_run(new, flows.first(new))
    (dump,) = here.ledger.steps(run.id, name="backup.dump")
    claim = here.ledger.claim(run.id, dump.id, owner=me())
    assert claim is not None
    error = {"type": "SpoolFull", "message": "The disk is full.", "hint": "Make room.", "exit_code": 4}
    assert here.ledger.fail(claim, error, retry_in=None) == "run_failed"
    return run.id
