"""What the person on duty wants to know: can I restore right now, how long would it take, from where, since when is
that proven; and what is wrong, with the command that helps. Judged from `worker.metrics`' readings: nothing is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from worker.config.model import Database
from worker.core import cron
from worker.ledger.model import Run
from worker.metrics.collector import max_age
from worker.metrics.holdings import Holding, Holdings, sound
from worker.metrics.readings import Readings
from worker.status.problems import Problem, problems

#: As Nagios has them.
OK, WARNING, CRITICAL, UNKNOWN = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class OfDatabase:
    """restorable: None when what answers has nothing, and some destination does not answer. The rest is about the
    newest backup that can be used.

    copies: destination → state of its copy of that backup, ``missing``, ``expired`` where its
        retention does not keep one, or ``down`` for a destination that does not
    answer. overdue: a newer one should be there by now. restore_seconds: what the newest proof took, in proportion to
    this backup's size. next_at: by schedule.
    """

    database: str
    restorable: bool | None
    backup_id: str | None
    at: datetime | None
    overdue: bool
    size: int
    copies: Mapping[str, str]
    restore_seconds: float | None
    target_seconds: int
    proven_at: datetime | None
    proven_id: str | None
    backups: int
    bytes: int
    next_at: datetime | None

    @property
    def down(self) -> list[str]:
        """Destinations that do not answer: what they have is in none of the numbers."""
        return [alias for alias, state in self.copies.items() if state == "down"]


@dataclass(frozen=True, slots=True)
class Status:
    """runs: those at work, with their progress."""

    at: datetime
    databases: list[OfDatabase]
    runs: list[tuple[Run, list[dict[str, Any]]]]
    problems: list[Problem]

    @property
    def exit_code(self) -> int:
        """As Nagios has them: 0 well, 1 warning, 2 critical, 3 unknown."""
        if any(problem.severity == "critical" for problem in self.problems):
            return CRITICAL
        if any(database.restorable is None for database in self.databases):
            return UNKNOWN
        return WARNING if self.problems else OK


def status(readings: Readings, now: datetime | None = None) -> Status:
    """Of what was read last."""
    now = now or datetime.now(UTC)
    settings, held, activity = readings.settings, readings.destinations.value, readings.ledger.value
    return Status(
        now,
        [_database(database, held, now) for database in settings.databases.values()],
        activity.open if activity is not None else [],
        problems(readings, now),
    )


def headline(found: Status) -> str:
    """The whole in one sentence."""

    def those(wanted: Callable[[OfDatabase], bool]) -> str:
        return _listed([one.database for one in found.databases if wanted(one)])

    if not found.databases:
        return "No database is configured."
    if lost := those(lambda one: one.restorable is False):
        return f"{lost} cannot be restored."
    if dark := those(lambda one: one.restorable is None):
        return f"Nobody knows whether {dark} can be restored."
    if old := those(lambda one: one.overdue):
        return f"{old} can be restored, but only to an old state."
    whole = f"{found.databases[0].database} can" if len(found.databases) == 1 else "Every database can"
    return f"{whole} be restored{_but(found)}"


def _but(found: Status) -> str:
    if found.exit_code == OK:
        return ", and all is well."
    number = sum(problem.severity == "critical" for problem in found.problems) or len(found.problems)
    what = f"{number} thing{'s' if number > 1 else ''}"
    if found.exit_code == CRITICAL:
        return f", but {what} {'are' if number > 1 else 'is'} critical."
    return f". {what} need{'' if number > 1 else 's'} attention."


def verdict(one: OfDatabase) -> str:
    """Can it be restored right now? In a few words, to be read after its name."""
    if one.restorable is None:
        return "nobody knows"
    if not one.restorable:
        return "cannot be restored"
    return "can be restored, but only to an old state" if one.overdue else "can be restored now"


def _listed(names: list[str]) -> str:
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def _database(database: Database, held: Holdings | None, now: datetime) -> OfDatabase:
    holding = held.databases[database.alias] if held is not None else None
    best = holding.best() if holding is not None else None
    proof = holding.proof if holding is not None else None
    usable = list(sound(best).values()) if best is not None else []
    at = usable[0].at if usable else None
    size = max((copy.size for copy in usable), default=0)
    return OfDatabase(
        database=database.alias,
        restorable=True if usable else None if holding is None or holding.down else False,
        backup_id=best.backup_id if best else None,
        at=at,
        overdue=at is not None and now - at > max_age(database, now),
        size=size,
        copies=_copies(database, holding),
        restore_seconds=proof.projected(size) if proof is not None and best is not None else None,
        target_seconds=database.rto_seconds,
        proven_at=proof.at if proof else None,
        proven_id=proof.backup_id if proof else None,
        backups=sum(bool(sound(item)) for item in holding.backups) if holding else 0,
        bytes=sum(copy.size for item in holding.backups for copy in item.copies.values()) if holding else 0,
        next_at=cron.next_slot(database.schedule, now) if database.schedule else None,
    )


def _copies(database: Database, holding: Holding | None) -> dict[str, str]:
    best = holding.best() if holding is not None else None
    found = {}
    for alias in database.destinations:
        if holding is None or alias in holding.down:
            found[alias] = "down"
        elif best is None or alias not in best.copies:
            kept = best is None or best.backup_id in holding.owed[alias]
            found[alias] = "missing" if kept else "expired"
        else:
            found[alias] = best.copies[alias].told
    return found
