"""Whether this host's clock can be trusted to say what is old enough to be removed."""

from __future__ import annotations

import time
from datetime import datetime

from worker.core import human
from worker.steps.context import Context

_TOLERANCE = 3600.0  # seconds


def _set_by() -> float:
    """What the clock shows beyond one that nobody can set, and that goes on while the machine sleeps."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


_AT_START = _set_by()


def trouble(context: Context, now: datetime) -> str:
    """What is wrong with it, or "". A bucket needs no check: S3 refuses requests whose time is off by 15 minutes."""
    lease_until = context.step.lease_until or now.timestamp()
    claimed_at = lease_until - context.claim.lease_seconds  # by the ledger's clock
    apart = now.timestamp() - claimed_at
    if abs(apart) > _TOLERANCE:
        return f"this host's is {human.duration(abs(apart))} {'ahead of' if apart > 0 else 'behind'} the ledger's"
    moved = _set_by() - _AT_START
    if abs(moved) > _TOLERANCE:
        where = "forward" if moved > 0 else "back"
        return f"it was set {where} by {human.duration(abs(moved))} since this process began"
    last = context.ledger.runs(limit=1)
    if last and last[0].created_at > now.timestamp() + _TOLERANCE:
        return f"run {last[0].id} is from the future"
    return ""
