"""Which backups one destination holds, and what is known of them: manifests and evidence over a store.

A backup exists exactly when its manifest does: `seal` writes it last, `forget` deletes it first.

An evidence record is JSON beside the manifest, written once:
``{"format": 1, "kind": "verify", "backup_id": …, "at": ISO time, "ok": true, …}``. What is read of it here:
- verify, scrub: `ok`. The newest of both decides between verified and damaged.
- drill: `verdict`; ``proven`` proves, ``refuted`` ends that, ``could_not_run`` says nothing about the backup.
- hold: `held` (false: released), `reason`, `until` (ISO time or null). The newest counts.
"""

from worker.catalog.catalog import Catalog
from worker.catalog.entry import Entry, State
from worker.catalog.reader import Record

__all__ = ["Catalog", "Entry", "Record", "State"]
