"""The catalog over a real directory: what exists, in which state, and in which order it comes and goes."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from worker.catalog import Catalog, Entry
from worker.config.model import Destination
from worker.core.backup import Artifact, Manifest, Part, Server
from worker.core.keys import EvidenceKind, evidence_key, manifest_key
from worker.errors import BackupNotFound, ObjectExists, StorageError, StorageUnavailable
from worker.storage.directory import DirectoryStore

ID = "goimg-backup-20260105-020000"
OTHER = "goimg-backup-20260106-020000"
NOON = datetime(2026, 1, 6, 12, tzinfo=UTC)
ARTIFACTS = {"dump.gpg": b"the dump", "globals.sql.gpg": b"roles"}


class Watched(DirectoryStore):
    """A directory that remembers what was asked of it, and can fail."""

    def __init__(self, root: Path) -> None:
        super().__init__(Destination(alias="disk", kind="directory", path=root))
        self.calls: list[tuple[str, str]] = []
        self.broken: set[str] = set()
        self.dies_after = 1000

    def read(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        self.calls.append(("read", key))
        if key in self.broken:
            raise StorageUnavailable("The disk does not answer.")
        return super().read(key, offset, length)

    def delete(self, key: str) -> None:
        if len(self.names("delete")) >= self.dies_after:
            raise KeyboardInterrupt
        self.calls.append(("delete", key))
        super().delete(key)

    def names(self, call: str) -> list[str]:
        return [key for name, key in self.calls if name == call]


@pytest.fixture
def store(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "backups")


@pytest.fixture
def catalog(store: Watched) -> Catalog:
    return Catalog(store)


def put(store: DirectoryStore, key: str, content: bytes = b"x") -> None:
    store.put(key, content, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def manifest(backup_id: str = ID, run_id: str = "run-1", **changes: object) -> Manifest:
    artifacts = tuple(
        Artifact(
            name=f"{backup_id}.{stem}",
            kind="dump" if stem.startswith("dump") else "globals",
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            plain_size=3,
            plain_sha256="00" * 32,
            part_size=1024,
            parts=(Part(number=1, size=len(content), sha256=hashlib.sha256(content).hexdigest()),),
        )
        for stem, content in ARTIFACTS.items()
    )
    made = Manifest(
        backup_id=backup_id,
        run_id=run_id,
        database="goimg",
        dbname="goimg",
        destination="disk",
        type="daily",
        snapshot_at=NOON,
        sealed_at=NOON,
        pgfleet="0.1.0",
        server=Server(version="17.5", version_num=170005),
        client="pg_dump 17.5",
        compression="zstd:1",
        encrypted=True,
        artifacts=artifacts,
    )
    return made.model_copy(update=changes)


def backup(store: DirectoryStore, backup_id: str = ID) -> None:
    for stem, content in ARTIFACTS.items():
        put(store, f"{backup_id}.{stem}", content)
    Catalog(store).seal(manifest(backup_id))


def say(
    catalog: Catalog, kind: EvidenceKind, hours: float = 0, backup_id: str = ID, **record: object
) -> None:
    catalog.evidence_put(backup_id, kind, {"at": (NOON + timedelta(hours=hours)).isoformat(), **record})


def only(catalog: Catalog, **options: object) -> Entry:
    (entry,) = catalog.entries(**options)  # type: ignore[arg-type]
    return entry


def test_nothing(catalog: Catalog) -> None:
    assert catalog.entries() == []


def test_a_sealed_backup(store: Watched, catalog: Catalog) -> None:
    backup(store)
    entry = only(catalog)
    assert (entry.backup_id, entry.database, entry.type, entry.state) == (ID, "goimg", "daily", "unverified")
    assert entry.at == datetime(2026, 1, 5, 2, tzinfo=UTC)
    assert entry.size == len(b"the dump") + len(b"roles")
    assert (entry.verified_at, entry.proven_at, entry.scrubbed_at, entry.hold, entry.held) == (None,) * 4 + (
        False,
    )
    assert [info.key for info in entry.objects] == [
        f"{ID}.dump.gpg",
        f"{ID}.globals.sql.gpg",
        f"{ID}.manifest.json",
    ]


def test_the_listing_carries_no_parts(store: Watched, catalog: Catalog) -> None:
    """A terabyte has 15,000 of them, and a listing hundreds of backups."""
    backup(store)
    listed = only(catalog).manifest
    assert listed is not None
    assert [artifact.parts for artifact in listed.artifacts] == [(), ()]
    assert catalog.manifest(ID) == manifest()
    assert listed.size == manifest().size


def test_entries_are_newest_first_and_by_database(store: Watched, catalog: Catalog) -> None:
    for backup_id in (ID, "shop-backup-20260107-020000", OTHER, "goimg-eu-backup-20260108-020000"):
        backup(store, backup_id)
    assert [entry.backup_id for entry in catalog.entries()] == [
        "goimg-eu-backup-20260108-020000", "shop-backup-20260107-020000", OTHER, ID,
    ]  # fmt: skip
    assert [entry.backup_id for entry in catalog.entries("goimg")] == [OTHER, ID]
    assert catalog.entries("nobody") == []


def test_strangers_are_not_listed(store: Watched, catalog: Catalog) -> None:
    for key in (
        f"{ID}.dump.gpg.bak",
        f"{ID}",
        "notes.txt",
        "goimg-backup-20261399-020000.dump",
        f"{ID}.xlsx",
    ):
        put(store, key)
    assert catalog.entries() == []


# --- which state


@pytest.mark.parametrize("names", [["dump"], ["dump.gpg"], ["dump", "dump.gpg"]])
def test_a_dump_of_the_seeds_scripts_is_unmanaged(store: Watched, catalog: Catalog, names: list[str]) -> None:
    for name in names:
        put(store, f"{ID}.{name}")
    entry = only(catalog)
    assert (entry.state, entry.manifest, entry.size) == ("unmanaged", None, len(names))
    assert entry.type == "daily"


@pytest.mark.parametrize(
    "companion",
    ["globals.sql.gpg", "fingerprint.json.gpg", "data-01.dump.gpg", "verify-20260105T020000000000Z.json"],
)
def test_without_a_manifest_and_with_what_only_we_write_it_is_incomplete(
    store: Watched, catalog: Catalog, companion: str
) -> None:
    put(store, f"{ID}.dump.gpg")
    put(store, f"{ID}.{companion}")
    assert only(catalog).state == "incomplete"


def test_evidence_alone_is_incomplete(store: Watched, catalog: Catalog) -> None:
    """A removal was broken off at its very end."""
    put(store, evidence_key(ID, "drill", NOON))
    assert only(catalog).state == "incomplete"


def test_an_upload_in_progress_is_incomplete(store: Watched, catalog: Catalog) -> None:
    put(store, f"{ID}.dump.gpg")
    put(store, f"{OTHER}.dump.gpg")
    states = {entry.backup_id: entry.state for entry in catalog.entries(None, [ID])}
    assert states == {ID: "incomplete", OTHER: "unmanaged"}


def test_a_sealed_backup_whose_run_goes_on_exists(store: Watched, catalog: Catalog) -> None:
    backup(store)
    assert only(catalog, in_progress=[ID]).state == "unverified"


def test_an_unmanaged_backup_can_be_held_and_proven(store: Watched, catalog: Catalog) -> None:
    put(store, f"{ID}.dump")
    say(catalog, "hold", held=True, reason="audit")
    say(catalog, "restore", ok=True)
    say(catalog, "drill", ok=True, verdict="proven")
    entry = only(catalog)
    assert (entry.state, entry.held, entry.proven_at) == ("unmanaged", True, NOON)


@pytest.mark.parametrize("harm", ["missing", "longer", "shorter"])
def test_artifacts_that_do_not_match_the_manifest(store: Watched, catalog: Catalog, harm: str) -> None:
    backup(store)
    say(catalog, "verify", ok=True)
    key = f"{ID}.dump.gpg"
    if harm == "missing":
        store.delete(key)
    else:
        put(store, key, b"the dump and more" if harm == "longer" else b"the")
    entry = only(catalog)
    assert entry.state == "damaged"
    assert entry.manifest is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"not JSON",
        b"[]",
        b'{"format": 2}',
        manifest(OTHER).to_json(),
        manifest(artifacts=(manifest(OTHER).artifacts[0],)).to_json(),
        manifest(
            artifacts=(manifest().artifacts[0].model_copy(update={"name": "../../etc/passwd"}),)
        ).to_json(),
    ],
)
def test_a_damaged_manifest_hides_no_other_backup(
    store: Watched, catalog: Catalog, text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    backup(store)
    backup(store, OTHER)
    put(store, manifest_key(ID), text)
    with caplog.at_level(logging.WARNING):
        states = {entry.backup_id: (entry.state, entry.manifest is None) for entry in catalog.entries()}
    assert states == {ID: ("damaged", True), OTHER: ("unverified", False)}
    assert [record.__dict__["object"] for record in caplog.records] == [manifest_key(ID)]
    with pytest.raises(StorageError):
        catalog.manifest(ID)


def test_what_cannot_be_read_now_is_not_damaged(store: Watched, catalog: Catalog) -> None:
    backup(store)
    store.broken.add(manifest_key(ID))
    with pytest.raises(StorageUnavailable):
        catalog.entries()
    store.broken.clear()
    assert only(catalog).state == "unverified"


@pytest.mark.parametrize(
    ("evidence", "state", "verified", "scrubbed"),
    [
        ([("verify", True)], "verified", 0, None),
        ([("verify", False)], "damaged", None, None),
        ([("scrub", True)], "verified", None, 0),
        ([("verify", True), ("scrub", False)], "damaged", 0, None),
        ([("verify", True), ("scrub", False), ("verify", True)], "verified", 2, None),
        ([("scrub", False), ("verify", True), ("scrub", True)], "verified", 1, 2),
        ([("verify", True), ("verify", False)], "damaged", None, None),
        ([("verify", "yes")], "damaged", None, None),
    ],
)
def test_the_latest_check_decides(
    store: Watched,
    catalog: Catalog,
    evidence: list[tuple[EvidenceKind, object]],
    state: str,
    verified: int | None,
    scrubbed: int | None,
) -> None:
    backup(store)
    for hours, (kind, ok) in enumerate(evidence):
        say(catalog, kind, hours, ok=ok)
    entry = only(catalog)
    assert entry.state == state
    assert entry.verified_at == (None if verified is None else NOON + timedelta(hours=verified))
    assert entry.scrubbed_at == (None if scrubbed is None else NOON + timedelta(hours=scrubbed))


@pytest.mark.parametrize(
    ("verdicts", "proven", "refuted"),
    [
        (["proven"], 0, None),
        (["proven", "could_not_run"], 0, None),
        (["proven", "refuted"], None, 1),
        (["refuted", "proven", "could_not_run"], 1, None),
        (["could_not_run"], None, None),
    ],
)
def test_drills(
    store: Watched, catalog: Catalog, verdicts: list[str], proven: int | None, refuted: int | None
) -> None:
    backup(store)
    for hours, verdict in enumerate(verdicts):
        say(catalog, "drill", hours, ok=verdict == "proven", verdict=verdict)
    entry = only(catalog)
    assert entry.proven_at == (None if proven is None else NOON + timedelta(hours=proven))
    assert entry.refuted_at == (None if refuted is None else NOON + timedelta(hours=refuted))
    assert entry.state == "unverified"


def test_holds(store: Watched, catalog: Catalog) -> None:
    backup(store)
    say(catalog, "hold", 0, held=True, reason="audit", until=None)
    entry = only(catalog)
    assert entry.held
    assert entry.hold is not None
    assert (entry.hold.reason, entry.hold.until) == ("audit", None)
    say(catalog, "hold", 1, held=False, reason="audit is over")
    assert not only(catalog).held
    say(
        catalog,
        "hold",
        2,
        held=True,
        reason="again",
        until=(datetime.now(UTC) + timedelta(days=1)).isoformat(),
    )
    assert only(catalog).held
    say(
        catalog,
        "hold",
        3,
        held=True,
        reason="past",
        until=(datetime.now(UTC) - timedelta(days=1)).isoformat(),
    )
    assert not only(catalog).held
    put(store, evidence_key(ID, "hold", NOON + timedelta(hours=4)), b"damaged")
    assert only(catalog).held


def test_unreadable_evidence_says_nothing(store: Watched, catalog: Catalog) -> None:
    backup(store)
    say(catalog, "verify", 0, ok=True)
    for hours, text in enumerate((b"", b"[1]", b"\xff"), 1):
        put(store, evidence_key(ID, "verify", NOON + timedelta(hours=hours)), text)
    assert only(catalog).state == "verified"
    assert len(catalog.evidence(ID)) == 1


def test_what_has_not_changed_is_read_once(store: Watched, catalog: Catalog) -> None:
    backup(store)
    backup(store, OTHER)
    say(catalog, "verify", ok=True)
    first = catalog.entries()
    store.calls.clear()
    assert catalog.entries() == first
    assert store.names("read") == []

    say(catalog, "verify", 1, ok=False)
    store.delete(manifest_key(OTHER))
    backup(store, OTHER)
    catalog.entries()
    assert len(store.names("read")) == 2


# --- sealing, finding, evidence


def test_seal_twice_is_once(store: Watched, catalog: Catalog) -> None:
    assert catalog.seal(manifest()) == manifest()
    later = manifest(sealed_at=NOON + timedelta(hours=1))
    assert catalog.seal(later) == manifest()
    assert catalog.manifest(ID).sealed_at == NOON


def test_another_run_cannot_seal_over_it(catalog: Catalog) -> None:
    catalog.seal(manifest())
    with pytest.raises(ObjectExists, match=f"has a backup {ID} already, from run run-1"):
        catalog.seal(manifest(run_id="run-2"))
    assert catalog.manifest(ID).run_id == "run-1"


def test_not_found_names_what_is_near(store: Watched, catalog: Catalog) -> None:
    backup(store)
    put(store, f"{OTHER}.dump")
    with pytest.raises(
        BackupNotFound, match="There is no backup 'goimg-backup-20260105-030000' in disk"
    ) as raised:
        catalog.manifest("goimg-backup-20260105-030000")
    assert raised.value.hint == f"Similar: {ID}."
    for wrong in ("../../etc/passwd", "", "latest"):
        with pytest.raises(BackupNotFound) as raised:
            catalog.manifest(wrong)
        assert "pgfleet list" in raised.value.hint


def test_evidence(store: Watched, catalog: Catalog) -> None:
    backup(store)
    backup(store, OTHER)
    for hours, kind in ((3, "verify"), (1, "drill"), (2, "verify")):
        say(catalog, kind, hours, ok=True, number=hours)  # type: ignore[arg-type]
    say(catalog, "verify", backup_id=OTHER, ok=True)
    assert [record["number"] for record in catalog.evidence(ID)] == [1, 2, 3]
    assert [record["number"] for record in catalog.evidence(ID, "verify")] == [2, 3]
    assert catalog.evidence(ID, "scrub") == []
    assert catalog.evidence(ID)[0] == {
        "at": "2026-01-06T13:00:00+00:00", "ok": True, "number": 1, "format": 1, "kind": "drill", "backup_id": ID,
    }  # fmt: skip


def test_evidence_is_written_once(catalog: Catalog, store: Watched) -> None:
    record = {"at": NOON.isoformat(), "ok": True}
    key = catalog.evidence_put(ID, "verify", record)
    assert key == evidence_key(ID, "verify", NOON)
    assert catalog.evidence_put(ID, "verify", record) == key
    with pytest.raises(ObjectExists):
        catalog.evidence_put(ID, "verify", {**record, "ok": False})
    with store.read(key) as stream:
        assert json.loads(stream.read())["ok"] is True
    assert catalog.evidence_put(ID, "verify", {"ok": True}) != key


def test_what_is_signed_is_what_is_stored(catalog: Catalog) -> None:
    """A host whose clock is behind writes a later time than its own: the signature has to know."""
    say(catalog, "verify", hours=0.5, ok=True)
    seen: list[str] = []

    def sign(whole: dict[str, Any]) -> dict[str, Any]:
        seen.append(whole["at"])
        return {**whole, "signature": "S"}

    catalog.evidence_put(ID, "drill", {"at": NOON.isoformat(), "verdict": "proven"}, sign)
    (stored,) = catalog.evidence(ID, "drill")
    assert (stored["signature"], [stored["at"]]) == ("S", seen)
    assert stored["at"] > NOON.isoformat()


@pytest.mark.parametrize("name", [(OTHER, "drill", 0), (ID, "drill", 9), (ID, "verify", 0)])
def test_a_record_under_another_name_is_no_evidence(
    store: Watched, catalog: Catalog, name: tuple[str, EvidenceKind, int]
) -> None:
    """A good record that was copied to another backup, or to a later time than a bad one's."""
    say(catalog, "drill", verdict="proven", ok=True)
    with store.read(evidence_key(ID, "drill", NOON)) as stream:
        content = stream.read()
    backup_id, kind, hours = name
    put(store, evidence_key(backup_id, kind, NOON + timedelta(hours=hours)), content)
    assert len(catalog.evidence(ID)) == 1
    assert catalog.evidence(OTHER) == []


