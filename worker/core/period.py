"""A span of time that is reported on, which backups its schedule owed, and how far apart the verified ones were."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import NamedTuple

from worker.core import cron
from worker.errors import ConfigError

_MONTH = re.compile(r"(?P<year>[0-9]{4})-(?P<month>0[1-9]|1[0-2])")
#: Beside the schedule: how long a backup may take until it is verified. As for the alert BackupTooOld.
GRACE = timedelta(hours=6)
_DAILY = timedelta(days=1)
_DAY = timedelta(days=1)
_SAMPLE = 9


class Span(NamedTuple):
    """`end` excluded. name: of a month ``2026-11``."""

    name: str
    begin: datetime
    end: datetime

    def has(self, at: datetime) -> bool:
        return self.begin <= at < self.end

    def days(self) -> Iterator[date]:
        day = self.begin.date()
        while datetime.combine(day, time(), UTC) < self.end:
            yield day
            day += _DAY


def month(text: str) -> Span:
    """``2026-11`` in UTC. Raises ConfigError."""
    match = _MONTH.fullmatch(text)
    if match is None or not 1970 <= int(match["year"]) < 9999:
        raise ConfigError(f"{text!r} is not a month.", "Write for example 2026-11.")
    begin = datetime(int(match["year"]), int(match["month"]), 1, tzinfo=UTC)
    return Span(text, begin, (begin + timedelta(days=32)).replace(day=1))


def month_before(now: datetime) -> Span:
    """The last month that has ended."""
    last = now.astimezone(UTC).replace(day=1) - _DAY
    return month(f"{last:%Y-%m}")


class Window(NamedTuple):
    """A backup was due from `begin` on, and counts for this window until `end`."""

    begin: datetime
    end: datetime


def windows(line: str, span: Span, since: datetime, until: datetime) -> list[Window]:
    """What the schedule owed within the span: one a slot, or one a day where it has several slots a day.

    since: before it nothing was owed. until: what is not over by then is not owed yet.
    """
    if not line:
        return []
    firsts: dict[date, datetime] = {}
    at = max(span.begin, since) - timedelta(seconds=1)
    stop = min(span.end, until)
    while (at := cron.next_slot(line, at)) < stop:
        firsts.setdefault(at.date(), at)
        # The rest of that day is the same window.
        at = datetime.combine(at.date() + _DAY, time(), UTC) - timedelta(seconds=1)
    begins = list(firsts.values())
    found = [Window(begin, end) for begin, end in pairwise([*begins, at])]
    return [window for window in found if window.begin + GRACE <= until]


def allowed(line: str, seconds: int, now: datetime) -> float:
    """The target in seconds; without one the longest of the coming intervals of the schedule, and some hours.

    Without a schedule a daily backup is expected: somebody's cron is.
    """
    if seconds:
        return float(seconds)
    if not line:
        return (_DAILY + GRACE).total_seconds()
    slots = [now]
    for _ in range(_SAMPLE):
        slots.append(cron.next_slot(line, slots[-1]))
    return (max(later - earlier for earlier, later in pairwise(slots[1:])) + GRACE).total_seconds()


class Stretch(NamedTuple):
    """The longest time without a newer verified backup, and between which moments."""

    seconds: float
    begin: datetime
    end: datetime


def longest(snapshots: Sequence[datetime], span: Span, now: datetime) -> Stretch | None:
    """Between the snapshots of consecutive verified backups, as far as it reaches into the span.

    The one before the span counts, and so does the time from the last one to the end of the span (or to now): what
    was written then would have been lost. None without any backup up to the end.
    """
    stop = min(span.end, now)
    known = sorted(at for at in snapshots if at < stop)
    before = [at for at in known if at < span.begin]
    inside = [at for at in known if at >= span.begin]
    marks = [*before[-1:], *inside, stop]
    stretches = [
        Stretch((later - earlier).total_seconds(), earlier, later) for earlier, later in pairwise(marks)
    ]
    return max(stretches, key=lambda one: one.seconds, default=None)
