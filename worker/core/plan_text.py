"""A cleanup plan as values and words: one row a copy, sums for each destination.

A row is JSON: ``{"destination", "backup_id", "type", "state", "keep", "rule", "reason", "bytes", "expires_at",
"cost"}``. `bytes` is all that the copy takes up there, its manifest and evidence included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.core import human
from worker.core.retention import Verdict

Row = Mapping[str, Any]


def row(destination: str, verdict: Verdict, cost: str | None) -> dict[str, Any]:
    """cost: what deleting it now still pays for (`worker.core.cost`)."""
    copy = verdict.candidate
    return {
        "destination": destination,
        "backup_id": copy.backup_id,
        "type": copy.type,
        "state": copy.state,
        "keep": verdict.keep,
        "rule": verdict.rule,
        "reason": verdict.reason,
        "bytes": copy.size,
        "expires_at": verdict.expires_at.isoformat(),
        "cost": cost if not verdict.keep else None,
    }


def totals(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    """destination → ``{"keep", "remove", "bytes"}``: numbers of copies, and the bytes of those to remove."""
    sums: dict[str, dict[str, int]] = {}
    for one in rows:
        found = sums.setdefault(one["destination"], {"keep": 0, "remove": 0, "bytes": 0})
        found["keep" if one["keep"] else "remove"] += 1
        found["bytes"] += 0 if one["keep"] else one["bytes"]
    return sums


def too_large_message(rows: Iterable[Row], database: str, fraction: float) -> tuple[str, str]:
    """(message, hint) for a plan that somebody should look at first."""
    listed = list(rows)
    removed = sum(not one["keep"] for one in listed)
    return (
        f"Cleaning up {database} would remove {removed} of its {len(listed)} copies, more than "
        f"{fraction:.0%}; nothing was removed.",
        "Look at `pgfleet cleanup --dry-run`. If that is what you want, add --force.",
    )


def clock_message(database: str, reason: str) -> tuple[str, str]:
    """(message, hint) for a plan that was made by a clock that looks wrong; reason: that of its verdicts."""
    return (
        f"{database} was not cleaned up. {reason}",
        "Set the clocks of all hosts right (NTP) and start the workers again. If only a backup's name is wrong, "
        "move its files elsewhere by hand.",
    )


def sentences(rows: Iterable[Row], *, done: bool) -> list[str]:
    """One for each destination: what was or would be reclaimed."""
    verb = "removed" if done else "to remove"
    return [
        f"{destination}: {sums['keep']} kept, {sums['remove']} {verb}, "
        f"{human.size(sums['bytes'])} {'reclaimed' if done else 'would be reclaimed'}"
        for destination, sums in totals(rows).items()
    ]
