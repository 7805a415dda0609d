"""What was told of a run."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.engine import Connection

from worker.ledger.schema import notices


@dataclass(frozen=True, slots=True)
class Told:
    """An event of a run. sent_at: when the messages about it were taken, None while they wait."""

    event: str
    at: float
    sent_at: float | None
    attempts: int


def told(conn: Connection, run_id: str) -> list[Told]:
    """Oldest first."""
    found = select(notices).where(notices.c.run_id == run_id).order_by(notices.c.id)
    return [Told(row.event, row.created_at, row.sent_at, row.attempts) for row in conn.execute(found)]
