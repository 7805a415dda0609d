"""How a run ends: what each copy came to, and so the whole."""

from __future__ import annotations

from typing import Any

from worker.ledger.model import RunState
from worker.steps.context import Context, Outcome

Copy = dict[str, Any]


def conclude(context: Context) -> Outcome:
    """All steps are done, failed or skipped: end the run as its copies ended.

    `verified` when as many copies as the database requires (all, by default) are; `damaged` as soon as one copy is
    stored and wrong; else `failed`. The error is that of the first copy that has one.
    """
    copies = [_copy(context, destination) for destination in _destinations(context)]
    good = sum(copy["state"] == "verified" for copy in copies)
    state: RunState = "verified" if good >= _required(context, len(copies)) else "failed"
    if any(copy["state"] == "damaged" for copy in copies):
        state = "damaged"
    error = next((copy["error"] for copy in copies if copy["error"]), None) if state != "verified" else None
    return Outcome({"copies": copies}, end=state, run_result={"copies": copies}, error=error)


def _destinations(context: Context) -> list[str]:
    for step in context.ledger.steps(context.run.id, name="backup.dump"):
        return list(step.result["destinations"])
    return list(context.run.request["destinations"])


def _required(context: Context, copies: int) -> int:
    if context.run.kind != "backup":
        return copies
    return min(copies, context.database.require_copies or copies)


def _copy(context: Context, destination: str) -> Copy:
    """One copy's state (verified, damaged, failed), its bytes, and what went wrong."""
    for step in context.ledger.steps(context.run.id, name="backup.attest", branch=destination):
        if step.state == "done":
            return {
                "destination": destination,
                "state": "verified",
                "bytes": step.result["size"],
                "error": None,
            }
    failed = (
        step.error
        for step in context.ledger.steps(context.run.id, branch=destination)
        if step.state == "failed"
    )
    error = dict(next((error for error in failed if error), {}))
    state = "damaged" if error.get("type") == "CopyDamaged" else "failed"
    return {"destination": destination, "state": state, "bytes": 0, "error": error}
