"""A drill through the fleet: by the command line, by an application, by a Celery task; and what `list` says then."""

from __future__ import annotations

from pathlib import Path

import pytest
from celery import Celery

from tests.acceptance.conftest import Fleet, eventually
from tests.acceptance.test_killed import kill_worker, revive
from tests.services import processes_below
from worker.client import Client
from worker.local.stack import DATABASE


@pytest.fixture(scope="module")
def backup(fleet: Fleet) -> str:
    answer = fleet("backup", "--json")
    assert answer.code == 0, answer.out + answer.err
    return str(answer.json["backup_id"])


def left(fleet: Fleet) -> list[str]:
    """Servers of drills that still run, and runs on the spool."""
    spool = Path(fleet.stack.env["PGFLEET_SPOOL"])
    return [*processes_below(spool / "runs").values(), *(path.name for path in (spool / "runs").iterdir())]


def test_by_the_command_line(fleet: Fleet, backup: str) -> None:
    answer = fleet("drill", "latest", "--json")
    assert answer.code == 0, answer.out + answer.err
    said = answer.json
    assert (said["verdict"], said["backup_id"], said["differences"]) == ("proven", backup, [])
    assert said["rto_seconds"] > 0
    assert "Restore drill" in Path(said["report"]).read_text()
    assert {step["name"] for step in said["steps"]} >= {
        "restore.fetch_part",
        "drill.fingerprint_chunk",
        "drill.control",
    }
    (listed,) = [one for one in fleet("list", "--json").json if one["backup_id"] == backup]
    assert [bool(copy["proven_at"]) for copy in listed["copies"]] == [True, False]
    eventually(lambda: not left(fleet))


def test_for_a_person(fleet: Fleet, backup: str) -> None:
    answer = fleet("drill", backup, "--destination", "s3")
    assert answer.code == 0
    for part in ("proven", "compared:", "control:", "recovery:", "report:"):
        assert part in answer.out
    (listed,) = [one for one in fleet("list", "--json").json if one["backup_id"] == backup]
    assert all(copy["proven_at"] for copy in listed["copies"])


def test_by_an_application(fleet: Fleet, backup: str) -> None:
    client = Client(fleet.stack.env["PGFLEET_BROKER_URL"], fleet.stack.env["PGFLEET_LEDGER_URL"], name="shop")
    run = client.request_drill(DATABASE, backup=backup, idempotency_key="monthly-1")
    assert client.request_drill(DATABASE, backup=backup, idempotency_key="monthly-1").id == run.id
    client.wait(run.id, timeout=120)
    seen = client.drilled(run.id)
    assert (seen.verdict, seen.run.state, seen.differences) == ("proven", "proven", ())


def test_by_a_celery_task(fleet: Fleet, backup: str) -> None:
    app = Celery(broker=fleet.stack.env["PGFLEET_BROKER_URL"])
    app.send_task("pgfleet.drill", args=[{"database": DATABASE, "requested_by": "flower"}], queue="control")
    found = eventually(
        lambda: [run for run in fleet.ledger.runs(kind="drill") if run.requested_by == "flower"]
    )
    eventually(lambda: not fleet.ledger.run(found[0].id).open)
    assert fleet.ledger.run(found[0].id).state == "proven"


def test_no_such_backup(fleet: Fleet, backup: str) -> None:
    answer = fleet("drill", f"{DATABASE}-backup-20200101-000000", "--json")
    assert answer.code == 1
    assert answer.json["verdict"] == "could_not_run"
    eventually(lambda: not left(fleet))


def test_a_killed_worker_does_not_end_the_drill(fleet: Fleet, backup: str) -> None:
    """Another one goes on with the server that it left behind."""
    client = Client(fleet.stack.env["PGFLEET_BROKER_URL"], fleet.stack.env["PGFLEET_LEDGER_URL"])
    run = client.request_drill(DATABASE, backup=backup)
    spool = Path(fleet.stack.env["PGFLEET_SPOOL"])
    eventually(lambda: any("bin/postgres" in one for one in processes_below(spool / "runs").values()))
    kill_worker(fleet)
    revive(fleet)
    client.wait(run.id, timeout=120)
    assert client.drilled(run.id).verdict == "proven", client.run(run.id).error
    eventually(lambda: not left(fleet))
