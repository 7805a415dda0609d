"""How the work on a step ends: committed with what follows, tried again, or failed for good and once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sqlalchemy import Row, and_, select, update
from sqlalchemy.engine import Connection

from worker.ledger import rows, runs
from worker.ledger.claims import again, held, let_go
from worker.ledger.clock import now
from worker.ledger.model import Claim, NewStep
from worker.ledger.outcomes import FailOutcome, RunEnd
from worker.ledger.schema import steps


def commit(
    conn: Connection,
    claim: Claim,
    result: Mapping[str, Any],
    next_steps: Iterable[NewStep],
    ending: RunEnd | None,
    *,
    max_attempts: int,
) -> bool:
    """False, and nothing done, when the step is not the claim's any more. Doing it twice is doing it once."""
    runs.lock(conn, claim.run.id, share=ending is None)
    values = {
        "state": "done",
        "result": dict(result),
        "error": None,
        "lease_until": None,
        "ended_at": now(),
    } | _size(result)
    if not conn.execute(update(steps).where(held(claim)).values(values)).rowcount:
        let_go(conn, claim)
        return _committed(conn, claim)
    generation = claim.step.generation
    branches = rows.insert_steps(conn, claim.run.id, generation, next_steps, max_attempts=max_attempts)
    _skip_failed(conn, claim.run.id, generation, branches)
    if ending is not None:
        runs.end(conn, claim.run.id, ending)
    return True


def _skip_failed(conn: Connection, run_id: str, generation: int, branches: Collection[str]) -> None:
    """What comes into a branch after it has failed is not done either."""
    if not branches:
        return
    mine = and_(steps.c.run_id == run_id, steps.c.generation == generation, steps.c.state == "failed")
    failed = select(steps.c.branch).where(mine, steps.c.branch.in_(branches)).distinct()
    for branch in list(conn.execute(failed).scalars()):
        runs.skip(conn, run_id, generation=generation, branch=branch)


def _size(result: Mapping[str, Any]) -> dict[str, int]:
    """`result["bytes"]` is the last word on how much there was: a quick step ends without a heartbeat."""
    size = result.get("bytes")
    return {"bytes_done": size, "bytes_total": size} if isinstance(size, int) else {}


def _committed(conn: Connection, claim: Claim) -> bool:
    """The connection may have died between the commit and its answer: the row remembers whose it was."""
    own = and_(steps.c.id == claim.step.id, steps.c.fence == claim.fence, steps.c.state == "done")
    return conn.execute(select(steps.c.id).where(own)).first() is not None


def fail(conn: Connection, claim: Claim, error: Mapping[str, Any], retry_in: float | None) -> FailOutcome:
    runs.lock(conn, claim.run.id)
    step = conn.execute(select(steps).where(held(claim)).with_for_update()).first()
    if step is None:
        let_go(conn, claim)
        return "ignored"
    if retry_in is None or step.attempts >= step.max_attempts:
        return _for_good(conn, step, error)
    values = {"error": dict(error)} | again(retry_in)
    conn.execute(update(steps).where(steps.c.id == step.id).values(values))
    return "retry"


def exhausted(conn: Connection) -> list[tuple[str, int]]:
    """(run, step) of every step whose last worker is gone and whose attempts are used up."""
    query = select(steps.c.run_id, steps.c.id).where(_used_up()).order_by(steps.c.run_id, steps.c.id)
    return [(row.run_id, row.id) for row in conn.execute(query)]


def fail_exhausted(conn: Connection, run_id: str, step_id: int) -> bool:
    """Fail such a step for good, if it still is one."""
    runs.lock(conn, run_id)
    step = conn.execute(select(steps).where(steps.c.id == step_id, _used_up()).with_for_update()).first()
    if step is None:
        return False
    error = runs.failure(
        "WorkerLost",
        f"The worker of step {step.name} vanished, {step.attempts} times in a row.",
        "It was killed (out of memory?) or lost its connection: see the log of that host.",
        step.name,
    )
    _for_good(conn, step, error)
    return True


def _used_up() -> Any:
    return and_(
        steps.c.state == "running", steps.c.lease_until <= now(), steps.c.attempts >= steps.c.max_attempts
    )


def _for_good(conn: Connection, step: Row[Any], error: Mapping[str, Any]) -> FailOutcome:
    record = {"step": step.name, **error}
    failed = {"state": "failed", "error": record, "lease_until": None, "ended_at": now()}
    conn.execute(update(steps).where(steps.c.id == step.id).values(failed))
    if step.always:
        return "branch_failed"
    if step.branch:
        runs.skip(conn, step.run_id, generation=step.generation, branch=step.branch)
        return "branch_failed"
    runs.end(conn, step.run_id, RunEnd("failed", error=record))
    return "run_failed"
