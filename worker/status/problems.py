"""What is wrong, since when, and what to do about it: with the backups, and with what makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from worker.config.model import Database, Settings
from worker.core import human
from worker.metrics.activity import BAD, QUEUES, Activity
from worker.metrics.collector import max_age
from worker.metrics.holdings import Holding, Holdings
from worker.metrics.reading import Reading
from worker.metrics.readings import Readings

Severity = Literal["critical", "warning"]
#: Of the alerts in compose/prometheus/alerts.yml, so that both say the same.
PROVEN_DAYS = 35
KEY_DAYS = 30
STUCK_SECONDS = 900.0
SILENT_SECONDS = 300.0
SPOOL_FREE = 0.1
UNSENT_SECONDS = 600.0
REREAD_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Problem:
    """what: one sentence. since: as far as it is known. do: one sentence. command: to copy; may be empty.
    database: the one that it is about, if it is about one.
    """

    severity: Severity
    what: str
    do: str
    command: str = ""
    since: datetime | None = None
    database: str = ""


def problems(readings: Readings, now: datetime) -> list[Problem]:
    """The critical ones first."""
    settings, activity = readings.settings, readings.ledger.value
    found = [
        *_of_holdings(settings, readings.destinations.value, now),
        *_of_parts(readings),
        *(_of_activity(activity, now) if activity is not None else ()),
        *_of_keys(readings, now),
        *_of_spool(readings),
    ]
    return sorted(found, key=lambda problem: problem.severity != "critical")


# --- what is wrong with the backups ---


def _of_holdings(settings: Settings, held: Holdings | None, now: datetime) -> Iterator[Problem]:
    if held is None:
        return
    for alias, error in held.down.items():
        yield Problem("warning", f"{alias} cannot be listed: {error.message}", error.hint, "pgfleet doctor")
    for database in settings.databases.values():
        holding = held.databases[database.alias]
        for problem in (
            *_of_age(database, holding, now),
            *_of_copies(database, holding),
            *_of_proof(database, holding, now),
            *_of_reading(database, holding, settings.scrub_days, now),
        ):
            yield replace(problem, database=database.alias)


def _of_age(database: Database, holding: Holding, now: datetime) -> Iterator[Problem]:
    take = f"pgfleet backup {database.alias}"
    reached = [alias for alias in database.destinations if alias not in holding.down]
    if holding.best() is None:
        if not holding.down:
            what = f"{database.alias} has no backup that can be restored."
            if holding.backups:
                what = f"Every backup of {database.alias} is damaged, incomplete, or refuted by a drill."
            yield Problem("critical", what, "Take one now.", take)
        return
    newest = max(
        (entry.at for alias in reached if (entry := holding.newest(alias, ("verified",)))), default=None
    )
    allowed = max_age(database, now)
    if newest is None or now - newest > allowed:
        age = f"is {_long(now - newest)} old" if newest else "does not exist"
        what = f"The newest verified backup of {database.alias} {age}; {_long(allowed)} are allowed."
        yield Problem("critical", what, "Take one now.", take, newest + allowed if newest else None)


def _long(time: timedelta) -> str:
    return human.duration(time.total_seconds())


def _of_copies(database: Database, holding: Holding) -> Iterator[Problem]:
    for alias in database.destinations:
        copies = holding.copies(alias)
        for copy in copies:
            if copy.state == "damaged":
                what = f"The copy of {copy.backup_id} in {alias} is damaged."
                do = "Repair it from a good copy; take a new backup if there is none."
                yield Problem("critical", what, do, f"pgfleet repair {copy.backup_id} --destination {alias}")
            if copy.refuted_at is not None:
                what = (
                    f"A drill refuted {copy.backup_id} in {alias}: it does not restore to what was backed up."
                )
                do = "Read the differences; take and prove a new backup."
                command = f"pgfleet evidence list {copy.backup_id} --kind drill --json"
                yield Problem("critical", what, do, command, copy.refuted_at)
        if missing := holding.missing.get(alias):
            count = f"{len(missing)} backups" if len(missing) > 1 else missing[0]
            what = f"{alias} lacks {count} of {database.alias} that another destination has."
            command = f"pgfleet copy {missing[0]} --to {alias}"
            yield Problem("warning", what, "Bring it there, if reconcile does not.", command)


def _of_proof(database: Database, holding: Holding, now: datetime) -> Iterator[Problem]:
    command = f"pgfleet drill latest --database {database.alias}"
    best, proof = holding.best(), holding.proof
    if best is None:
        return
    if proof is None:
        if holding.down:
            return  # where the proof may be
        what = f"No backup of {database.alias} that is still there was ever proven restorable."
        yield Problem("warning", what, "Run a drill.", command)
        return
    if now - proof.at > timedelta(days=PROVEN_DAYS):
        what = f"The last proof of a backup of {database.alias} is older than {PROVEN_DAYS} days."
        yield Problem("warning", what, "Run a drill.", command, proof.at + timedelta(days=PROVEN_DAYS))
    seconds = proof.projected(max(copy.size for copy in best.copies.values()))
    if seconds is not None and seconds > database.rto_seconds:
        what = (
            f"Restoring {database.alias} takes about {human.duration(seconds)}, longer than its target of "
            f"{human.duration(database.rto_seconds)}."
        )
        do = "See in the drill's report which phase takes how long."
        yield Problem("warning", what, do, f"pgfleet evidence list {proof.backup_id} --kind drill --json")


def _of_reading(database: Database, holding: Holding, days: int, now: datetime) -> Iterator[Problem]:
    for alias in database.destinations:
        share = holding.read_share(alias, days, now)
        if share is not None and share < REREAD_SHARE:
            what = (
                f"Only {share:.0%} of what {alias} has of {database.alias} was read back within {days} days."
            )
            yield Problem(
                "warning", what, "Read on, a day's share at a time.", f"pgfleet scrub --destination {alias}"
            )


# --- what is wrong around them ---


def _of_parts(readings: Readings) -> Iterator[Problem]:
    """Parts that could not be read. A broker is missed only where there is a fleet."""
    activity = readings.ledger.value
    for part in readings.parts:
        if part is readings.broker and (activity is None or not _has_fleet(activity)):
            continue
        if part is readings.spool and part.error is not None:
            continue  # a host that only looks has none
        yield from _of_part(part)


def _of_part(part: Reading[Any]) -> Iterator[Problem]:
    if part.at is None:
        what = f"The {part.name} did not answer in time."
        yield Problem("warning", what, "See what is wrong with it.", "pgfleet doctor")
    elif part.error is not None:
        yield Problem("warning", part.error.message, part.error.hint, "pgfleet doctor")


def _has_fleet(activity: Activity) -> bool:
    """Not where every backup is made by `--here`: nobody misses workers there, unless work waits for them."""
    waiting = any(not run.here for run, _ in activity.open)
    return bool(activity.workers) or activity.reconciled_at is not None or waiting


def _of_activity(activity: Activity, now: datetime) -> Iterator[Problem]:
    yield from _of_runs(activity)
    yield from _of_messages(activity, now)
    if not _has_fleet(activity):
        return
    untaken = [queue for queue in QUEUES if not activity.workers_of(queue)]
    if untaken:
        what = f"No worker takes queue {' or '.join(untaken)}."
        yield Problem("warning", what, "Start one.", f"celery -A worker.app worker -Q {','.join(untaken)}")
    ticked = activity.reconciled_at
    # A fleet that has just started has not ticked yet.
    silent_since = ticked or min((run.created_at for run in activity.recent), default=None)
    if silent_since is not None and now.timestamp() - silent_since > SILENT_SECONDS:
        what = "Nothing is scheduled, mended or told: reconcile does not run."
        since = datetime.fromtimestamp(ticked, UTC) if ticked is not None else None
        yield Problem(
            "critical", what, "Start beat, and a worker of queue control.", "celery -A worker.app beat", since
        )
    for depth in activity.stats.queues:
        if depth.oldest_seconds > STUCK_SECONDS:
            what = f"{depth.due} step{'s wait' if depth.due > 1 else ' waits'} in queue {depth.queue}."
            since = now - timedelta(seconds=depth.oldest_seconds)
            yield Problem(
                "warning", what, "Look whether its workers are busy or gone.", "pgfleet runs --follow", since
            )


def _of_runs(activity: Activity) -> Iterator[Problem]:
    for (kind, database), run in sorted(activity.last.items()):
        if run.state in BAD:
            error = run.error or {}
            what = f"The last {kind} of {database} ended {run.state.replace('_', ' ')}: {error.get('message', '')}"
            since = datetime.fromtimestamp(run.ended_at, UTC) if run.ended_at else None
            do = str(error.get("hint") or "See what went wrong.")
            yield Problem("warning", what, do, f"pgfleet run show {run.id}", since, database)


def _of_messages(activity: Activity, now: datetime) -> Iterator[Problem]:
    """Who hears nothing takes it for good news."""
    count, oldest = activity.stats.pending_notices, activity.stats.pending_since
    if oldest is None or now.timestamp() - oldest <= UNSENT_SECONDS:
        return
    what = f"{count} message{'s' if count > 1 else ''} about what happened could not be sent."
    do = "Check PGFLEET_NOTIFY_URLS and PGFLEET_PING_URL; a worker's log says what is wrong."
    yield Problem("warning", what, do, "pgfleet status --send", datetime.fromtimestamp(oldest, UTC))


def _of_keys(readings: Readings, now: datetime) -> Iterator[Problem]:
    for database, keys in (readings.keys.value or {}).items():
        for key in keys:
            if key.expires is not None and key.expires - now < timedelta(days=KEY_DAYS):
                left = human.duration((key.expires - now).total_seconds())
                what = f"The key {key.user_id} that {database} is encrypted to ends in {left}."
                do = "Let its owner extend it, and import it on every dump worker."
                command = f"gpg --quick-set-expire {key.fingerprint} 1y"
                yield Problem("warning", what, do, command, database=database)


def _of_spool(readings: Readings) -> Iterator[Problem]:
    room = readings.spool.value
    if room is not None and room.size and room.free / room.size < SPOOL_FREE:
        what = f"The spool {readings.settings.spool} has room for {human.size(room.free)} only."
        yield Problem(
            "warning", what, "Make room there, or set PGFLEET_SPOOL to a larger disk.", "pgfleet runs"
        )
