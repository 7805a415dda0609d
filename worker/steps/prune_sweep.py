"""What nobody owns any more: uploads left open, objects that no manifest names, dead runs, old rows, old spool.

Only names that `worker.core.keys` reads as this database's, only under the destination's prefix, only what is
older than the grace period and belongs to no open run. What was sealed once is never swept: the plan judges it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from worker.catalog import Catalog, Entry
from worker.core import keys
from worker.core.backup import parse_id
from worker.errors import ObjectLocked, StorageError
from worker.ledger import Ledger
from worker.ledger.model import OPEN_STATES
from worker.owner import is_dead
from worker.steps.context import Context, Outcome
from worker.steps.inventory import list_all
from worker.steps.prune import was_sealed
from worker.storage import ObjectInfo, ObjectStore

logger = logging.getLogger("pgfleet.cleanup")

LEDGER_DAYS = 90.0  # rows of ended runs are kept for so long; the newest of each kind for ever
_SPOOL_SECONDS = 86_400.0
_WORKER_SECONDS = 7 * 86_400.0


def tidy(context: Context) -> Outcome:
    """End dead runs, forget old rows; clear this process's spool (a worker clears its own every ten minutes)."""
    ledger, settings = context.ledger, context.settings
    freed = ledger.break_dead_leases(is_dead) + ledger.adopt_orphans(is_dead) + ledger.expired_exhausted()
    overdue = ledger.fail_overdue(settings.run_deadline_seconds)
    forgotten = ledger.prune(LEDGER_DAYS)
    ledger.forget_workers(_WORKER_SECONDS)
    swept: list[str] = []
    if context.run.here:
        keep = {run.id for run in ledger.runs(states=OPEN_STATES, limit=10_000)}
        swept = context.adapters.spool.sweep(keep, _SPOOL_SECONDS)
    return Outcome({"freed": freed, "overdue": overdue, "forgotten": forgotten, "spool_runs": len(swept)})


def sweep(context: Context) -> Outcome:
    """Clear one destination of what this database's dead runs have left there. Raises StorageUnavailable."""
    destination = context.step.data["destination"]
    store, catalog = context.adapters.store(destination), context.adapters.catalog(destination)
    before = datetime.now(UTC) - timedelta(hours=context.settings.orphan_grace_hours)
    busy = open_backups(context.ledger)
    problems: list[str] = []
    aborted = 0
    for upload in _abandoned(store, context.run.database, busy, before):
        context.check()
        store.abort(*upload)
        aborted += 1
    deleted = size = 0
    for entry in entries_of(context, destination):
        context.check()
        for info in _orphans(catalog, entry, busy, before):
            try:
                store.delete(info.key)
            except ObjectLocked as error:
                logger.info(error.message, extra={"action": "sweep.locked", "object": info.key})
                continue
            except StorageError as error:
                if error.retryable:
                    raise
                problems.append(error.message)
                break
            deleted, size = deleted + 1, size + info.size
    return Outcome(
        {
            "destination": destination,
            "aborted": aborted,
            "deleted": deleted,
            "bytes": size,
            "problems": problems[:10],
        }
    )


def entries_of(context: Context, destination: str) -> list[Entry]:
    """The copies of the run's database in one destination. Raises StorageError."""
    listed, failures = list_all(context.adapters, database=context.run.database, destination=destination)
    for error in failures.values():
        raise error
    return [item.copies[destination] for item in listed]


def open_backups(ledger: Ledger) -> set[str]:
    """The backups that an open run may be writing."""
    runs = ledger.runs(states=OPEN_STATES, limit=10_000)
    return {name for run in runs for name in (run.backup_id, run.request.get("backup")) if name}


def _abandoned(
    store: ObjectStore, database: str, busy: set[str], before: datetime
) -> Iterator[tuple[str, str]]:
    for upload in list(store.open_uploads(f"{database}-backup-")):
        name = keys.parse(upload.key)
        if name is None or name.backup_id in busy or parse_id(name.backup_id)[0] != database:
            continue
        if upload.started < before:
            yield upload.key, upload.upload_id


def _orphans(catalog: Catalog, entry: Entry, busy: set[str], before: datetime) -> list[ObjectInfo]:
    """What of a copy may be deleted: all of one that was never sealed, or what a sealed one does not name."""
    if entry.backup_id in busy or not entry.objects:
        return []
    if entry.state == "incomplete" and not was_sealed(entry) and not entry.held:
        if any(info.modified >= before for info in entry.objects):
            return []
        now = catalog.entry(entry.backup_id)  # it may have been sealed since it was listed
        return list(entry.objects) if now is not None and now.state == "incomplete" else []
    if entry.manifest is None or entry.held:
        return []
    named = {artifact.name for artifact in entry.manifest.artifacts}
    return [
        info
        for info in entry.objects
        if _is_artifact(info.key)
        and info.key not in named
        and info.modified < before
        # Somebody's decrypted archive beside the encrypted one is theirs.
        and info.key.endswith(".gpg") == entry.manifest.encrypted
    ]


def _is_artifact(key: str) -> bool:
    name = keys.parse(key)
    return name is not None and name.role == "artifact"
