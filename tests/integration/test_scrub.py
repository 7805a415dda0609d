"""Scrubbing a directory and a real bucket: what rots is found, written down, and put right from the other copy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.prune_scene import (
    WHOLE,
    Killed,
    Mortal,
    Scene,
    add_backup,
    content_of,
    days_ago,
    id_of,
    put,
    scene,
)
from tests.integration.test_copy import HARM, harm, read
from tests.services import Bucket
from worker import flows, here, reconcile, runner
from worker.catalog import Catalog, Entry
from worker.ledger import RunEnd
from worker.ledger.model import NewRun, Run
from worker.submit import scrub

BACKUP = id_of(days_ago(1))


@pytest.fixture
def two(tmp_path: Path, bucket: Bucket) -> Scene:
    return scene(tmp_path, bucket, scrub_repair=True)


def scrubbed(two: Scene, destination: str | None = None) -> Run:
    (run,) = scrub(two.adapters, database=None, destination=destination, requested_by="test", here="test")
    return here.work(two.adapters, run.id)


def entry_of(two: Scene, alias: str) -> Entry:
    found = Catalog(two.store(alias)).entry(BACKUP)
    assert found is not None
    return found


@pytest.mark.parametrize("alias", ["near", "far"])
@pytest.mark.parametrize("how", HARM)
def test_damage_is_found_written_down_and_repaired(two: Scene, alias: str, how: str) -> None:
    for one in ("near", "far"):
        add_backup(two.store(one), BACKUP, verified=False)
        Catalog(two.store(one)).evidence_put(BACKUP, "verify", {"ok": True, "at": long_ago()})
    harm(two, alias, how)
    run = scrubbed(two)
    assert run.state == "damaged", run
    assert run.error["type"] == "CopyDamaged"
    assert run.result["destinations"][alias]["damaged"] == [BACKUP]
    other = {"near": "far", "far": "near"}[alias]
    assert "damaged" not in run.result["destinations"][other]
    assert entry_of(two, alias).state in ("damaged", "incomplete")
    records = Catalog(two.store(alias)).evidence(BACKUP, "scrub")
    assert [record["ok"] for record in records] == [False]
    assert records[0]["problems"]

    assert reconcile.repair_damaged(two.adapters) == 1
    assert reconcile.repair_damaged(two.adapters) == 0
    (copy,) = two.adapters.ledger.runs(kind="copy")
    for _ in range(50):
        for hint in two.adapters.ledger.take_due(run_id=copy.id, resend_after=0):
            runner.perform(two.adapters, copy.id, hint.step_id)
    assert two.adapters.ledger.run(copy.id).state == "verified"
    assert entry_of(two, alias).state == "verified"
    assert read(two.store(alias), f"{BACKUP}.dump.gpg") == content_of(BACKUP)
    assert scrubbed(two).state == "succeeded"


def long_ago() -> str:
    return (datetime.now(UTC) - timedelta(days=60)).isoformat()


def test_what_a_backups_own_verification_finds_is_repaired(two: Scene) -> None:
    """From the other copy, if that is good."""
    ledger = two.adapters.ledger
    for near in ("verified", "damaged"):
        states = {"near": near, "far": "damaged"}
        copies = [{"destination": alias, "state": state, "bytes": 1} for alias, state in states.items()]
        new = NewRun("backup", "goimg", {"databases": ["goimg"]})
        run, _ = ledger.create_run(new, flows.first(new))
        claim = ledger.claim(run.id, next(iter(ledger.steps(run.id, name="backup.dump"))).id, owner="me")
        assert claim is not None
        ledger.set_run(claim, backup_id=BACKUP)
        ledger.commit(claim, {}, end=RunEnd("damaged", {"copies": copies}))
        assert reconcile.repair_damaged(two.adapters) == (near == "verified")
    (copy,) = ledger.runs(kind="copy")
    assert (copy.request["backup"], copy.request["to"], copy.request["repair"]) == (BACKUP, "far", True)


def test_not_repaired_unless_allowed(tmp_path: Path, bucket: Bucket) -> None:
    two = scene(tmp_path, bucket)
    for one in ("near", "far"):
        add_backup(two.store(one), BACKUP)
    harm(two, "near", "missing")
    assert scrubbed(two).state == "damaged"
    assert reconcile.repair_damaged(two.adapters) == 0


def test_a_share_a_day_and_it_is_remembered_beside_the_copy(tmp_path: Path) -> None:
    """Ten copies that nobody read for long; days of 1/5 each; the ledger is lost in between."""
    one = scene(tmp_path, scrub_days=5)
    store = one.store("near")
    ids = [id_of(days_ago(age)) for age in range(1, 11)]
    for backup in ids:
        add_backup(store, backup, verified=False)
    shares = []
    for _ in range(6):
        run = scrubbed(one)
        assert run.state == "succeeded"
        shares.append(run.result["destinations"]["near"]["parts"])
        (tmp_path / "ledger.db").unlink()
        one = scene(tmp_path, scrub_days=5)
    assert shares == [4, 4, 2, 0, 0, 0]
    assert {entry.state for entry in Catalog(store).entries()} == {"verified"}
    assert {entry.scrubbed for entry in Catalog(store).entries()} == {1.0}


def test_a_part_in_the_middle_of_a_large_archive(tmp_path: Path) -> None:
    one = scene(tmp_path, scrub_days=1)
    store = one.store("near")
    add_backup(store, BACKUP, verified=False, stems=WHOLE)
    wrong = bytearray(content_of(BACKUP, "data-01.dump"))
    wrong[-50] ^= 0x20
    put(store, f"{BACKUP}.data-01.dump.gpg", bytes(wrong))
    run = scrubbed(one)
    assert run.state == "damaged"
    (record,) = Catalog(store).evidence(BACKUP, "scrub")
    assert [(problem["object"], problem["number"]) for problem in record["problems"]] == [
        (f"{BACKUP}.data-01.dump.gpg", 2)
    ]
    assert 0.9 < record["covered"] < 1.0
    again = scrubbed(one)
    assert again.state == "damaged"
    assert entry_of(one, "near").state == "damaged"


def test_it_reads_no_faster_than_it_may(tmp_path: Path) -> None:
    size = len(content_of(BACKUP))
    one = scene(tmp_path, scrub_days=1, scrub_bytes_per_second=size * 4)
    add_backup(one.store("near"), BACKUP, verified=False)
    run = scrubbed(one)
    (part,) = one.adapters.ledger.steps(run.id, name="scrub.part")
    assert part.started_at is not None
    assert part.ended_at is not None
    assert part.ended_at - part.started_at >= 0.24


def test_killed_it_goes_on_and_reads_nothing_twice(tmp_path: Path) -> None:
    one = scene(tmp_path, scrub_days=1)
    store = one.store("near")
    add_backup(store, BACKUP, verified=False, stems=WHOLE)
    one.put_in_place("near", Mortal(store, 0))  # dies when it writes its record
    with pytest.raises(Killed):
        scrubbed(one)
    assert not Catalog(store).evidence(BACKUP, "scrub")
    unreadable = Mortal(store, 99)
    unreadable.read = lambda key, *_: store.read(key) if key.endswith(".json") else None  # type: ignore[attr-defined]
    one.put_in_place("near", unreadable)
    (run,) = one.adapters.ledger.runs(kind="scrub")
    assert here.work(one.adapters, run.id).state == "succeeded"
    assert entry_of(one, "near").scrubbed == 1.0


def test_strangers_and_backups_of_others_are_not_read(tmp_path: Path) -> None:
    one = scene(tmp_path)
    store = one.store("near")
    put(store, f"{BACKUP}.dump.gpg", b"by the seed")
    put(store, "other-backup-20260101-020000.manifest.json", b"{")
    assert scrubbed(one).state == "succeeded"
    assert not any(".scrub-" in info.key for info in store.list())
