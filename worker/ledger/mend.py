"""What `reconcile` does to runs: start again, end what is overdue, adopt, forget what is old."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, insert, literal, or_, select, update
from sqlalchemy.engine import Connection

from worker.ledger import runs
from worker.ledger.clock import now
from worker.ledger.outcomes import RunEnd
from worker.ledger.runs import is_open
from worker.ledger.schema import runs as runs_table
from worker.ledger.schema import steps, undone
from worker.ledger.steps import current

DAY_SECONDS = 86_400.0
#: What a fresh row keeps of the old one.
_KEPT = ("run_id", "name", "key", "queue", "group_path", "needs", "branch", "always", "max_attempts", "data")


def rewind(
    conn: Connection,
    run_id: str,
    *,
    keep: Collection[str],
    max_rewinds: int,
    why: str,
    generation: int | None,
) -> bool:
    """Begin a new generation with fresh rows of the steps called `keep`; all present ones are void."""
    run = runs.lock(conn, run_id)
    if run is None or run.state not in ("queued", "running") or generation not in (None, run.generation):
        return False
    if run.generation > max_rewinds:
        error = runs.failure(
            "TooManyRewinds",
            f"The run was started again {max_rewinds} times, and once more {why}.",
            "Find out why its workers or their spools go away, then ask for a new run.",
        )
        runs.end(conn, run_id, RunEnd("failed", error=error))
        return False
    present = (steps.c.run_id == run_id, steps.c.generation == run.generation)
    given_up = [*run.data.get("given_up", []), *filter(None, [run.backup_id])]
    data = {**run.data, "rewinds": [*run.data.get("rewinds", []), why], "given_up": given_up}
    fresh = {"generation": run.generation + 1, "spool_id": None, "backup_id": None, "data": data}
    conn.execute(update(runs_table).where(runs_table.c.id == run_id).values(fresh))
    conn.execute(update(steps).where(*present).values(state="void"))
    kept = select(*(steps.c[name] for name in _KEPT), *_fresh(run.generation + 1).values()).where(
        *present, steps.c.name.in_(list(keep))
    )
    names = [*_KEPT, *_fresh(run.generation + 1)]
    conn.execute(insert(steps).from_select(names, kept.order_by(steps.c.id), include_defaults=False))
    return True


def _fresh(generation: int) -> dict[str, ColumnElement[Any]]:
    zeros = ("fence", "attempts", "sends", "hint_at", "bytes_done", "bytes_total")
    return {
        "generation": literal(generation),
        "state": literal("due"),
        "created_at": now(),
        **{name: literal(0).label(name) for name in zeros},
        **{name: literal({}, steps.c[name].type).label(name) for name in ("notes", "result")},
    }


def overdue(conn: Connection, seconds: float) -> list[str]:
    """The runs that have been open for longer than `seconds`."""
    late = select(runs_table.c.id).where(is_open(), runs_table.c.created_at <= now() - seconds)
    return list(conn.execute(late).scalars())


def fail_overdue(conn: Connection, run_id: str, seconds: float) -> bool:
    error = runs.failure(
        "Overdue",
        f"The run did not end within {seconds:.0f} seconds.",
        "See which step it waits for (`pgfleet run show`), and whether a worker takes that step's queue.",
    )
    return runs.end(conn, run_id, RunEnd("failed", error=error))


def private(conn: Connection) -> list[tuple[str, str]]:
    """(run, process) of every unfinished run that one process keeps to itself."""
    query = select(runs_table.c.id, runs_table.c.here).where(runs_table.c.here != "", _unfinished())
    return [(row.id, row.here) for row in conn.execute(query)]


def adopt(conn: Connection, run_id: str, here: str, to: str = "") -> bool:
    """Give such a run to the fleet, or to the process `to`."""
    mine = update(runs_table).where(runs_table.c.id == run_id, runs_table.c.here == here)
    return bool(conn.execute(mine.values(here=to)).rowcount)


def inherit(conn: Connection, run_id: str, here: str, to: str) -> bool:
    """Fail the run of a dead process, and give what is to be cleaned up after it to the process `to`."""
    if not adopt(conn, run_id, here, to):
        return False
    error = runs.failure(
        "Killed",
        "The process that did this run was killed.",
        "Start it again; `pgfleet run show RUN` says how far it was.",
    )
    runs.end(conn, run_id, RunEnd("failed", error=error))
    return True


def unswept(conn: Connection) -> list[tuple[str, int, str]]:
    """(run, step, spool) of each undone clean-up after a fleet's run that has ended and had a spool."""
    left = and_(
        undone(), steps.c.always, ~is_open(), runs_table.c.here == "", runs_table.c.spool_id.is_not(None)
    )
    query = select(steps.c.run_id, steps.c.id, runs_table.c.spool_id).join(runs_table, current()).where(left)
    return [(row.run_id, row.id, row.spool_id) for row in conn.execute(query.order_by(steps.c.id))]


def _unfinished() -> ColumnElement[bool]:
    return or_(is_open(), runs_table.c.id.in_(select(steps.c.run_id).where(undone())))


def old(conn: Connection, days: float, keep: int) -> list[str]:
    """Runs that ended more than `days` ago, but not the newest `keep` of each kind and database."""
    newest_first = (runs_table.c.created_at.desc(), runs_table.c.id.desc())
    place = func.row_number().over(
        partition_by=(runs_table.c.database, runs_table.c.kind), order_by=newest_first
    )
    placed = select(
        runs_table.c.id, runs_table.c.state, runs_table.c.ended_at, place.label("place")
    ).subquery()
    ended = placed.c.ended_at < now() - days * DAY_SECONDS
    return list(conn.execute(select(placed.c.id).where(ended, placed.c.place > keep)).scalars())


def forget(conn: Connection, run_id: str) -> bool:
    """Delete a run that has ended, its steps and notices with it."""
    return bool(conn.execute(delete(runs_table).where(runs_table.c.id == run_id, ~is_open())).rowcount)