def test_a_drill_of_another_copy_does_not_prove_this_one(store: Watched, catalog: Catalog) -> None:
    backup(store)
    say(catalog, "drill", verdict="proven", destination="elsewhere")
    assert only(catalog).proven_at is None
    say(catalog, "drill", hours=1, verdict="proven", destination=store.name)
    assert only(catalog).proven_at is not None


# --- forgetting


def stranger(store: Watched) -> Iterator[str]:
    for key in (f"{ID}.dump.gpg.bak", f"{ID}5.dump.gpg", f"{OTHER}.dump.gpg", f"x{ID}.dump"):
        put(store, key)
        yield key


def test_forget(store: Watched, catalog: Catalog) -> None:
    backup(store)
    say(catalog, "verify", ok=True)
    say(catalog, "hold", held=False)
    strangers = sorted(stranger(store))
    catalog.forget(ID)
    assert store.names("delete") == [
        f"{ID}.manifest.json",
        f"{ID}.dump.gpg",
        f"{ID}.globals.sql.gpg",
        evidence_key(ID, "hold", NOON),
        evidence_key(ID, "verify", NOON),
    ]
    assert [info.key for info in store.list()] == strangers
    catalog.forget(ID)


@pytest.mark.parametrize("deleted", range(4))
def test_forget_killed_at_every_step(store: Watched, catalog: Catalog, deleted: int) -> None:
    backup(store)
    say(catalog, "verify", ok=True)
    store.dies_after = deleted
    with pytest.raises(KeyboardInterrupt):
        catalog.forget(ID)
    store.dies_after = 1000

    assert only(catalog).state == ("verified" if deleted == 0 else "incomplete")
    catalog.forget(ID)
    assert list(store.list()) == []


def test_forget_an_unmanaged_backup(store: Watched, catalog: Catalog) -> None:
    put(store, f"{ID}.dump.gpg")
    catalog.forget(ID)
    assert catalog.entries() == []


def test_the_newest_evidence_is_what_was_written_last_whatever_a_clock_says(catalog: Catalog) -> None:
    fast, slow = datetime(2026, 11, 23, 12, 10, tzinfo=UTC), datetime(2026, 11, 23, 12, 5, tzinfo=UTC)
    catalog.evidence_put("goimg-backup-20261123-020000", "verify", {"at": fast.isoformat(), "ok": True})
    catalog.evidence_put("goimg-backup-20261123-020000", "scrub", {"at": slow.isoformat(), "ok": False})
    assert [record["kind"] for record in catalog.evidence("goimg-backup-20261123-020000")] == [
        "verify",
        "scrub",
    ]
