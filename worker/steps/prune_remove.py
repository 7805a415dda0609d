"""Remove one copy, after looking once more; and say how a cleanup ended.

Killed at any line, the next attempt goes on: the manifest goes first, so the rest is no backup any more.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from worker.catalog import Catalog, Entry
from worker.core import keys
from worker.errors import ObjectLocked, StorageError
from worker.ledger.model import OPEN_STATES
from worker.steps.context import Context, Outcome
from worker.steps.prune import hold_ran_out, is_good, lock_of
from worker.steps.removed import record_removal
from worker.storage.guarded import UNTIL_RELEASED, GuardedStore

_READERS = ("restore", "drill", "copy", "verify")


def remove(context: Context) -> Outcome:
    """``{"state": "removed" | "kept" | "locked" | "failed", "reason", "bytes"}``. Raises StorageUnavailable."""
    data = context.step.data
    destination, backup = data["destination"], data["backup_id"]
    catalog = context.adapters.catalog(destination)
    store = context.adapters.store(destination)
    entry = catalog.entry(backup)
    state, reason = "removed", ""
    if entry is not None:
        refusal = _why_not(context, catalog, store, entry)
        state, reason = refusal or _delete(context, catalog, store, entry)
    reclaimed = data["bytes"] if state == "removed" else 0
    shown = {"destination": destination, "backup_id": backup, "state": state, "reason": reason}
    return Outcome({**shown, "bytes": reclaimed})


def _why_not(context: Context, catalog: Catalog, store: GuardedStore, entry: Entry) -> tuple[str, str] | None:
    """What has changed since the plan, if it protects this copy."""
    if entry.hold is not None:
        return "kept", f"It is held now: {entry.hold.reason}"
    lock = lock_of(store, catalog, entry)
    if lock is not None and lock > datetime.now(UTC):
        when = "a legal hold ends" if lock == UNTIL_RELEASED else f"{lock:%Y-%m-%d %H:%M} UTC"
        return "locked", f"It is locked until {when}."
    for other in context.step.data["relies_on"]:
        found = catalog.entry(other)
        if other == entry.backup_id or found is None or not is_good(found):
            return "kept", f"{other}, which should have stayed, is not good any more: plan again."
    for run in context.ledger.runs(states=OPEN_STATES, limit=10_000):
        if run.kind in _READERS and entry.backup_id in (run.backup_id, run.request.get("backup")):
            return "kept", f"Run {run.id} ({run.kind}) is working with it."
    return None


def _delete(context: Context, catalog: Catalog, store: GuardedStore, entry: Entry) -> tuple[str, str]:
    context.check()
    record_removal(context, catalog, entry)
    try:
        if hold_ran_out(catalog, entry):
            for info in entry.objects:
                store.set_legal_hold(info.key, False)
        catalog.forget(entry.backup_id)
    except ObjectLocked as error:
        left = catalog.entry(entry.backup_id)
        if left is not None and _has_more_than_evidence(left):
            return "locked", error.message
        return "removed", "Only records about it are left, until their lock ends."
    except StorageError as error:
        if error.retryable:
            raise
        return "failed", f"{error.message} {error.hint}".strip()
    return "removed", ""


def _has_more_than_evidence(entry: Entry) -> bool:
    names = [keys.parse(info.key) for info in entry.objects]
    return any(name is not None and name.role != "evidence" for name in names)


def conclude(context: Context) -> Outcome:
    """Succeeded when every destination was cleaned up; what is locked or was protected meanwhile is no failure."""
    steps = [step for step in context.ledger.steps(context.run.id) if step.id != context.step.id]
    plan = next(step.result for step in steps if step.name == "cleanup.plan")
    removals = [step.result for step in steps if step.name == "cleanup.remove" and step.state == "done"]
    sweeps = [step.result for step in steps if step.name == "cleanup.sweep" and step.state == "done"]
    errors = [_error(*error) for error in plan["failures"].values()]
    errors += [_error(one["reason"], "") for one in removals if one["state"] == "failed"]
    errors += [
        _error(step.error["message"], step.error.get("hint", ""))
        for step in steps
        if step.state == "failed" and step.error
    ]
    errors += [_error(problem, "") for sweep in sweeps for problem in sweep["problems"]]
    result = {
        "destinations": _sums(plan["destinations"], removals, sweeps),
        "not_removed": [one for one in removals if one["state"] != "removed"][:100],
    }
    return Outcome(
        {}, end="failed" if errors else "succeeded", run_result=result, error=errors[0] if errors else None
    )


def _error(message: str, hint: str) -> dict[str, Any]:
    """A cleanup has the seed's exit codes: whatever a store refuses is 1."""
    return {"type": "CleanupFailed", "message": message, "hint": hint, "exit_code": 1}


def _sums(destinations: list[str], removals: list[Any], sweeps: list[Any]) -> dict[str, dict[str, int]]:
    sums = {
        alias: {"removed": 0, "bytes": 0, "aborted_uploads": 0, "orphans": 0, "orphan_bytes": 0}
        for alias in destinations
    }
    for one in removals:
        sums[one["destination"]]["removed"] += one["state"] == "removed"
        sums[one["destination"]]["bytes"] += one["bytes"]
    for sweep in sweeps:
        found = sums[sweep["destination"]]
        found["aborted_uploads"] += sweep["aborted"]
        found["orphans"] += sweep["deleted"]
        found["orphan_bytes"] += sweep["bytes"]
    return sums
