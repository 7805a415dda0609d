"""`pgfleet status` over real destinations and a real ledger: its answers, its exit code, what it tells to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration import monitoring_scene as scene
from worker import reconcile
from worker.ledger.model import WorkerInfo
from worker.metrics.readings import Readings
from worker.status import CRITICAL, OK, UNKNOWN, WARNING, Status, status
from worker.steps.context import Adapters


@pytest.fixture
def here(tmp_path: Path) -> Adapters:
    return scene.adapters(tmp_path)


def look(here: Adapters, **later: float) -> Status:
    readings = Readings(here.settings, max_age=60)
    readings.read(30)
    return status(readings, datetime.now(UTC) + timedelta(**later))


def told(found: Status) -> str:
    return "\n".join(problem.what for problem in found.problems)


def test_all_is_well(here: Adapters) -> None:
    backup = scene.back_up(here, 5)
    scene.drill(here, backup, "near", seconds=600)
    found = look(here)
    (one,) = found.databases
    assert (found.exit_code, found.problems) == (OK, [])
    assert (one.restorable, one.backup_id, one.proven_id) == (True, backup, backup)
    assert one.copies == {"near": "proven", "far": "verified"}
    assert one.restore_seconds == 600
    assert one.target_seconds == 1800
    assert one.next_at
    assert one.next_at > found.at


def test_nothing_is_there(here: Adapters) -> None:
    found = look(here)
    assert found.exit_code == CRITICAL
    assert found.databases[0].restorable is False
    (problem,) = found.problems
    assert problem.command == "pgfleet backup goimg"


def test_nobody_answers(here: Adapters) -> None:
    scene.back_up(here, 5)
    scene.lose(here, "near")
    scene.lose(here, "far")
    found = look(here)
    assert found.exit_code == UNKNOWN
    assert found.databases[0].restorable is None
    assert found.databases[0].copies == {"near": "down", "far": "down"}


def test_one_destination_is_down(here: Adapters) -> None:
    backup = scene.back_up(here, 5)
    scene.drill(here, backup, "near")
    scene.lose(here, "near")
    found = look(here)
    assert found.exit_code == WARNING
    assert found.databases[0].restorable is True
    assert found.databases[0].copies == {"near": "down", "far": "verified"}
    assert "near cannot be listed" in told(found)
    assert "proven" not in told(found), "the proof may be where nobody answers"


def test_too_old(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 29), "near")
    assert look(here).exit_code == OK
    found = look(here, hours=2)
    assert found.exit_code == CRITICAL
    assert "1 d 6 h are allowed" in told(found)
    since = found.problems[0].since
    assert since is not None
    assert timedelta(minutes=50) < found.at - since < timedelta(minutes=70)


def test_damaged_missing_refuted(here: Adapters) -> None:
    first = scene.back_up(here, 28)
    second = scene.back_up(here, 20, "near")
    third = scene.back_up(here, 5)
    scene.drill(here, first, "near")
    scene.damage(here, first, "far")
    scene.drill(here, third, "near", "refuted")
    found = look(here)
    assert found.exit_code == CRITICAL
    assert f"The copy of {first} in far is damaged." in told(found)
    assert f"A drill refuted {third} in near" in told(found)
    assert f"far lacks {second} of goimg" in told(found)
    assert [problem.severity for problem in found.problems] == ["critical", "critical", "warning"]


def test_never_proven_or_long_ago(here: Adapters) -> None:
    backup = scene.back_up(here, 5)
    found = look(here)
    assert found.exit_code == WARNING
    assert found.problems[0].command == "pgfleet drill latest --database goimg"
    scene.drill(here, backup, "near")
    assert "older than 35 days" not in told(look(here, days=34))
    assert "older than 35 days" in told(look(here, days=36))


def test_slower_than_the_target(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 5), "near", seconds=2000)
    found = look(here)
    assert found.exit_code == WARNING
    assert "longer than its target of 30 min" in told(found)


def test_a_run_that_failed_and_one_at_work(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 5), "near")
    failed = scene.end(here, "failed")
    scene.end(here, "cancelled")
    going = scene.begin(here)
    found = look(here)
    assert f"pgfleet run show {failed.id}" in [problem.command for problem in found.problems]
    assert [run.id for run, _ in found.runs] == [going.id]


def test_workers_are_missed_only_where_there_is_a_fleet(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 5), "near")
    assert look(here).exit_code == OK, "one machine, cron and --here"
    here.ledger.beat(WorkerInfo("w1", "h", ("dump", "control"), "abcd1234", "0", 0.0))
    reconcile.reconcile(here)
    found = look(here)
    assert "No worker takes queue verify or restore." in told(found)
    assert "reconcile" not in told(found)
    assert "reconcile does not run" in told(look(here, minutes=6))


def test_a_ledger_that_is_down(tmp_path: Path) -> None:
    scene.drill(scene.adapters(tmp_path), scene.back_up(scene.adapters(tmp_path), 5), "near")
    (tmp_path / "ledger.db").write_text("no database" * 200)
    found = look(scene.adapters(tmp_path))
    assert found.exit_code == WARNING
    assert found.databases[0].restorable is True
    assert "ledger" in told(found)


def pgfleet(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", "status", *arguments],
        env={**scene.environment(directory), "COLUMNS": "80", "PATH": os.defpath},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_for_people_and_for_programs(tmp_path: Path) -> None:
    here = scene.adapters(tmp_path)
    backup = scene.back_up(here, 5)
    shown = pgfleet(tmp_path)
    assert shown.returncode == WARNING
    for words in ("needs attention", "can be restored now", backup, "never", "near verified", "1 thing to"):
        assert words in shown.stdout
    assert "→ Run a drill.  pgfleet drill latest --database goimg" in shown.stdout
    answer = pgfleet(tmp_path, "--json")
    found: dict[str, Any] = json.loads(answer.stdout)
    assert answer.returncode == found["exit_code"] == WARNING
    assert found["databases"][0]["backup_id"] == backup
    assert found["problems"][0]["command"] == "pgfleet drill latest --database goimg"
