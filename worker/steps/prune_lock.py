"""Let the locks of stored objects follow the settings: when `object_lock_days` grows, what is stored is locked longer.

A lock is never shortened; no right to delete is needed.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from worker.core import keys
from worker.steps.context import Context, Outcome
from worker.steps.prune_sweep import entries_of

_SLACK = timedelta(minutes=5)  # the upload counted from its own moment


def extend(context: Context) -> Outcome:
    """``{"destination", "extended"}``: objects whose lock ends later now. Raises StorageError."""
    destination = context.step.data["destination"]
    store, now = context.adapters.store(destination), datetime.now(UTC)
    days = timedelta(days=context.adapters.destination(destination).object_lock_days)
    extended = 0
    for entry in entries_of(context, destination):
        if entry.manifest is None:
            continue
        for info in entry.objects:
            context.check()
            name, until = keys.parse(info.key), info.modified + days
            if name is None or name.role == "evidence" or until <= now:
                continue
            lock = store.lock_until(info.key)
            if lock is None or lock < until - _SLACK:
                extended += store.extend_lock(info.key, until)
    return Outcome({"destination": destination, "extended": extended})
