"""Who is told what, and how often: a real ledger, a real little HTTP server for messages and for pings."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration import monitoring_scene as scene
from tests.services import wait_until
from worker import here as here_mode
from worker import notify, reconcile, runner
from worker.ledger.outcomes import RunEnd
from worker.metrics.readings import Readings
from worker.owner import me
from worker.status import status
from worker.steps.context import Adapters

PING = "/ping/secret-uuid"


class Got(NamedTuple):
    path: str
    query: str
    body: str


class Listener(NamedTuple):
    """`refuse`: paths that are answered with 500."""

    address: str
    got: list[Got]
    refuse: set[str]

    @property
    def messages(self) -> list[dict[str, str]]:
        return [json.loads(one.body) for one in self.got if one.path == "/message"]

    @property
    def pings(self) -> list[str]:
        return [one.path.removeprefix(PING) for one in self.got if one.path.startswith(PING)]


@pytest.fixture
def listener() -> Iterator[Listener]:
    got: list[Got] = []
    refuse: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            path, _, query = self.path.partition("?")
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send_response(500 if path in refuse else 200)
            self.end_headers()
            if path not in refuse:
                got.append(Got(path, query, body))

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Listener(f"127.0.0.1:{server.server_port}", got, refuse)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def told(tmp_path: Path, listener: Listener) -> Adapters:
    """Somebody is told by message."""
    return scene.adapters(tmp_path, PGFLEET_NOTIFY_URLS=f"json://{listener.address}/message")


@pytest.fixture
def pinged(tmp_path: Path, listener: Listener) -> Adapters:
    """A dead man's switch listens, and so does somebody."""
    return scene.adapters(
        tmp_path,
        database=f'ping_url = "http://{listener.address}{PING}"',
        PGFLEET_NOTIFY_URLS=f"json://{listener.address}/message",
    )


def test_a_failure_says_what_where_since_when_and_what_to_do(told: Adapters, listener: Listener) -> None:
    scene.end(told, "verified")
    scene.end(told, "failed")
    run = scene.end(told, "failed", copies={"near": "verified", "far": "failed"})
    assert reconcile.tell(told) == 2
    assert reconcile.tell(told) == 0, "once an event"
    _, last = listener.messages
    assert last["title"] == "pgfleet: backup of goimg failed"
    assert last["type"] == "failure"
    lines = dict(line.split(":", 1) for line in last["message"].splitlines())
    assert lines["What"].strip() == "The disk is full."
    assert lines["Where"].strip() == "near verified, far failed; step backup.dump"
    assert "(2 in a row); the last good one: " in lines["Since"]
    assert lines["Do"].strip() == "Make room."
    assert lines["See"].strip() == f"pgfleet run show {run.id}"


def test_the_first_failure_of_all(told: Adapters, listener: Listener) -> None:
    scene.end(told, "failed")
    reconcile.tell(told)
    assert "there is no good one on record" in listener.messages[0]["message"]


def test_a_success_is_told_only_after_failures(told: Adapters, listener: Listener) -> None:
    scene.end(told, "verified")
    assert reconcile.tell(told) == 0
    scene.end(told, "failed")
    scene.end(told, "cancelled", "backup")
    scene.end(told, "damaged")
    scene.end(told, "succeeded", "cleanup")
    scene.end(told, "verified")
    scene.end(told, "verified")
    reconcile.tell(told)
    assert [message["title"] for message in listener.messages] == [
        "pgfleet: backup of goimg failed",
        "pgfleet: backup of goimg damaged",
        "pgfleet: backup of goimg works again",
    ]
    assert [message["type"] for message in listener.messages] == ["failure", "failure", "success"]
    assert "it had failed 2 times before" in listener.messages[-1]["message"]


@pytest.mark.parametrize(
    ("state", "error", "title"),
    [
        ("refuted", "ValidationFailed", "pgfleet: drill of goimg refuted"),
        ("could_not_run", "DecryptionFailed", "pgfleet: drill of goimg could not run"),
        ("proven", "RtoExceeded", "pgfleet: drill of goimg proven, but too slow"),
    ],
)
def test_what_drills_have_to_tell(
    told: Adapters, listener: Listener, state: str, error: str, title: str
) -> None:
    scene.end(told, state, "drill", error=error, report="/var/lib/pgfleet/reports/drill-1.html")
    assert reconcile.tell(told) == 1
    (message,) = listener.messages
    assert message["title"] == title
    assert "/var/lib/pgfleet/reports/drill-1.html" in message["message"]


def test_a_good_drill_is_no_news(told: Adapters, listener: Listener) -> None:
    scene.end(told, "proven", "drill")
    assert reconcile.tell(told) == 0
    assert not listener.messages


def test_what_is_not_taken_is_tried_again(told: Adapters, listener: Listener) -> None:
    listener.refuse.add("/message")
    scene.end(told, "failed")
    assert reconcile.tell(told) == 0
    assert told.ledger.stats().pending_notices == 1
    readings = Readings(told.settings, max_age=60)
    readings.read(30)

    def said(minutes: float) -> bool:
        found = status(readings, datetime.now(UTC) + timedelta(minutes=minutes))
        return any("1 message about what happened could not be sent." in one.what for one in found.problems)

    assert not said(9)
    assert said(11)


