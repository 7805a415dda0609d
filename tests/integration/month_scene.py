"""A month of a fleet as its destinations and its ledger remember it, some months after it was over."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.integration import monitoring_scene as scene
from tests.integration.prune_scene import add_backup, manifest_of
from worker.catalog import Catalog
from worker.core.backup import backup_id
from worker.core.period import Span, month
from worker.ledger.model import NewRun
from worker.ledger.outcomes import RunEnd
from worker.steps import audit
from worker.steps.context import Adapters

MONTH = month("2026-09")
NOW = datetime(2026, 10, 1, 6, 0, tzinfo=UTC)


def id_of(day: int, hour: int = 2, month: int = 9) -> str:
    return backup_id("goimg", datetime(2026, month, day, hour, tzinfo=UTC))


def back_up(here: Adapters, day: int, *destinations: str, month: int = 9, verified: bool = True) -> str:
    backup = id_of(day, month=month)
    for alias in destinations or ("near", "far"):
        add_backup(here.store(alias), backup, verified=verified)
    return backup


def drill(here: Adapters, day: int, verdict: str, seconds: float, destination: str = "near") -> None:
    record = {
        "verdict": verdict, "at": (datetime(2026, 9, day, 4, tzinfo=UTC)).isoformat(), "requested_by": "schedule",
        "backup_bytes": 0, "rto": {"seconds": seconds, "target_seconds": 1800}, "run_id": f"drill{day}",
        "signed_by": "", "ok": verdict == "proven",
    }  # fmt: skip
    Catalog(here.store(destination)).evidence_put(id_of(day), "drill", record)


def failed_run(directory: Path, here: Adapters, day: int, message: str) -> str:
    """A run of that night's slot that came to nothing."""
    at = datetime(2026, 9, day, 2, tzinfo=UTC).timestamp()
    new = NewRun(
        "backup", "goimg", {"databases": ["goimg"]}, "schedule", job="backup:goimg", scheduled_for=at
    )
    run, _ = here.ledger.create_run(new, [])
    error = {"type": "DumpFailed", "message": message, "hint": "", "exit_code": 4, "step": "backup.dump"}
    here.ledger.end_run(run.id, RunEnd("failed", error=error))
    created(directory, run.id, at)
    return run.id


def created(directory: Path, run_id: str, at: float) -> None:
    with closing(sqlite3.connect(directory / "ledger.db")) as ledger, ledger:
        ledger.execute(
            "UPDATE runs SET created_at = ?, started_at = ?, ended_at = ? WHERE id = ?", (at, at, at, run_id)
        )


def remembered(directory: Path, here: Adapters, backup: str) -> None:
    """The ledger knows that this backup was verified."""
    at = manifest_of(backup, "near").snapshot_at.timestamp()
    run, _ = here.ledger.create_run(NewRun("backup", "goimg", {}, "schedule"), [])
    copies = [
        {"destination": alias, "state": "verified", "bytes": 7, "error": None} for alias in ("near", "far")
    ]
    here.ledger.end_run(run.id, RunEnd("verified", {"copies": copies}))
    created(directory, run.id, at)
    with closing(sqlite3.connect(directory / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE runs SET backup_id = ? WHERE id = ?", (backup, run.id))


def note(here: Adapters, action: Any, day: int, **more: Any) -> None:
    given: dict[str, Any] = {
        "by": "ann@host", "database": "goimg", "at": datetime(2026, 9, day, 12, tzinfo=UTC), "result": "succeeded",
    }  # fmt: skip
    audit.note(here, action, **(given | more))


def a_month(directory: Path, **settings: str) -> Adapters:
    """Backups on every day but the 10th (it failed) and the 11th (nobody asked); the 12th was never verified."""
    here = scene.adapters(directory, database="rto_seconds = 1800", **settings)
    remembered(directory, here, back_up(here, 31, month=8))
    for day in range(1, 31):
        if day not in (10, 11):
            back_up(here, day, verified=day != 12)
    failed_run(directory, here, 10, "pg_dump: error: connection to server was lost")
    drill(here, 2, "proven", 612.0)
    drill(here, 16, "proven", 2100.0, "far")
    note(
        here,
        "restore",
        14,
        backup_id=id_of(13),
        where="staging/goimg_copy",
        run_id="r1",
        detail={"restored_as": "x"},
    )
    note(
        here,
        "hold",
        15,
        backup_id=id_of(14),
        where="near, far",
        result="held",
        detail={"reason": "court case"},
    )
    change = {"name": "databases.goimg.schedule", "old": "0 2 * * *", "new": "0 3 * * *"}
    note(
        here,
        "settings",
        20,
        database="*",
        where="worker celery@host",
        result="changed",
        detail={"changed": [change]},
    )
    return here


def forget(directory: Path, destination: str, backup: str) -> None:
    for path in (directory / destination).glob(f"{backup}.*"):
        path.unlink()


def text_of(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


__all__ = ["MONTH", "NOW", "Span", "a_month", "back_up", "drill", "timedelta"]
