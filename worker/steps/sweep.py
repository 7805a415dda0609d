"""Leave nothing behind: what a run that has ended may have left open, half written or staged.

Only its own: another fleet may write to the same place, and somebody's dump may have the very same name.
"""

from __future__ import annotations

from collections.abc import Iterable

from worker.core import keys
from worker.errors import ConfigError, ObjectMissing, StorageError
from worker.ledger.model import Step
from worker.steps.context import Context, Outcome
from worker.steps.upload import hash_stored, own_uploads
from worker.storage import ObjectInfo, ObjectStore


def sweep_run(context: Context) -> Outcome:
    """Clear the run's spool, abort its open uploads, delete the objects of copies that were never sealed."""
    spool = context.adapters.spool
    if context.run.spool_id in (None, spool.id):
        spool.remove(context.run.id)
    aborted = deleted = 0
    failed: StorageError | None = None
    for (destination, backup), begun in _touched(context).items():
        try:
            store = context.adapters.store(destination)
            aborted += _abort_uploads(store, backup, begun)
            deleted += _delete_unsealed(context, store, backup, begun)
        except ConfigError:
            continue  # the destination has left the configuration, and its credentials with it
        except StorageError as error:
            failed = failed if failed is not None and failed.retryable else error
    if failed is not None:
        raise failed
    return Outcome({"aborted": aborted, "deleted": deleted})


def _touched(context: Context) -> dict[tuple[str, str], list[Step]]:
    """(destination, backup id) → the uploads that any generation of this run may have begun there."""
    touched: dict[tuple[str, str], list[Step]] = {}
    for step in context.ledger.steps(context.run.id, name="backup.upload", all_generations=True):
        name = keys.parse(step.data["artifact"]["name"])
        if name is not None:
            touched.setdefault((step.data["destination"], name.backup_id), []).append(step)
    return touched


def _abort_uploads(store: ObjectStore, backup: str, begun: Iterable[Step]) -> int:
    uploads, aborted = list(store.open_uploads(f"{backup}.")), 0
    for step in begun:
        key = step.data["artifact"]["name"]
        for upload_id in own_uploads(step, key, uploads):
            store.abort(key, upload_id)
            aborted += 1
    return aborted


def _delete_unsealed(context: Context, store: ObjectStore, backup: str, begun: Iterable[Step]) -> int:
    found = {info.key: info for info in store.list(f"{backup}.")}
    if keys.manifest_key(backup) in found:
        return 0
    deleted = 0
    for step in begun:
        info = found.get(step.data["artifact"]["name"])
        if info is not None and _is_own(context, store, step, info):
            store.delete(info.key)
            deleted += 1
    return deleted


def _is_own(context: Context, store: ObjectStore, step: Step, info: ObjectInfo) -> bool:
    """Whether this run has put it: it said that it would, and these are its bytes (of a large one, its size)."""
    artifact = step.data["artifact"]
    if info.size != artifact["size"]:
        return False
    if step.data.get("upload_id") is not None:
        return True
    try:
        return bool(step.data.get("putting")) and hash_stored(context, store, info.key) == artifact["sha256"]
    except ObjectMissing:
        return False
