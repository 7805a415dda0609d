"""What went less than smoothly lately, summed up for the metrics."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.engine import Connection

from worker.ledger.clock import now
from worker.ledger.rows import TAKEOVERS
from worker.ledger.schema import runs, steps, undone
from worker.ledger.steps import current


@dataclass(frozen=True, slots=True)
class Tallies:
    """retries: (kind of run, step) → attempts beyond the first. takeovers: likewise, how often a step was taken from a
    worker whose lease had run out. restarts: kind → how often runs were rewound.

    resent: undone steps whose hint was sent more than once.
    """

    retries: dict[tuple[str, str], int]
    takeovers: dict[tuple[str, str], int]
    restarts: dict[str, int]
    resent: int


def tally(conn: Connection, within: float) -> Tallies:
    """Over the runs that were made in the last `within` seconds."""
    recent = runs.c.created_at > now() - within
    further: ColumnElement[int] = func.sum(case((steps.c.attempts > 1, steps.c.attempts - 1), else_=0))
    # Only a step that was claimed twice can have been taken over: the others' notes are not looked into.
    taken = func.coalesce(steps.c.notes[TAKEOVERS].as_integer(), 0)
    over: ColumnElement[int] = func.sum(case((steps.c.fence > 1, taken), else_=0))
    by_step = (
        select(runs.c.kind, steps.c.name, further.label("number"), over.label("taken"))
        .join(runs, steps.c.run_id == runs.c.id)
        .where(recent)
        .group_by(runs.c.kind, steps.c.name)
    )
    again: ColumnElement[int] = func.sum(runs.c.generation - 1)
    by_kind = select(runs.c.kind, again.label("number")).where(recent).group_by(runs.c.kind)
    resent = select(func.count()).select_from(steps).join(runs, current()).where(undone(), steps.c.sends > 1)
    found = conn.execute(by_step).all()
    return Tallies(
        {(row.kind, row.name): int(row.number) for row in found},
        {(row.kind, row.name): int(row.taken) for row in found},
        {row.kind: int(row.number) for row in conn.execute(by_kind)},
        conn.execute(resent).scalar_one(),
    )
