"""The catalog of one destination: list, load, seal last, forget first."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.catalog.entry import Entry, Files, judge
from worker.catalog.reader import Reader, Record, load, moment, own, stamp
from worker.core import keys
from worker.core.backup import Manifest, parse_id
from worker.core.keys import EvidenceKind
from worker.errors import BackupNotFound, ObjectExists, ObjectMissing
from worker.storage import ObjectInfo, ObjectStore

_THREADS = 8
_SKEW = timedelta(hours=1)  # between the clocks of workers; a record that is older is history


class Catalog:
    """Safe for threads. What `entries` has read is kept: an object that has not changed is read once."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._reader = Reader(store)

    def manifest(self, backup_id: str) -> Manifest:
        """Raises BackupNotFound, StorageError for one that cannot be read or is another backup's."""
        try:
            parse_id(backup_id)
            return own(Manifest.from_json(load(self._store, keys.manifest_key(backup_id))), backup_id)
        except (ObjectMissing, ValueError):  # ValueError: no backup's id
            raise self._not_found(backup_id) from None

    def seal(self, manifest: Manifest) -> Manifest:
        """Make the backup exist. Idempotent for one run: the manifest that is there is returned.

        Raises ObjectExists when another run has sealed a backup of this id.
        """
        try:
            self._put(keys.manifest_key(manifest.backup_id), manifest.to_json())
        except ObjectExists:
            there = self.manifest(manifest.backup_id)
            if there.run_id == manifest.run_id:
                return there
            raise ObjectExists(
                f"{self._store.name} has a backup {manifest.backup_id} already, from run {there.run_id}.",
                "It is left as it is. Make sure that no second fleet writes to the same place.",
            ) from None
        return manifest

    def evidence_put(
        self,
        backup_id: str,
        kind: EvidenceKind,
        record: Mapping[str, Any],
        sign: Callable[[Record], Record] | None = None,
    ) -> str:
        """Write a record down; its key. `at` is now where the record says none; the same record twice is one.

        sign: gives the record with its signature. It gets it as it will be stored: `at` may have to move.
        Raises ObjectExists for a second, different record of that kind and time.
        """
        at = self._after_all(backup_id, kind, moment(record.get("at")) or datetime.now(UTC))
        whole = {**record, "format": 1, "kind": kind, "backup_id": backup_id, "at": at.isoformat()}
        if sign is not None:
            whole = sign(whole)
        body = (json.dumps(whole, indent=1) + "\n").encode()
        key = keys.evidence_key(backup_id, kind, at)
        try:
            self._put(key, body)
        except ObjectExists:
            if load(self._store, key) != body:
                raise
        return key

    def _after_all(self, backup_id: str, kind: EvidenceKind, at: datetime) -> datetime:
        """`at`, or a moment after the newest record that is there: the newest counts, and hosts' clocks differ."""
        own = keys.evidence_key(backup_id, kind, at)
        times = (
            keys.evidence_time(info.key)
            for name, info in self._of(backup_id)
            if name.evidence and info.key != own
        )
        newest = max(filter(None, times), default=None)
        if newest is None or not at < newest < at + _SKEW:
            return at
        return newest + timedelta(microseconds=1)

    def evidence(self, backup_id: str, kind: EvidenceKind | None = None) -> list[Record]:
        """The records of a backup, oldest first. One that cannot be read is left out, and logged."""
        found = (
            info
            for name, info in self._of(backup_id)
            if name.role == "evidence" and kind in (None, name.evidence)
        )
        records = (self._reader.record(info) for info in sorted(found, key=stamp))
        return [record for record in records if record is not None]

    def entries(self, database: str | None = None, in_progress: Collection[str] = ()) -> list[Entry]:
        """Every copy, newest first. One listing; what it names is read by several threads.

        `in_progress`: ids that the ledger knows to be unfinished or failed; without a manifest they are
        incomplete, whatever is there. A damaged manifest makes one damaged entry and hides no other.
        """
        grouped = self._grouped(database)
        now = datetime.now(UTC)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="catalog") as pool:
            entries = list(pool.map(lambda files: judge(self._reader, files, in_progress, now), grouped))
        if database is None:
            self._reader.keep(info for files in grouped for info in files.objects)
        return sorted(entries, key=lambda entry: (entry.at, entry.backup_id), reverse=True)

    def entry(self, backup_id: str, in_progress: Collection[str] = ()) -> Entry | None:
        """One copy as `entries` tells it, read now; None when nothing of it is stored."""
        owner, at = parse_id(backup_id)
        files = Files(backup_id, owner, at)
        for name, info in self._of(backup_id):
            files.add(name, info)
        return judge(self._reader, files, in_progress, datetime.now(UTC)) if files.objects else None

    def forget(self, backup_id: str) -> None:
        """Delete a backup: its manifest first, its evidence last. Idempotent; a stranger's object is not touched.

        Raises ObjectLocked; nothing is gone then, for the manifest was locked last.
        """
        order = ("manifest", "artifact", "evidence")
        for _, key in sorted((order.index(name.role), info.key) for name, info in self._of(backup_id)):
            self._store.delete(key)

    def _of(self, backup_id: str) -> Iterator[tuple[keys.Name, ObjectInfo]]:
        for info in self._store.list(f"{backup_id}."):
            name = keys.parse(info.key)
            if name is not None and name.backup_id == backup_id:
                yield name, info

    def _grouped(self, database: str | None) -> list[Files]:
        grouped: dict[str, Files] = {}
        for info in self._store.list(f"{database}-backup-" if database else ""):
            name = keys.parse(info.key)
            if name is None:
                continue
            owner, at = parse_id(name.backup_id)
            if database in (None, owner):
                grouped.setdefault(name.backup_id, Files(name.backup_id, owner, at)).add(name, info)
        return list(grouped.values())

    def _put(self, key: str, body: bytes) -> None:
        self._store.put(key, body, size=len(body), sha256=hashlib.sha256(body).hexdigest(), if_absent=True)

    def _not_found(self, backup_id: str) -> BackupNotFound:
        named = (keys.parse(info.key) for info in self._store.list())
        known = [name.backup_id for name in named if name is not None and name.role == "manifest"]
        near = ", ".join(difflib.get_close_matches(backup_id, known, n=3))
        return BackupNotFound(
            f"There is no backup {backup_id!r} in {self._store.name}.",
            f"Similar: {near}." if near else "`pgfleet list` shows what there is.",
        )