def test_a_service_that_is_slow_does_not_keep_others_waiting(told: Adapters, listener: Listener) -> None:
    """reconcile has more to do, and what it does not come to is free for the next one."""
    scene.end(told, "failed")
    scene.end(told, "failed")
    assert notify.tell(told.ledger, told.settings, seconds=0) == 1
    assert notify.tell(told.ledger, told.settings, seconds=0) == 1
    assert len(listener.messages) == 2


def test_who_has_heard_it_hears_it_once(tmp_path: Path, listener: Listener) -> None:
    """One service that is away makes the other hear nothing twice, and gets its message when it is back."""
    urls = f"json://{listener.address}/message json://{listener.address}/other"
    told = scene.adapters(tmp_path, PGFLEET_NOTIFY_URLS=urls)
    listener.refuse.add("/other")
    scene.end(told, "failed")
    assert reconcile.tell(told) == 0
    assert [one.path for one in listener.got] == ["/message"]
    make_due(tmp_path)
    assert reconcile.tell(told) == 0
    assert [one.path for one in listener.got] == ["/message"], "not again"
    listener.refuse.clear()
    make_due(tmp_path)
    assert reconcile.tell(told) == 1
    assert [one.path for one in listener.got] == ["/message", "/other"]
    make_due(tmp_path)
    assert reconcile.tell(told) == 0


def make_due(directory: Path) -> None:
    """The wait before the next attempt is over."""
    with closing(sqlite3.connect(directory / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE notices SET next_attempt_at = 0")


def test_a_damaged_copy_is_named(told: Adapters, listener: Listener) -> None:
    scene.end(told, "damaged", "scrub", destinations={"near": {"parts": 3, "damaged": ["goimg-backup-x"]}})
    reconcile.tell(told)
    assert "near goimg-backup-x damaged" in listener.messages[0]["message"]


def test_a_ping_that_was_heard_is_not_repeated_for_a_message(
    tmp_path: Path, pinged: Adapters, listener: Listener
) -> None:
    listener.refuse.add("/message")
    scene.end(pinged, "failed")
    reconcile.tell(pinged)
    make_due(tmp_path)
    reconcile.tell(pinged)
    assert listener.pings == ["/fail"]


def test_a_run_pings_when_it_begins_and_when_it_is_verified(pinged: Adapters, listener: Listener) -> None:
    run = scene.waiting(pinged)
    (dump,) = pinged.ledger.steps(run.id, name="backup.dump")
    runner.perform(pinged, run.id, dump.id)  # it fails, for there is no database; it has begun all the same
    assert wait_until(lambda: listener.pings == ["/start"], 10)
    assert pinged.ledger.end_run(run.id, RunEnd("verified"))
    reconcile.tell(pinged)
    assert listener.pings == ["/start", ""]
    start, success = (one.query for one in listener.got if one.path.startswith(PING))
    assert start == success
    assert uuid.UUID(start.removeprefix("rid="))


def test_a_failure_pings_and_is_told(pinged: Adapters, listener: Listener) -> None:
    scene.end(pinged, "failed")
    assert reconcile.tell(pinged) == 1
    assert listener.pings == ["/fail"]
    assert "The disk is full." in listener.got[0].body


def test_drills_and_cancelled_backups_do_not_ping(pinged: Adapters, listener: Listener) -> None:
    scene.end(pinged, "proven", "drill")
    scene.end(pinged, "cancelled")
    reconcile.tell(pinged)
    assert listener.pings == []


def test_a_switch_that_is_away_holds_no_failure_back(pinged: Adapters, listener: Listener) -> None:
    listener.refuse.add(f"{PING}/fail")
    scene.end(pinged, "failed")
    assert reconcile.tell(pinged) == 1
    assert len(listener.messages) == 1
    assert pinged.ledger.stats().pending_notices == 0


def test_a_success_that_was_not_heard_is_told_again(
    pinged: Adapters, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    listener.refuse.add(PING)
    scene.end(pinged, "verified")
    reconcile.tell(pinged)
    assert pinged.ledger.stats().pending_notices == 1
    assert "was not taken" in caplog.text
    assert "secret-uuid" not in caplog.text, "whoever has the URL can send good news"


def test_old_news_is_not_pinged(pinged: Adapters, listener: Listener) -> None:
    scene.end(pinged, "verified")
    scene.end(pinged, "failed")
    reconcile.tell(pinged)
    assert listener.pings == ["/fail"], "a success of before must not hide a failure"


def test_a_run_here_tells_by_itself(tmp_path: Path, listener: Listener) -> None:
    told = scene.adapters(
        tmp_path,
        database='host = "127.0.0.1"\nport = 1',
        PGFLEET_NOTIFY_URLS=f"json://{listener.address}/message",
        PGFLEET_MAX_ATTEMPTS="1",
    )
    run = here_mode.work(told, scene.waiting(told, here=me()).id)
    assert run.state == "failed"
    (message,) = listener.messages
    assert message["title"] == "pgfleet: backup of goimg failed"


def test_a_digest(tmp_path: Path, listener: Listener) -> None:
    scene.back_up(scene.adapters(tmp_path), 5)
    env = scene.environment(tmp_path, PGFLEET_NOTIFY_URLS=f"json://{listener.address}/message")
    argv = [sys.executable, "-m", "worker", "status", "--send"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stderr
    (message,) = listener.messages
    assert message["title"] == "pgfleet: needs attention"
    assert "can be restored now" in message["message"]
    assert "\x1b" not in message["message"]
