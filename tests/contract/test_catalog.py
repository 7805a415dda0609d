"""The catalog over every store: sealed last and once, forgotten first, locked ones left alone."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.contract.conftest import content_of, put, s3_destination
from tests.services import Bucket
from worker.catalog import Catalog
from worker.core.backup import Artifact, Manifest, Part, Server
from worker.errors import ObjectExists, ObjectLocked
from worker.storage.guarded import GuardedStore
from worker.storage.s3 import S3Store

ID = "goimg-backup-20260105-020000"
DUMP = b"the dump"


def manifest(run_id: str = "run-1") -> Manifest:
    now = datetime(2026, 1, 5, 3, tzinfo=UTC)
    digest = hashlib.sha256(DUMP).hexdigest()
    dump = Artifact(
        name=f"{ID}.dump.gpg", kind="dump", size=len(DUMP), sha256=digest, plain_size=1, plain_sha256=digest,
        part_size=1024, parts=(Part(number=1, size=len(DUMP), sha256=digest),),
    )  # fmt: skip
    return Manifest(
        backup_id=ID, run_id=run_id, database="goimg", dbname="goimg", destination="x", type="daily",
        snapshot_at=now, sealed_at=now, pgfleet="0.1.0", server=Server(version="17.5", version_num=170005),
        client="pg_dump 17.5", compression="zstd:1", encrypted=True, artifacts=(dump,),
    )  # fmt: skip


def test_the_life_of_a_backup(store: GuardedStore) -> None:
    catalog = Catalog(store)
    put(store, f"{ID}.dump.gpg", DUMP)
    assert [entry.state for entry in catalog.entries(None, [ID])] == ["incomplete"]
    catalog.seal(manifest())
    assert [entry.state for entry in catalog.entries()] == ["unverified"]
    catalog.evidence_put(ID, "verify", {"ok": True})
    (entry,) = catalog.entries("goimg")
    assert (entry.state, entry.size) == ("verified", len(DUMP))
    assert catalog.manifest(ID) == manifest()
    catalog.forget(ID)
    assert catalog.entries() == []
    assert list(store.list()) == []


@pytest.mark.parametrize("store", ["directory", "s3"], indirect=True)
def test_one_of_many_seals(store: GuardedStore) -> None:
    def seal(number: int) -> str | None:
        try:
            return Catalog(store).seal(manifest(f"run-{number}")).run_id
        except ObjectExists:
            return None

    with ThreadPoolExecutor(6) as pool:
        sealed = [run for run in pool.map(seal, range(6)) if run]
    assert sealed == [Catalog(store).manifest(ID).run_id]


def test_a_locked_backup_is_not_forgotten(locked_bucket: Bucket) -> None:
    store = S3Store(s3_destination(locked_bucket, object_lock="governance", object_lock_days=2))
    put(store, f"{ID}.dump.gpg", DUMP)
    Catalog(store).seal(manifest())
    with pytest.raises(ObjectLocked):
        Catalog(store).forget(ID)
    assert [entry.state for entry in Catalog(store).entries()] == ["unverified"]
    assert content_of(store, f"{ID}.dump.gpg") == DUMP
