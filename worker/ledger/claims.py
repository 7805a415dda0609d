"""The right to work on a step: taken in one transaction, held by a lease, proven by a fencing number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, or_, select, update
from sqlalchemy.engine import Connection

from worker.errors import LeaseLost
from worker.ledger import rows, runs
from worker.ledger.clock import now
from worker.ledger.due import Waits, claimable
from worker.ledger.model import Claim
from worker.ledger.schema import runs as runs_table
from worker.ledger.schema import steps


def claim(conn: Connection, run_id: str, step_id: int, *, owner: str, lease_seconds: float) -> Claim | None:
    """None unless the step is due: a hint may be late, doubled or wrong."""
    run = _lock_run(conn, run_id)
    if run is None:
        return None
    wanted = and_(steps.c.id == step_id, steps.c.run_id == run_id, steps.c.generation == run.generation)
    step = conn.execute(select(steps).where(wanted, claimable()).with_for_update()).first()
    opened = run.state in ("queued", "running")
    if step is None or step.always == opened:
        return None
    if Waits(conn).blocked(step):  # another was quicker: to be hinted again as soon as nothing is in the way
        conn.execute(update(steps).where(steps.c.id == step_id).values(hint_at=now(), sends=0))
        return None
    if run.state == "queued":
        start = update(runs_table).where(runs_table.c.id == run_id).values(state="running", started_at=now())
        run = conn.execute(start.returning(runs_table)).one()
    notes = step.notes
    if step.state == "running":  # its worker was lost, or too slow
        notes = {**notes, rows.TAKEOVERS: notes.get(rows.TAKEOVERS, 0) + 1}
    taken = (
        update(steps)
        .where(steps.c.id == step_id)
        .values(
            state="running",
            notes=notes,
            fence=steps.c.fence + 1,
            attempts=steps.c.attempts + 1,
            owner=owner,
            started_at=step.started_at if step.started_at is not None else now(),
            bytes_done=0,
            **_lease(lease_seconds),
        )
    )
    step = conn.execute(taken.returning(steps)).one()
    return Claim(rows.run(run), rows.step(step), step.fence, lease_seconds)


def _lock_run(conn: Connection, run_id: str) -> Row[Any] | None:
    """Steps of a running run are claimed side by side; the first, and those after its end, one at a time."""
    state = conn.execute(select(runs_table.c.state).where(runs_table.c.id == run_id)).scalar()
    row = runs.lock(conn, run_id, share=state == "running")
    return row if row is not None and (state != "running" or row.state == "running") else None


def _lease(seconds: float) -> dict[str, Any]:
    until = now() + seconds
    return {"lease_until": until, "hint_at": until, "next_attempt_at": None, "sends": 0, "sent_at": None}


def held(claim: Claim) -> ColumnElement[bool]:
    """The step is still the claim's. Skipped and void ones are nobody's: a run's end revokes its claims."""
    return and_(steps.c.id == claim.step.id, steps.c.fence == claim.fence, steps.c.state == "running")


def lost(claim: Claim) -> LeaseLost:
    return LeaseLost(
        f"Step {claim.step.name} of run {claim.run.id} is not this worker's any more.",
        "It was cancelled, or another worker has taken it over: nothing is to be done here.",
    )


def heartbeat(conn: Connection, claim: Claim, *, bytes_done: int | None, bytes_total: int | None) -> bool:
    values = {"lease_until": now() + claim.lease_seconds, "hint_at": now() + claim.lease_seconds}
    done = {"bytes_done": bytes_done} if bytes_done is not None else {}
    total = {"bytes_total": bytes_total} if bytes_total is not None else {}
    return bool(conn.execute(update(steps).where(held(claim)).values(values | done | total)).rowcount)


def note(conn: Connection, claim: Claim, data: Mapping[str, Any]) -> None:
    """Merge into the step's data. Raises LeaseLost."""
    row = conn.execute(select(steps.c.notes).where(held(claim)).with_for_update()).first()
    if row is None:
        raise lost(claim)
    conn.execute(update(steps).where(steps.c.id == claim.step.id).values(notes={**row.notes, **data}))


def set_run(
    conn: Connection,
    claim: Claim,
    *,
    backup_id: str | None,
    spool_id: str | None,
    data: Mapping[str, Any] | None,
) -> None:
    """Set what is given, merge `data`. Raises LeaseLost."""
    run = runs.lock(conn, claim.run.id)
    step = conn.execute(select(steps.c.id).where(held(claim)).with_for_update()).first()
    if run is None or step is None:
        raise lost(claim)
    values: dict[str, Any] = {}
    if backup_id is not None:
        values["backup_id"] = backup_id
    if spool_id is not None:
        values["spool_id"] = spool_id
    if data is not None:
        values["data"] = {**run.data, **data}
    if values:
        conn.execute(update(runs_table).where(runs_table.c.id == claim.run.id).values(values))


def give_back(conn: Connection, claim: Claim, seconds: float, data: Mapping[str, Any]) -> None:
    """Due again in `seconds`; the attempt does not count. A step that is not the claim's is left alone."""
    row = conn.execute(select(steps.c.notes).where(held(claim)).with_for_update()).first()
    if row is None:
        let_go(conn, claim)
        return
    values = {"attempts": steps.c.attempts - 1, "notes": {**row.notes, **data}} | again(seconds)
    conn.execute(update(steps).where(steps.c.id == claim.step.id).values(values))


def again(seconds: float) -> dict[str, Any]:
    """What makes a step due again."""
    at = now() + max(0.0, seconds)
    return {"state": "due", "owner": None, "lease_until": None, "next_attempt_at": at, "hint_at": at}


def let_go(conn: Connection, claim: Claim) -> None:
    """The worker has stopped: a step that was skipped or voided under it no longer holds up the cleaning."""
    revoked = or_(steps.c.state == "skipped", steps.c.state == "void")
    mine = and_(steps.c.id == claim.step.id, steps.c.fence == claim.fence, revoked)
    conn.execute(update(steps).where(mine).values(lease_until=None))


def expire(conn: Connection, owner: str) -> int:
    """End the leases of an owner that is known to be dead. Takes no lock that somebody else holds."""
    mine = select(steps.c.id).where(steps.c.owner == owner, steps.c.lease_until > now())
    found = list(conn.execute(mine.order_by(steps.c.id).with_for_update(skip_locked=True)).scalars())
    if found:
        conn.execute(update(steps).where(steps.c.id.in_(found)).values(lease_until=now(), hint_at=now()))
    return len(found)


def owners(conn: Connection) -> list[str]:
    """Everybody who holds a lease."""
    return list(conn.execute(select(steps.c.owner).where(steps.c.lease_until > now()).distinct()).scalars())
