"""Steps as they are read: one by one, or summed up for whoever watches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.engine import Connection

from worker.ledger import rows
from worker.ledger.clock import now
from worker.ledger.model import Step
from worker.ledger.schema import runs, steps


def current() -> ColumnElement[bool]:
    """The step belongs to its run's present generation (in a query over both tables)."""
    return and_(steps.c.run_id == runs.c.id, steps.c.generation == runs.c.generation)


def page(conn: Connection, condition: ColumnElement[bool], after: int) -> list[Step]:
    """Up to `rows.BATCH` steps with an id above `after`, by id."""
    query = select(steps).where(condition, steps.c.id > after).order_by(steps.c.id).limit(rows.BATCH)
    return [rows.step(row) for row in conn.execute(query)]


def chosen(
    conn: Connection,
    run_id: str,
    *,
    name: str | None,
    branch: str | None,
    generation: int | None,
    every: bool,
) -> ColumnElement[bool]:
    """The condition for steps of a run: of one generation (None: the present one), or of every one."""
    condition = steps.c.run_id == run_id
    if not every:
        if generation is None:
            generation = conn.execute(select(runs.c.generation).where(runs.c.id == run_id)).scalar()
        condition = and_(condition, steps.c.generation == generation)
    if name is not None:
        condition = and_(condition, steps.c.name == name)
    if branch is not None:
        condition = and_(condition, steps.c.branch == branch)
    return condition


def progress(conn: Connection, run_id: str) -> Iterator[dict[str, Any]]:
    """One aggregate for each (name, branch) of the present generation, in the order in which they came up."""

    def count(state: str) -> ColumnElement[int]:
        return func.sum(case((steps.c.state == state, 1), else_=0))

    query = (
        select(
            steps.c.name,
            steps.c.branch,
            func.count().label("total"),
            count("done").label("done"),
            count("running").label("running"),
            count("failed").label("failed"),
            count("skipped").label("skipped"),
            func.sum(steps.c.bytes_done).label("bytes_done"),
            func.sum(steps.c.bytes_total).label("bytes_total"),
            func.min(steps.c.started_at).label("started_at"),
            func.max(steps.c.ended_at).label("ended_at"),
        )
        .join(runs, current())
        .where(steps.c.run_id == run_id)
        .group_by(steps.c.name, steps.c.branch)
        .order_by(func.min(steps.c.id))
    )
    for row in conn.execute(query):
        yield {**row._mapping, "bytes_done": int(row.bytes_done), "bytes_total": int(row.bytes_total)}


def waiting(conn: Connection, run_id: str, limit: int) -> list[Step]:
    """Steps of the present generation that were put off and wait for their next attempt, soonest first."""
    query = (
        select(steps)
        .join(runs, current())
        .where(steps.c.run_id == run_id, steps.c.state == "due", steps.c.next_attempt_at > now())
        .order_by(steps.c.next_attempt_at)
        .limit(limit)
    )
    return [rows.step(row) for row in conn.execute(query)]
