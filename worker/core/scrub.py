"""Which stored parts to read again today, and how much of a copy has been read of late.

A copy's read map says when its parts were read: ``{object: [[first, last, ISO time], …]}``, ranges of part numbers.
It is kept in the newest scrub record beside the copy, so no database of ours is needed to go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.core.backup import Artifact
from worker.core.parts import PartPlan

ReadMap = dict[str, list[list[Any]]]
_NEVER = datetime.min.replace(tzinfo=UTC)
_DAY = timedelta(days=1)
_FRESH = timedelta(hours=20)  # what was read so lately is not read again to fill a day's share


@dataclass(frozen=True, slots=True)
class StoredPart:
    """A part and when its bytes were last read and found good; None: never."""

    backup_id: str
    object: str
    number: int
    offset: int
    size: int
    sha256: str
    read_at: datetime | None


def pick(parts: Iterable[StoredPart], now: datetime, days: int) -> list[StoredPart]:
    """Today's share, the longest unread first.

    All that would pass `days` days before tomorrow's share, and then as much as makes 1/`days` of all bytes: run
    once a day, every byte is read within `days` days.
    """
    ordered = sorted(
        parts, key=lambda part: (part.read_at or _NEVER, part.backup_id, part.object, part.number)
    )
    share = -(-sum(part.size for part in ordered) // days)
    chosen, size = [], 0
    for part in ordered:
        if part.read_at is None:
            wanted = size < 2 * share  # a new destination is not read all at once
        else:
            unread = now - part.read_at
            wanted = unread >= (days - 1) * _DAY or (size < share and unread >= _FRESH)
        if wanted:
            chosen.append(part)
            size += part.size
    return chosen


def times(read: Mapping[str, Sequence[Sequence[Any]]], name: str) -> dict[int, datetime]:
    """Part number → when it was read. What cannot be understood was not read."""
    found: dict[int, datetime] = {}
    for entry in read.get(name, ()):
        try:
            first, last, at = int(entry[0]), int(entry[1]), datetime.fromisoformat(entry[2])
        except (ValueError, TypeError, IndexError):
            continue
        if at.tzinfo is not None:
            found.update(dict.fromkeys(range(first, min(last, 10_000) + 1), at))
    return found


def merged(
    read: Mapping[str, Sequence[Sequence[Any]]], fresh: Mapping[str, Iterable[int]], at: datetime
) -> ReadMap:
    """`read` with the parts of `fresh` (object → numbers) read at `at`."""
    result: ReadMap = {}
    for name in sorted({*read, *fresh}):
        known = times(read, name) | dict.fromkeys(fresh.get(name, ()), at)
        result[name] = _ranges(known)
    return result


def _ranges(known: Mapping[int, datetime]) -> list[list[Any]]:
    ranges: list[list[Any]] = []
    for number in sorted(known):
        at = known[number].isoformat()
        if ranges and ranges[-1][1] == number - 1 and ranges[-1][2] == at:
            ranges[-1][1] = number
        else:
            ranges.append([number, number, at])
    return ranges


def covered(
    read: Mapping[str, Sequence[Sequence[Any]]],
    artifacts: Iterable[Artifact],
    now: datetime,
    days: int,
    everything_at: datetime | None = None,
) -> float:
    """The share of the bytes that was read within `days` days; 1 only for all. everything_at: all of it was, then."""
    total = done = 0
    for artifact in artifacts:
        plan, seen = PartPlan(artifact.size, artifact.part_size), times(read, artifact.name)
        for number in plan.numbers():
            size = plan.range(number)[1]
            at = max(seen.get(number, _NEVER), everything_at or _NEVER)
            total += size
            done += size if now - at <= days * _DAY else 0
    return done * 10_000 // total / 10_000 if total else 1.0
