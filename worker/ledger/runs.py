"""Runs: made once, read, ended once."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, insert, select, update
from sqlalchemy.engine import Connection

from worker.errors import RunNotFound
from worker.ledger import clock, rows
from worker.ledger.clock import now
from worker.ledger.model import OPEN_STATES, NewRun, NewStep, Run
from worker.ledger.outcomes import RunCount, RunEnd
from worker.ledger.schema import notices, runs, steps, undone

#: Crockford's base 32 in lower case: sorts as it counts, fits URLs, file names and database names.
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS, _RANDOM_DIGITS = 9, 3  # milliseconds until the year 3084


def is_open() -> ColumnElement[bool]:
    return runs.c.state.in_(OPEN_STATES)


def create(conn: Connection, new: NewRun, first: Iterable[NewStep], *, max_attempts: int) -> tuple[Run, bool]:
    """(run, whether it is new). A race for one key or slot is decided by the unique constraints."""
    while True:
        values = _values(new) | {"id": _new_id(clock.read(conn))}
        inserted = rows.insert_ignoring(conn, runs).values(values).returning(runs.c.id)
        if conn.execute(inserted).first() is not None:
            rows.insert_steps(conn, values["id"], 1, first, max_attempts=max_attempts)
            return get(conn, values["id"]), True
        for same in _same(new):
            existing = conn.execute(select(runs).where(same)).first()
            if existing is not None:
                return rows.run(existing), False


def _values(new: NewRun) -> dict[str, Any]:
    return {
        "kind": new.kind,
        "database": new.database,
        "request": dict(new.request),
        "requested_by": new.requested_by,
        "idempotency_key": new.idempotency_key or None,
        "job": new.job,
        "scheduled_for": new.scheduled_for,
        "here": new.here,
    }


def _same(new: NewRun) -> Iterator[ColumnElement[bool]]:
    if new.idempotency_key:
        yield runs.c.idempotency_key == new.idempotency_key
    if new.job is not None:
        yield and_(runs.c.job == new.job, runs.c.scheduled_for == new.scheduled_for)


def _new_id(at: float) -> str:
    number = (int(at * 1000) << (5 * _RANDOM_DIGITS)) | secrets.randbits(5 * _RANDOM_DIGITS)
    places = range(_TIME_DIGITS + _RANDOM_DIGITS - 1, -1, -1)
    return "".join(_DIGITS[(number >> (5 * place)) & 31] for place in places)


def get(conn: Connection, run_id: str) -> Run:
    """By id or by the beginning of one. Raises RunNotFound when none or several fit."""
    exact = conn.execute(select(runs).where(runs.c.id == run_id)).first()
    if exact is not None:
        return rows.run(exact)
    hint = "`pgfleet runs` lists them."
    if not run_id:
        raise RunNotFound("A run has an id.", hint)
    begun = conn.execute(select(runs).where(runs.c.id.startswith(run_id, autoescape=True)).limit(2)).all()
    if len(begun) != 1:
        raise RunNotFound(f"{'Several runs begin with' if begun else 'There is no run'} {run_id!r}.", hint)
    return rows.run(begun[0])


def find(
    conn: Connection,
    *,
    kind: str | None = None,
    database: str | None = None,
    states: Collection[str] | None = None,
    limit: int = 50,
    since: float | None = None,
) -> list[Run]:
    """Newest first. Audit records on their way are among them only when they are asked for by kind."""
    query = select(runs).order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit)
    query = query.where(runs.c.kind == kind if kind is not None else runs.c.kind != "audit")
    if database is not None:
        query = query.where(runs.c.database == database)
    if states is not None:
        query = query.where(runs.c.state.in_(list(states)))
    if since is not None:
        query = query.where(runs.c.created_at >= since)
    return [rows.run(row) for row in conn.execute(query)]


def lock(conn: Connection, run_id: str, *, share: bool = False) -> Row[Any] | None:
    """The run's row, locked until the transaction ends. Always before any step's row: no deadlock that way.

    `share` lets the steps of one run commit at once, while nothing can end or rewind the run.
    """
    return conn.execute(select(runs).where(runs.c.id == run_id).with_for_update(read=share)).first()


def end(conn: Connection, run_id: str, ending: RunEnd) -> bool:
    """End a run once: False when it has ended already. Skips what is undone and records the notice."""
    values = {
        "state": ending.state,
        "result": dict(ending.result),
        "error": ending.error and dict(ending.error),
        "ended_at": now(),
    }
    ended = update(runs).where(runs.c.id == run_id, is_open()).values(values).returning(runs)
    row = conn.execute(ended).first()
    if row is None:
        return False
    skip(conn, run_id)
    data = {
        "kind": row.kind,
        "database": row.database,
        "state": row.state,
        "backup_id": row.backup_id,
        "result": row.result,
        "error": row.error,
    }
    conn.execute(insert(notices).values(run_id=run_id, event=f"{row.kind}.{row.state}", data=data))
    return True


def skip(conn: Connection, run_id: str, *, generation: int | None = None, branch: str = "") -> None:
    """Skip the undone steps of a run, or of one branch. Who works on one learns it by its next heartbeat."""
    condition = and_(steps.c.run_id == run_id, undone(), ~steps.c.always)
    if branch:
        condition = and_(condition, steps.c.generation == generation, steps.c.branch == branch)
    conn.execute(update(steps).where(condition).values(state="skipped", ended_at=now()))


def failure(kind: str, message: str, hint: str, step: str = "") -> dict[str, Any]:
    """An error record of the ledger's own making."""
    return {"type": kind, "message": message, "hint": hint, "exit_code": 1, "step": step}


def cancel(conn: Connection, run_id: str, by: str) -> bool:
    error = failure("Cancelled", f"The run was cancelled by {by}.", "Ask for a new run when you want one.")
    return end(conn, run_id, RunEnd("cancelled", error=error))


def counts(conn: Connection) -> list[RunCount]:
    query = select(runs.c.kind, runs.c.state, func.count().label("number")).group_by(
        runs.c.kind, runs.c.state
    )
    return [RunCount(row.kind, row.state, row.number) for row in conn.execute(query)]
