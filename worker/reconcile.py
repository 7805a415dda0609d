"""The guarantee behind the hints: every 30 s, whatever is due is sent again, whatever is lost is taken up.

Each part is safe to run twice at once and on any worker; a failure in one is logged and does not stop the others.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from worker import __version__, flows, log, notify, runner
from worker.config.model import Database, Settings
from worker.core import cron, drill, period, retention
from worker.core.audit import ANY
from worker.core.requests import DrillRequest
from worker.core.retention import Candidate
from worker.errors import PgfleetError
from worker.ledger import JobDue
from worker.ledger.model import OPEN_STATES, Hint, NewRun, Run, RunKind, WorkerInfo
from worker.ledger.workers import RECONCILE
from worker.owner import is_dead
from worker.steps import audit
from worker.steps.context import Adapters

logger = logging.getLogger("pgfleet.reconcile")

CATCH_UP_SECONDS = 7 * 86_400.0
REPAIR_SECONDS = 86_400.0
_READ_BACK: tuple[RunKind, ...] = ("scrub", "verify", "backup")
OPEN_LIMIT = 10_000  # runs that are open at once
DIGEST_AT_MOST = timedelta(days=31)


def reconcile(adapters: Adapters) -> list[Hint]:
    """Mend what can be mended and return the hints that are to be sent."""
    began = time.monotonic()
    parts: tuple[Callable[[Adapters], int], ...] = (
        schedule,
        take_over,
        rewind_lost,
        fail_overdue,
        catch_up,
        repair_damaged,
        records,
        tell,
    )
    for part in parts:
        try:
            if changed := part(adapters):
                logger.info(part.__name__, extra={"action": part.__name__, "count": changed})
        except PgfleetError as error:
            logger.error(error.message, extra={"action": part.__name__, "hint": error.hint})
    adapters.ledger.beat(WorkerInfo(RECONCILE, socket.gethostname(), (), "", __version__, 0.0))
    hints = adapters.ledger.take_due(limit=200)
    logger.debug(
        "reconciled", extra={"action": "reconcile", "hints": len(hints), "seconds": time.monotonic() - began}
    )
    return hints


def schedule(adapters: Adapters, now: datetime | None = None) -> int:
    """Insert the runs that the schedule owes; a missed slot is caught up once."""
    now = now or datetime.now(UTC)
    settings = adapters.settings
    jobs = [job for database in settings.databases.values() for job in _jobs(database, settings, now)]
    return len(adapters.ledger.schedule_due([*jobs, *_told(settings, now)]))


def _jobs(database: Database, settings: Settings, now: datetime) -> Iterator[JobDue]:
    wanted: dict[RunKind, tuple[str, dict[str, Any]]] = {
        "backup": (database.schedule, {"databases": [database.alias]}),
        "cleanup": (database.cleanup_schedule, {"database": database.alias}),
        "scrub": (settings.scrub_schedule, {"destinations": list(database.destinations)}),
    }
    for kind, (line, request) in wanted.items():
        slot = cron.latest_slot(line, now) if line else None  # "off" is an empty line
        if slot is None:
            continue
        job = f"{kind}:{database.alias}"
        new = NewRun(
            kind,
            database.alias,
            request | {"requested_by": "schedule"},
            "schedule",
            job=job,
            scheduled_for=slot.timestamp(),
        )
        yield JobDue(job, line, slot.timestamp(), new, flows.first(new))
    yield from _drills(database, now)


def _drills(database: Database, now: datetime) -> Iterator[JobDue]:
    """The newest copy and an older one, each destination in turn."""
    line = database.drill_schedule
    slot = cron.latest_slot(line, now) if line else None
    if slot is None:
        return
    for job, payload in drill.scheduled(database.alias, database.destinations, slot):
        request = DrillRequest.from_payload(payload | {"requested_by": "schedule"}).to_payload()
        at = slot.timestamp()
        new = NewRun("drill", database.alias, request, "schedule", job=job, scheduled_for=at)
        yield JobDue(job, line, at, new, flows.first(new))


def _told(settings: Settings, now: datetime) -> Iterator[JobDue]:
    """The report of the month before the slot, and a digest of the time since the slot before."""
    for kind, line in (("report", settings.report_schedule), ("digest", settings.digest)):
        slot = cron.latest_slot(line, now) if line else None
        if slot is None:
            continue
        if kind == "report":
            request = {"month": period.month_before(slot).name}
        else:
            before = cron.latest_slot(line, slot - timedelta(seconds=1)) or slot
            request = {"from": max(before, slot - DIGEST_AT_MOST).isoformat(), "until": slot.isoformat()}
        new = NewRun(
            "report" if kind == "report" else "digest",
            ANY,
            request | {"requested_by": "schedule"},
            "schedule",
            job=kind,
            scheduled_for=slot.timestamp(),
        )
        yield JobDue(kind, line, slot.timestamp(), new, flows.first(new))


def take_over(adapters: Adapters) -> int:
    """Free the steps of dead processes of this machine, adopt the runs of a dead `--here`, fail what is used up."""
    ledger = adapters.ledger
    freed = ledger.break_dead_leases(is_dead)
    adopted = ledger.adopt_orphans(is_dead)
    return freed + adopted + ledger.expired_exhausted()


def catch_up(adapters: Adapters) -> int:
    """Start the copies that a backup owes since one of its destinations was away: one run a copy and day, for a week.

    It waits for the destination, takes the bytes from another copy, and nothing is dumped again.
    """
    ledger, now = adapters.ledger, datetime.now(UTC)
    since = now.timestamp() - CATCH_UP_SECONDS
    ended = ledger.runs(kind="backup", states=("failed", "verified", "damaged"), since=since, limit=1000)
    owed = {(run.backup_id, alias): run for run in ended for alias in _missed(adapters, run)}
    if not owed:
        return 0
    for run in ledger.runs(kind="copy", states=("verified", "queued", "running"), since=since, limit=1000):
        owed.pop((run.backup_id or run.request["backup"], run.request["to"]), None)
    made = 0
    for (backup, to), run in owed.items():
        if not _keeps(adapters, to, run, ended):
            continue
        key = f"copy:{backup}:{to}:{now:%Y%m%d}"
        request = {"backup": backup, "to": to, "destinations": [to], "patient": True}
        new = NewRun(
            "copy", run.database, request | {"requested_by": "reconcile"}, "reconcile", idempotency_key=key
        )
        made += ledger.create_run(new, flows.first(new))[1]
    return made


def repair_damaged(adapters: Adapters) -> int:
    """Where that is allowed: replace what a run found damaged when it read it back, once a run and copy."""
    if not adapters.settings.scrub_repair:
        return 0
    ledger, now, made = adapters.ledger, datetime.now(UTC), 0
    since = now.timestamp() - REPAIR_SECONDS
    found = [
        (run, *copy)
        for kind in _READ_BACK
        for run in ledger.runs(kind=kind, states=("damaged",), since=since, limit=200)
        for copy in _damaged(run)
    ]
    for run, backup, to in found:
        if to not in adapters.settings.destinations:
            continue
        request = {"backup": backup, "to": to, "destinations": [to], "repair": True, "requested_by": "scrub"}
        key = f"repair:{backup}:{to}:{run.id}"
        new = NewRun("copy", run.database, request, "scrub", idempotency_key=key)
        made += ledger.create_run(new, flows.first(new))[1]
    return made


def _damaged(run: Run) -> Iterator[tuple[str, str]]:
    """(backup, destination) of each copy that this run found damaged."""
    for alias, found in run.result.get("destinations", {}).items():
        yield from ((backup, alias) for backup in found.get("damaged", ()))
    copies = run.result.get("copies", ())
    if run.kind == "backup" and not any(copy["state"] == "verified" for copy in copies):
        return  # there is no good copy of what was dumped just now
    for copy in copies:
        if copy["state"] == "damaged":
            yield str(run.backup_id or run.request["backup"]), copy["destination"]


def _missed(adapters: Adapters, run: Run) -> list[str]:
    """The destinations that have no copy of a backup that has one elsewhere."""
    copies = {copy["destination"]: copy["state"] for copy in run.result.get("copies", ())}
    if run.backup_id is None or "verified" not in copies.values():
        return []
    return [
        alias
        for alias, state in copies.items()
        if state == "failed" and alias in adapters.settings.destinations
    ]


def _keeps(adapters: Adapters, destination: str, run: Run, ended: Sequence[Run]) -> bool:
    """Whether the retention there still keeps that run's backup. `ended`: that run, and all backups since."""
    settings = adapters.settings
    if run.database not in settings.databases:
        return True
    taken = {
        other.backup_id
        for other in ended
        if other.database == run.database
        and other.backup_id
        and any(copy["state"] == "verified" for copy in other.result.get("copies", ()))
    }
    backups = [Candidate(backup, 0) for backup in taken]
    return run.backup_id in retention.owed(
        backups, settings.retention(run.database, destination), datetime.now(UTC)
    )


