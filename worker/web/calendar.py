"""Months with a backup a day: what there is, what is due, and what retention will remove when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from worker.config.model import Database
from worker.core import cron
from worker.core.backup import backup_type
from worker.core.retention import Verdict
from worker.metrics.holdings import USABLE, Holding
from worker.steps.inventory import Listed

_BACK_MONTHS = 2
_SLOTS = 400
_PLANNED_DAYS = 35
#: Rules that let a copy stay beyond its age, for as long as there is nothing better.
_AGELESS = frozenset(
    (
        "held", "newest", "newest_proven", "minimum", "keep_last", "only_good_copy", "damaged", "locked", "clock",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one backup, its longest-lived copy counting. gone_at: the cleanup that will remove it, None when
    nothing but its age is known to keep it or an event decides. reason: one sentence.
    """

    keep: bool
    reason: str
    expires_at: datetime | None
    gone_at: datetime | None
    rule: str


@dataclass(frozen=True, slots=True)
class Day:
    """state: of the best backup of that day: proven, verified, unverified, damaged …, or "" without any."""

    date: date
    backups: Sequence[Listed]
    type: str
    state: str
    held: bool
    due: bool
    removals: int

    @property
    def says(self) -> str:
        parts = []
        if self.backups:
            count = f"{len(self.backups)} backups, best of them" if len(self.backups) > 1 else "backup"
            parts.append(f"{self.type} {count} {self.state}{', held' if self.held else ''}")
        elif self.due:
            parts.append(f"{self.type} backup due")
        if self.removals:
            parts.append(f"{self.removals} removed by cleanup")
        return f"{self.date:%A} {self.date.day} {self.date:%B %Y}: {'; '.join(parts) or 'no backup'}"


@dataclass(frozen=True, slots=True)
class Month:
    """weeks: Monday to Sunday; None for the days of other months."""

    name: str
    weeks: list[list[Day | None]]


@dataclass(frozen=True, slots=True)
class Removal:
    """backups: with the copies that go at that time; others may stay longer."""

    at: datetime
    backups: list[Listed]

    @property
    def bytes(self) -> int:
        return sum(copy.size for item in self.backups for copy in item.copies.values())


def fates(holding: Holding, database: Database, now: datetime) -> dict[str, Fate]:
    """Backup id → what retention does with it."""
    verdicts: dict[str, list[Verdict]] = {}
    for one in holding.judged:
        verdicts.setdefault(one.entry.backup_id, []).append(one.verdict)
    return {backup: _fate(own, database, now) for backup, own in verdicts.items()}


def _fate(verdicts: Sequence[Verdict], database: Database, now: datetime) -> Fate:
    kept = [verdict for verdict in verdicts if verdict.keep]
    verdict = max(kept or verdicts, key=lambda one: one.expires_at)
    ageless = verdict.keep and verdict.rule in _AGELESS
    at = None if ageless else max(verdict.expires_at, now)
    gone = (
        cron.next_slot(database.cleanup_schedule, at)
        if at is not None and database.cleanup_schedule
        else None
    )
    return Fate(verdict.keep, verdict.reason, None if ageless else verdict.expires_at, gone, verdict.rule)


def removals(holding: Holding, database: Database, now: datetime) -> list[Removal]:
    """The cleanups to come that will remove something, soonest first."""
    found: dict[datetime, dict[str, Listed]] = {}
    for one in holding.judged:
        fate, backup = _fate([one.verdict], database, now), one.entry.backup_id
        if fate.gone_at is not None:
            gone = found.setdefault(fate.gone_at, {})
            item = gone.setdefault(backup, Listed(backup, holding.database, {}))
            item.copies[one.destination] = one.entry
    return [Removal(at, _newest_first(found[at].values())) for at in sorted(found)]


def _newest_first(items: Iterable[Listed]) -> list[Listed]:
    return sorted(items, key=taken_at, reverse=True)


def months(
    holding: Holding | None, database: Database, coming: Sequence[Removal], now: datetime
) -> list[Month]:
    """Two months back, this one and the next."""
    today = now.date()
    by_day: dict[date, list[Listed]] = {}
    for item in holding.backups if holding is not None else ():
        by_day.setdefault(taken_at(item).date(), []).append(item)
    due = _due(database, now)
    gone = Counter({removal.at.date(): 0 for removal in coming})
    for removal in coming:
        gone[removal.at.date()] += len(removal.backups)
    first = today.replace(day=1)
    for _ in range(_BACK_MONTHS):
        first = (first - timedelta(days=1)).replace(day=1)
    found = []
    for _ in range(_BACK_MONTHS + 2):
        days = [_day(first + timedelta(days=offset), by_day, due, gone) for offset in range(_length(first))]
        found.append(Month(f"{first:%B %Y}", _weeks(days)))
        first += timedelta(days=_length(first))
    return found


def strip(holding: Holding | None, now: datetime, days: int = 30) -> list[Day]:
    """The last days, oldest first."""
    by_day: dict[date, list[Listed]] = {}
    for item in holding.backups if holding is not None else ():
        by_day.setdefault(taken_at(item).date(), []).append(item)
    return [
        _day(now.date() - timedelta(days=back), by_day, set(), Counter()) for back in range(days - 1, -1, -1)
    ]


def taken_at(item: Listed) -> datetime:
    return next(iter(item.copies.values())).at


def state_of(item: Listed) -> str:
    """The best state among its copies; ``refuted`` when a drill found against one of them, and none for another."""
    order = ("proven", "refuted", "verified", "unverified", "unmanaged", "damaged", "incomplete")
    return min((copy.told for copy in item.copies.values()), key=order.index)


def _day(day: date, by_day: Mapping[date, list[Listed]], due: set[date], gone: Mapping[date, int]) -> Day:
    items = by_day.get(day, [])
    states = [state_of(item) for item in items]
    order = ("proven", *sorted(USABLE - {"proven"}, key=("verified", "unverified", "unmanaged").index))
    best = next((state for state in order if state in states), states[0] if states else "")
    held = any(copy.held for item in items for copy in item.copies.values())
    return Day(day, items, backup_type(day), best, held, day in due, gone.get(day, 0))


def _due(database: Database, now: datetime) -> set[date]:
    found: set[date] = set()
    at, end = now, now + timedelta(days=_PLANNED_DAYS)
    for _ in range(_SLOTS if database.schedule else 0):
        at = cron.next_slot(database.schedule, at)
        if at > end:
            break
        found.add(at.date())
    return found


def _length(first: date) -> int:
    return ((first.replace(day=28) + timedelta(days=4)).replace(day=1) - first).days


def _weeks(days: Sequence[Day]) -> list[list[Day | None]]:
    cells: list[Day | None] = [None] * days[0].date.weekday() + list(days)
    cells += [None] * (-len(cells) % 7)
    return [cells[at : at + 7] for at in range(0, len(cells), 7)]
