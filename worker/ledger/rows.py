"""Rows and values: how a table's row becomes a `Run` or a `Step`, and a `NewStep` a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, cast

from sqlalchemy import Row
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from worker.ledger import schema
from worker.ledger.model import NewStep, Run, RunKind, RunState, Step, StepState

BATCH = 1000
#: Among a step's notes, and for the metrics alone: how often it was taken from a worker whose lease had run out.
TAKEOVERS = "takeovers"


def run(row: Row[Any]) -> Run:
    return Run(
        id=row.id,
        kind=cast(RunKind, row.kind),
        database=row.database,
        state=cast(RunState, row.state),
        request=row.request,
        requested_by=row.requested_by,
        job=row.job,
        scheduled_for=row.scheduled_for,
        here=row.here,
        generation=row.generation,
        backup_id=row.backup_id,
        spool_id=row.spool_id,
        data=row.data,
        result=row.result,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def step(row: Row[Any]) -> Step:
    return Step(
        id=row.id,
        run_id=row.run_id,
        name=row.name,
        key=row.key,
        queue=row.queue,
        group=row.group_path,
        needs=row.needs,
        branch=row.branch,
        always=row.always,
        state=cast(StepState, row.state),
        generation=row.generation,
        fence=row.fence,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        owner=row.owner,
        lease_until=row.lease_until,
        next_attempt_at=row.next_attempt_at,
        bytes_done=row.bytes_done,
        bytes_total=row.bytes_total,
        data={**row.data, **{key: value for key, value in row.notes.items() if key != TAKEOVERS}},
        result=row.result,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


def insert_steps(
    conn: Connection, run_id: str, generation: int, new: Iterable[NewStep], *, max_attempts: int
) -> set[str]:
    """Insert in batches: 100,000 steps from a generator take no memory. A step that is there already stays.

    Returns the branches that they belong to. Raises ValueError for a `group` or `needs` that is no path ending in "/".
    """
    statement = insert_ignoring(conn, schema.steps)
    values = (_values(run_id, generation, each, max_attempts) for each in new)
    branches: set[str] = set()
    for batch in _batches(values):
        conn.execute(statement, batch)
        branches |= {each["branch"] for each in batch if each["branch"]}
    return branches


def insert_ignoring(conn: Connection, table: Any) -> Any:
    """INSERT … ON CONFLICT DO NOTHING, whichever constraint it is."""
    dialect = postgresql if conn.dialect.name == "postgresql" else sqlite
    return dialect.insert(table).on_conflict_do_nothing()


def _values(run_id: str, generation: int, new: NewStep, max_attempts: int) -> dict[str, Any]:
    if (new.group and not new.group.endswith("/")) or (
        new.needs not in ("", "*") and not new.needs.endswith("/")
    ):
        raise ValueError(
            f"step {new.name}: group {new.group!r} and needs {new.needs!r} are paths that end in '/'"
        )
    return {
        "run_id": run_id,
        "generation": generation,
        "name": new.name,
        "key": new.key,
        "queue": new.queue,
        "group_path": new.group,
        "needs": new.needs,
        "branch": new.branch,
        "always": new.always,
        "bytes_total": new.size,
        "max_attempts": new.max_attempts or max_attempts,
        "data": dict(new.data),
    }


def _batches(values: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(values, BATCH)):
        yield batch
