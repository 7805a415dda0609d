"""What nobody owns any more: uploads left open, objects that no manifest names, dead runs, old rows, old spool.

Only names that `worker.core.keys` reads as this database's, only under the destination's prefix, only what is
older than the grace period and belongs to no open run. What this ledger knows nothing of may be another fleet's, who
is still at it, and is left alone for days. What was sealed once is never swept: the plan judges it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from worker.catalog import Catalog, Entry
from worker.core import keys
from worker.core.backup import parse_id
from worker.errors import ObjectLocked, StorageError
from worker.ledger import Ledger
from worker.ledger.model import OPEN_STATES, Run
from worker.owner import is_dead
from worker.steps.context import Context, Outcome
from worker.steps.inventory import WRITING, list_all
from worker.steps.prune import was_sealed
from worker.steps.upload import own_uploads
from worker.storage import ObjectInfo, ObjectStore, OpenUpload

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
    known = _known(context)
    problems: list[str] = []
    aborted = 0
    written: set[str] = set()  # backups that somebody may still be uploading
    for upload in _uploads(store, context.run.database):
        context.check()
        if known.may_abort(upload):
            store.abort(upload.key, upload.upload_id)
            aborted += 1
        else:
            written.add(_backup_of(upload.key))
    deleted = size = 0
    for entry in entries_of(context, destination):
        context.check()
        if entry.backup_id in known.busy | written:
            continue
        for info in _orphans(catalog, entry, known.limit(entry.backup_id)):
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


@dataclass(frozen=True)
class _Known:
    """What this ledger says about what it finds. Times: what is younger is left alone."""

    ledger: Ledger
    busy: set[str]
    runs: Mapping[str, list[Run]]  # by the backup that they have taken or copied
    own_before: datetime
    foreign_before: datetime

    def limit(self, backup: str) -> datetime:
        return self.own_before if backup in self.runs else self.foreign_before

    def may_abort(self, upload: OpenUpload) -> bool:
        if _backup_of(upload.key) in self.busy:
            return False
        return upload.started < (self.own_before if self._opened(upload) else self.foreign_before)

    def _opened(self, upload: OpenUpload) -> bool:
        """Two fleets may have begun backups of one name in the same second: the upload's id tells whose it is."""
        steps = (
            step
            for run in self.runs.get(_backup_of(upload.key), ())
            for name in ("backup.upload", "copy.open")
            for step in self.ledger.steps(run.id, name=name, all_generations=True)
        )
        return any(own_uploads(step, step.data["artifact"]["name"], [upload]) for step in steps)


def _known(context: Context) -> _Known:
    ledger, settings, now = context.ledger, context.settings, datetime.now(UTC)
    runs: dict[str, list[Run]] = {}
    for kind in WRITING:
        for run in ledger.runs(kind=kind, database=context.run.database, limit=10_000):
            for backup in (run.backup_id, *run.data.get("given_up", ())):
                runs.setdefault(str(backup), []).append(run)
    own = now - timedelta(hours=settings.orphan_grace_hours)
    foreign = now - timedelta(days=settings.foreign_grace_days)
    return _Known(ledger, open_backups(ledger), runs, own, min(own, foreign))


def _backup_of(key: str) -> str:
    name = keys.parse(key)
    return name.backup_id if name is not None else ""


def _uploads(store: ObjectStore, database: str) -> list[OpenUpload]:
    found = store.open_uploads(f"{database}-backup-")
    return [one for one in found if (backup := _backup_of(one.key)) and parse_id(backup)[0] == database]


def _orphans(catalog: Catalog, entry: Entry, before: datetime) -> list[ObjectInfo]:
    """What of a copy may be deleted: all of one that was never sealed, or what a sealed one does not name."""
    if not entry.objects:
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