def rewind_lost(adapters: Adapters) -> int:
    """Start those runs again whose spool no living worker mounts any more."""
    settings, ledger = adapters.settings, adapters.ledger
    alive = {worker.spool_id for worker in ledger.workers(alive_within=settings.spool_gone_seconds)}
    for run_id, step_id, spool in ledger.unswept():
        if spool not in alive:  # nobody listens to its queue; what is left elsewhere any worker can sweep
            runner.perform(adapters, run_id, step_id)
    lost = [run for run in ledger.runs(states=OPEN_STATES, limit=OPEN_LIMIT) if _spool_lost(run, alive)]
    return sum(_rewind(adapters, run) for run in lost)


def _spool_lost(run: Run, alive: set[str]) -> bool:
    return not run.here and run.spool_id is not None and run.spool_id not in alive


def _rewind(adapters: Adapters, run: Run) -> bool:
    if run.kind == "restore" and any(s.attempts for s in adapters.ledger.steps(run.id, name="restore.swap")):
        return False  # the names may have changed; what is left to do needs no spool
    kept = flows.rewound(run.kind)
    with log.context(run=run.id, database=run.database):
        why = f"no worker mounts spool {run.spool_id} any more"
        done = bool(kept) and adapters.ledger.rewind(run.id, keep=kept, why=why, generation=run.generation)
        if done:
            logger.warning(f"start again: {why}", extra={"action": "rewind"})
        return done


def fail_overdue(adapters: Adapters) -> int:
    """End the runs that have been open for longer than any run should be."""
    return adapters.ledger.fail_overdue(adapters.settings.run_deadline_seconds)


def records(adapters: Adapters) -> int:
    """Try again with audit records that no destination has taken."""
    return audit.take_up(adapters)


def tell(adapters: Adapters) -> int:
    """Send the notices that the ledger holds; what cannot be sent is tried again later."""
    return notify.tell(adapters.ledger, adapters.settings)


def sweep_spool(adapters: Adapters, *, older_than: float = 86_400.0) -> list[str]:
    """Remove directories on this worker's spool whose runs have ended and been swept, or were never known."""
    open_runs = {run.id for run in adapters.ledger.runs(states=OPEN_STATES, limit=OPEN_LIMIT)}
    return adapters.spool.sweep(open_runs, older_than)
