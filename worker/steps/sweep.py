"""Leave nothing behind: what a run that has ended may have left open, half written or staged."""

from __future__ import annotations

from worker.core import keys
from worker.errors import ConfigError, StorageError
from worker.steps.context import Context, Outcome
from worker.storage import ObjectStore


def sweep_run(context: Context) -> Outcome:
    """Clear the run's spool, abort its open uploads, delete the objects of copies that were never sealed."""
    spool = context.adapters.spool
    if context.run.spool_id in (None, spool.id):
        spool.remove(context.run.id)
    aborted = deleted = 0
    failed: StorageError | None = None
    for destination, backups in _touched(context).items():
        try:
            store = context.adapters.store(destination)
            for backup in backups:
                aborted += _abort_uploads(store, backup)
                deleted += _delete_unsealed(store, backup)
        except ConfigError:
            continue  # the destination has left the configuration, and its credentials with it
        except StorageError as error:
            failed = failed if failed is not None and failed.retryable else error
    if failed is not None:
        raise failed
    return Outcome({"aborted": aborted, "deleted": deleted})


def _touched(context: Context) -> dict[str, set[str]]:
    """destination → the backup ids that any generation of this run may have begun to upload there."""
    touched: dict[str, set[str]] = {}
    for step in context.ledger.steps(context.run.id, name="backup.upload", all_generations=True):
        name = keys.parse(step.data["artifact"]["name"])
        if name is not None:
            touched.setdefault(step.data["destination"], set()).add(name.backup_id)
    return touched


def _abort_uploads(store: ObjectStore, backup: str) -> int:
    uploads = [upload for upload in store.open_uploads(backup) if _belongs(upload.key, backup)]
    for upload in uploads:
        store.abort(upload.key, upload.upload_id)
    return len(uploads)


def _delete_unsealed(store: ObjectStore, backup: str) -> int:
    names = [info.key for info in store.list(backup) if _belongs(info.key, backup)]
    if keys.manifest_key(backup) in names:
        return 0
    for name in names:
        store.delete(name)
    return len(names)


def _belongs(key: str, backup: str) -> bool:
    name = keys.parse(key)
    return name is not None and name.backup_id == backup
