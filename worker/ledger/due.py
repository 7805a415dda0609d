"""Which steps are due: the one rule, used to hand out hints, to claim, to wait and to count.

A step is due when its run is open (for an `always` step: has ended), its time has come, nobody holds a lease
on it, attempts are left, and nothing that it needs is undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, case, func, literal, or_, select, true, update
from sqlalchemy.engine import Connection

from worker.ledger import clock
from worker.ledger.clock import now
from worker.ledger.model import Hint
from worker.ledger.outcomes import QueueDepth
from worker.ledger.runs import is_open
from worker.ledger.schema import runs, steps, undone
from worker.ledger.steps import current

#: A hint that nothing came of is sent again after resend_after × 1, 2, 4 …, up to this many seconds: behind a
#: long queue hints must not multiply, and after a loss a step waits at most as long as it has waited already.
RESEND_CAP_SECONDS = 3600.0
_DOUBLINGS = 20


def claimable() -> ColumnElement[bool]:
    """What the step's own row says."""
    waiting = and_(steps.c.state == "due", func.coalesce(steps.c.next_attempt_at, 0.0) <= now())
    abandoned = and_(steps.c.state == "running", steps.c.lease_until <= now())
    return and_(or_(waiting, abandoned), steps.c.attempts < steps.c.max_attempts)


@dataclass(slots=True)
class Waits:
    """What steps wait for, asked once for many steps of a run."""

    conn: Connection
    _blockers: dict[tuple[str, int, str], list[int]] = field(default_factory=dict)
    _busy: dict[str, list[int]] = field(default_factory=dict)

    def blocked(self, step: Row[Any]) -> bool:
        """Whether something that the step needs is undone; for an `always` one, whether others still work."""
        return bool(step.needs and self._needed(step)) or bool(step.always and self._working(step))

    def _needed(self, step: Row[Any]) -> bool:
        key = (step.run_id, step.generation, step.needs)
        if key not in self._blockers:
            self._blockers[key] = _blockers(self.conn, *key)
        return any(blocker != step.id for blocker in self._blockers[key])

    def _working(self, step: Row[Any]) -> bool:
        if step.run_id not in self._busy:
            live = and_(steps.c.run_id == step.run_id, steps.c.lease_until > now(), steps.c.state != "void")
            self._busy[step.run_id] = list(
                self.conn.execute(select(steps.c.id).where(live).limit(2)).scalars()
            )
        return any(worker != step.id for worker in self._busy[step.run_id])


def _blockers(conn: Connection, run_id: str, generation: int, needs: str) -> list[int]:
    """The ids of undone steps that `needs` waits for: two at most, so that a step can discount itself.

    Groups and needs are paths: the groups that are a prefix of `needs` are its ancestors, looked up by index.
    """
    named = ~steps.c.always if needs == "*" else steps.c.group_path.in_(_ancestors(needs))
    mine = and_(steps.c.run_id == run_id, steps.c.generation == generation)
    # The order is the index's: without it PostgreSQL may read the whole table to find the last of 100,000 parts.
    found = select(steps.c.id).where(mine, undone(), named).order_by(steps.c.group_path).limit(2)
    return list(conn.execute(found).scalars())


def _ancestors(path: str) -> list[str]:
    """``a/b/`` → ``a/``, ``a/b/``."""
    return [path[: at + 1] for at, letter in enumerate(path) if letter == "/"]


def take(conn: Connection, *, limit: int, run_id: str | None, resend_after: float, here: str) -> list[Hint]:
    """Hints for due steps, each marked as sent. With `resend_after` 0 earlier hints do not count."""
    ready = steps.c.hint_at <= now() if resend_after > 0 else true()
    waits = Waits(conn)
    chosen: dict[int, Row[Any]] = {}
    for row in _candidates(conn, and_(ready, _wanted(run_id, here))):
        if not waits.blocked(row):
            chosen[row.id] = row
        if len(chosen) >= limit:
            break
    # Somebody else may be sending the same: skip what is locked, and lock nothing that is not sent.
    mine = select(steps.c.id).where(steps.c.id.in_(chosen), claimable(), ready).order_by(steps.c.id)
    taken = list(conn.execute(mine.with_for_update(skip_locked=True)).scalars())
    if taken:
        conn.execute(_mark_sent(resend_after).where(steps.c.id.in_(taken)))
    taken_set = set(taken)
    return [_hint(row) for step_id, row in chosen.items() if step_id in taken_set]


