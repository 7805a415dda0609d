"""After a restore has ended, however it ended: the record of it, and nothing half done left behind."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

from worker.errors import AccessDenied, ConfigError, ObjectLocked
from worker.postgres import targets
from worker.steps.context import Context, Outcome
from worker.steps.restore_choose import target_of
from worker.steps.restore_swap import phases

log = logging.getLogger("pgfleet.restore")


def record(context: Context) -> Outcome:
    """An evidence record beside the backup: who asked for what, when, how long, the checks, the outcome.

    A worker that may only read the destination leaves the record to the ledger.
    """
    run, steps = context.run, list(context.ledger.steps(context.run.id))
    chosen: dict[str, Any] = next(
        (dict(step.result) for step in steps if step.name == "restore.choose" and step.state == "done"), {}
    )
    destination = chosen.get("destination")
    if destination is None or run.request.get("dry_run"):
        return Outcome({"written": False})
    kept = run.data.get("restore", {})
    evidence = {
        "format": 1,
        "kind": "restore",
        "backup_id": chosen["backup_id"],
        "destination": destination,
        "run_id": run.id,
        "at": _time(run.ended_at),  # the same each time: written twice, it is one record
        "ok": run.state == "succeeded",
        "state": run.state,
        "requested_by": run.requested_by,
        "request": {key: value for key, value in run.request.items() if key not in ("idempotency_key",)},
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "target": kept.get("target"),
        "restored_as": kept.get("name"),
        "phases": phases([step for step in steps if step.state == "done"]),
        "result": dict(run.result),
        "error": dict(run.error) if run.error else None,
    }
    try:
        context.adapters.catalog(destination).evidence_put(chosen["backup_id"], "restore", evidence)
    except (AccessDenied, ObjectLocked, ConfigError) as error:
        log.warning(error.message, extra={"action": "restore.record", "hint": error.hint})
        return Outcome({"written": False, "why": error.message})
    return Outcome({"written": True})


def _time(at: float | None) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat() if at is not None else None


def sweep(context: Context) -> Outcome:
    """Drop what was loaded and never got its name, and clear the spool."""
    kept, dropped = context.run.data.get("restore"), False
    if kept is not None and kept["mode"] != "in_place":
        target = target_of(context.adapters, kept["target"], context.run.database)
        dropped = targets.drop(target, kept["load"])
    spool = context.adapters.spool
    if context.run.spool_id in (None, spool.id):
        spool.remove(context.run.id)
    return Outcome({"dropped": dropped})
