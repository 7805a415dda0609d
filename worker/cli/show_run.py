"""A run for a person and for a program. The JSON is a contract: docs/reference/json.md."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from worker.core import human
from worker.ledger.model import Run
from worker.steps.context import Adapters

_TIMES = ("started_at", "ended_at")


def describe(adapters: Adapters, run: Run) -> dict[str, Any]:
    """A run as `--json` shows it."""
    return {
        "run_id": run.id,
        "kind": run.kind,
        "database": run.database,
        "state": run.state,
        "backup_id": run.backup_id,
        "requested_by": run.requested_by,
        "created_at": _time(run.created_at),
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "seconds": round(run.ended_at - run.started_at, 3) if run.ended_at and run.started_at else None,
        "copies": list(run.result.get("copies", [])),
        "result": dict(run.result),
        "error": dict(run.error) if run.error else None,
        "exit_code": exit_code(run),
        "steps": [
            row | {name: _time(row[name]) for name in _TIMES} for row in adapters.ledger.progress(run.id)
        ],
    }


def _time(at: float | None) -> str | None:
    """As all times of our JSON: ISO 8601, with its offset."""
    return datetime.fromtimestamp(at, UTC).isoformat() if at is not None else None


def exit_code(run: Run) -> int | None:
    if run.open:
        return None
    if run.error is not None:
        return int(run.error.get("exit_code", 1))
    return 0 if run.state in ("verified", "succeeded", "proven") else 1


def say_end(run: Run) -> None:
    """One line how a run ended; for a failure what is wrong and what to do."""
    seconds = (run.ended_at or 0) - (run.started_at or run.created_at)
    copies = run.result.get("copies", [])
    if run.error is None and run.state in ("verified", "succeeded"):
        good = [copy["destination"] for copy in copies if copy["state"] == "verified"]
        size = human.size(max((copy.get("bytes", 0) for copy in copies), default=0))
        share = f" ({len(good)} of {len(copies)})" if len(good) < len(copies) else ""
        click.secho(
            f"✓ {run.backup_id}: {run.state}{share} in {', '.join(good)} ({size}, {human.duration(seconds)})",
            fg="green",
        )
        return
    click.secho(f"✗ Run {run.id} of {run.database}: {run.state}", fg="red", err=True)
    for copy in copies:
        click.echo(f"  {copy['destination']}: {copy['state']}", err=True)
    if run.error is not None:
        click.secho(f"Error: {run.error['message']}", fg="red", err=True)
        if run.error.get("hint"):
            click.secho(f"Hint:  {run.error['hint']}", fg="yellow", err=True)