def _mark_sent(resend_after: float) -> Any:
    delay = literal(float(resend_after)) * literal(1).bitwise_lshift(steps.c.sends)
    return update(steps).values(
        sends=case((steps.c.sends < _DOUBLINGS, steps.c.sends + 1), else_=_DOUBLINGS),
        sent_at=func.coalesce(steps.c.sent_at, now()),
        hint_at=now() + case((delay > RESEND_CAP_SECONDS, RESEND_CAP_SECONDS), else_=delay),
    )


def next_due_in(conn: Connection, *, run_id: str | None, here: str) -> float | None:
    """Seconds until a step may be due; None when nothing will be without somebody's doing."""
    wanted = _wanted(run_id, here)
    at = clock.read(conn)
    waits = Waits(conn)
    times: list[float] = []
    for row in _candidates(conn, and_(steps.c.hint_at <= at, wanted)):
        if not waits.blocked(row):
            return 0.0
        if row.always:
            times += conn.execute(
                select(func.min(steps.c.lease_until)).where(_leased(row.run_id, at))
            ).scalars()
    later = (
        select(func.min(steps.c.hint_at)).join(runs, current()).where(undone(), steps.c.hint_at > at, wanted)
    )
    times += conn.execute(later).scalars()
    return min((max(0.0, time - at) for time in times if time is not None), default=None)


def _leased(run_id: str, at: float) -> ColumnElement[bool]:
    return and_(steps.c.run_id == run_id, steps.c.lease_until > at, steps.c.state != "void")


def depths(conn: Connection) -> list[QueueDepth]:
    """Steps that could run now, by queue."""
    at = clock.read(conn)
    due_since = func.coalesce(
        steps.c.sent_at, steps.c.lease_until, steps.c.next_attempt_at, steps.c.created_at
    )
    grouped = (
        steps.c.run_id,
        steps.c.generation,
        steps.c.queue,
        steps.c.needs,
        steps.c.always,
        runs.c.spool_id,
    )
    query = (
        select(
            func.min(steps.c.id).label("id"),
            func.count().label("due"),
            func.min(due_since).label("since"),
            *grouped,
        )
        .join(runs, current())
        .where(undone(), claimable(), _run_allows(), _has_queue())
        .group_by(*grouped)
    )
    waits = Waits(conn)
    found: dict[str, tuple[int, float]] = {}
    for row in conn.execute(query).all():
        if not waits.blocked(row):
            due, oldest = found.get(_queue(row), (0, 0.0))
            found[_queue(row)] = (due + row.due, max(oldest, at - row.since))
    return [QueueDepth(queue, due, oldest) for queue, (due, oldest) in sorted(found.items())]


def _candidates(conn: Connection, condition: ColumnElement[bool]) -> Iterator[Row[Any]]:
    columns = (
        steps.c.id,
        steps.c.run_id,
        steps.c.generation,
        steps.c.name,
        steps.c.queue,
        steps.c.needs,
        steps.c.always,
        steps.c.key,
        runs.c.spool_id,
        runs.c.database,
        runs.c.backup_id,
    )
    query: Select[Any] = (
        select(*columns)
        .join(runs, current())
        .where(undone(), claimable(), condition)
        .order_by(steps.c.hint_at, steps.c.id)
    )
    with conn.execute(query, execution_options={"yield_per": 256}) as found:
        yield from found


def _wanted(run_id: str | None, here: str) -> ColumnElement[bool]:
    condition = and_(runs.c.here == here, _run_allows(), _has_queue())
    return condition if run_id is None else and_(condition, steps.c.run_id == run_id)


def _run_allows() -> ColumnElement[bool]:
    return or_(and_(is_open(), ~steps.c.always), and_(~is_open(), steps.c.always))


def _has_queue() -> ColumnElement[bool]:
    """A step for the run's spool has nowhere to go before there is one; cleaning up then goes anywhere."""
    return or_(steps.c.queue != "spool", runs.c.spool_id.is_not(None), steps.c.always)


def _queue(row: Row[Any]) -> str:
    if row.queue != "spool":
        return str(row.queue)
    return f"spool.{row.spool_id}" if row.spool_id is not None else "control"


def _hint(row: Row[Any]) -> Hint:
    return Hint(row.run_id, row.id, row.name, _queue(row), row.database, row.backup_id, row.key)
