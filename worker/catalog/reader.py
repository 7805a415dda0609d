"""Reading the small objects of a catalog: manifests and evidence records, and what makes them believable."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from worker.core import keys
from worker.core.backup import Manifest
from worker.errors import ObjectArchived, ObjectMissing, StorageError
from worker.storage import ObjectInfo, ObjectStore

log = logging.getLogger("pgfleet.catalog")

Record = dict[str, Any]

_LARGEST = 256 * 1024**2  # bytes; a manifest needs about 1 MiB for 10,000 parts


class Reader:
    """Reads small objects, each version once."""

    def __init__(self, store: ObjectStore) -> None:
        self.name = store.name
        self._store = store
        self._known: dict[ObjectInfo, Manifest | Record | None] = {}

    def manifest(self, info: ObjectInfo, backup_id: str) -> Manifest | None:
        """Without parts; None when it is damaged. Raises ObjectMissing, ObjectArchived, StorageUnavailable."""
        if info not in self._known:
            text = load(self._store, info.key)
            try:
                manifest = own(Manifest.from_json(text), backup_id)
                slim = tuple(artifact.model_copy(update={"parts": ()}) for artifact in manifest.artifacts)
                self._known[info] = manifest.model_copy(update={"artifacts": slim})
            except StorageError as error:
                log.warning(error.message, extra={"action": "catalog.manifest_damaged", "object": info.key})
                self._known[info] = None
        known = self._known[info]
        return known if isinstance(known, Manifest) else None

    def record(self, info: ObjectInfo) -> Record | None:
        """None when it cannot be read, or is not the one of this name: a copied record proves nothing of a backup
        that it is not about, and one of long ago is not the newest. Raises StorageUnavailable.
        """
        if info not in self._known:
            try:
                record = json.loads(load(self._store, info.key))
            except (ValueError, ObjectMissing, ObjectArchived):
                record = None
            if not isinstance(record, dict) or not _named(record, info.key):
                log.warning(
                    f"{info.key} in {self.name} is no evidence: it cannot be read, or is a record of another name.",
                    extra={"action": "catalog.evidence_unreadable", "object": info.key},
                )
                record = None
            self._known[info] = record
        known = self._known[info]
        return known if isinstance(known, dict) else None

    def keep(self, infos: Iterable[ObjectInfo]) -> None:
        """Forget the rest."""
        self._known = {info: self._known[info] for info in infos if info in self._known}


def _named(record: Record, key: str) -> bool:
    """Whether backup, kind and time of a record are those of its key."""
    at = moment(record.get("at"))
    name = keys.parse(key)
    if at is None or name is None:
        return False
    said = (str(record.get("backup_id")), str(record.get("kind")), at)
    return said == (name.backup_id, name.evidence, keys.evidence_time(key))


def own(manifest: Manifest, backup_id: str) -> Manifest:
    """Raises StorageError for the manifest of another backup under this one's name."""
    if manifest.backup_id != backup_id:
        raise StorageError(
            f"The manifest of {backup_id} is that of {manifest.backup_id}.",
            "Somebody has replaced it: do not trust this copy, and look at who can write there.",
        )
    return manifest


def load(store: ObjectStore, key: str) -> bytes:
    with store.read(key, 0, _LARGEST + 1) as stream:
        content = stream.read()
    if len(content) > _LARGEST:
        raise StorageError(
            f"{key} in {store.name} is far too large for what it should be.", "Look at who wrote it."
        )
    return content


def stamp(info: ObjectInfo) -> str:
    """The time in an evidence record's key, in an order that sorts."""
    return info.key.rpartition("-")[2]


def moment(value: object) -> datetime | None:
    """An aware datetime or an ISO text that is one; else None."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return found if isinstance(found, datetime) and found.tzinfo is not None else None
