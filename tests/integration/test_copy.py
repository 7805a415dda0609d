"""One more copy of a backup, and a destination that was away and catches up; between a directory and a real bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.prune_scene import (
    WHOLE,
    Killed,
    Mortal,
    Scene,
    add_backup,
    backups_in,
    content_of,
    days_ago,
    id_of,
    put,
    scene,
)
from tests.services import Bucket, wait_until
from worker import flows, here, reconcile, runner
from worker.catalog import Catalog
from worker.core.backup import Manifest
from worker.errors import ConfigError, StorageUnavailable
from worker.ledger import RunEnd
from worker.ledger.model import NewRun, Run
from worker.steps import copy
from worker.steps.hold import carry, hold, release
from worker.storage import ObjectStore
from worker.submit import repair

BACKUP = id_of(days_ago(1))


@pytest.fixture
def two(tmp_path: Path, bucket: Bucket) -> Scene:
    return scene(tmp_path, bucket, database={"schedule": "off"})


def read(store: ObjectStore, key: str) -> bytes:
    with store.read(key) as stream:
        return stream.read()


@pytest.mark.parametrize("stem", WHOLE)
def test_a_strangers_object_of_the_same_name_is_not_overwritten(two: Scene, stem: str) -> None:
    """Put whole or in parts; what holds the very bytes already is as good as copied."""
    add_backup(two.store("near"), BACKUP, stems=WHOLE)
    key, far = f"{BACKUP}.{stem}.gpg", two.store("far")
    put(far, key, b"mine")
    run = two.run("copy", backup=BACKUP, to="far")
    assert (run.state, run.error and run.error["type"]) == ("failed", "ObjectExists")
    assert read(far, key) == b"mine"
    put(far, key, content_of(BACKUP, stem))
    assert two.run("copy", backup=BACKUP, to="far").state == "verified"


def test_a_copy_in_parts(two: Scene) -> None:
    add_backup(two.store("near"), BACKUP, stems=WHOLE)
    run = two.run("copy", backup=BACKUP, to="far")
    assert run.state == "verified", run.error
    assert run.result["copies"][0]["destination"] == "far"
    far = Catalog(two.store("far"))
    (entry,) = far.entries()
    assert (entry.state, entry.manifest and entry.manifest.destination) == ("verified", "far")
    assert read(two.store("far"), f"{BACKUP}.dump.gpg") == content_of(BACKUP)
    manifest = far.manifest(BACKUP)
    assert any("s3://" in command for command in manifest.restore)
    assert manifest.artifacts == Catalog(two.store("near")).manifest(BACKUP).artifacts
    parts = [step for step in two.adapters.ledger.steps(run.id, name="copy.part")]
    assert len(parts) == 3
    assert read(two.store("far"), f"{BACKUP}.data-01.dump.gpg") == content_of(BACKUP, "data-01.dump")


def test_a_copy_of_a_held_backup_is_held(two: Scene) -> None:
    """By its own record; and by the other copy's, where it has none."""
    old = next(id_of(day) for day in map(days_ago, range(200, 203)) if day.day != 1)
    for backup in (old, BACKUP):
        add_backup(two.store("near"), backup)
    hold(two.adapters, old, reason="court case", until=None, by="me")
    assert two.run("copy", backup=old, to="far").state == "verified"
    made = Catalog(two.store("far")).entry(old)
    assert made is not None
    assert (made.hold and made.hold.reason) == "court case"
    record = next(info.key for info in two.store("far").list(f"{old}.hold-"))
    two.store("far").delete(record)
    assert two.plan(two.run(dry_run=True))["far", old] == (True, "held")
    two.put_in_place("down", Down("down"))
    carry(two.adapters, old, sources=["down", "near"], to="far")
    assert Catalog(two.store("far")).evidence(old, "hold")
    release(two.adapters, old, by="me")
    assert two.plan(two.run(dry_run=True))["near", old] == (False, "expired")


def test_twice_is_once(two: Scene) -> None:
    add_backup(two.store("far"), BACKUP)
    assert two.run("copy", backup=BACKUP, to="near").state == "verified"
    sealed = Catalog(two.store("near")).manifest(BACKUP).sealed_at
    again = two.run("copy", backup=BACKUP, to="near")
    assert again.state == "verified"
    assert not list(two.adapters.ledger.steps(again.id, name="copy.part"))
    assert Catalog(two.store("near")).manifest(BACKUP).sealed_at == sealed


@pytest.mark.parametrize("to", ["near", "far"])
def test_killed_at_every_step(two: Scene, to: str) -> None:
    source = {"near": "far", "far": "near"}[to]
    add_backup(two.store(source), BACKUP, stems=WHOLE)
    store, deaths = two.store(to), 0
    run: Run | None = None
    for lives in range(40):
        two.put_in_place(to, Mortal(store, lives % 3 if lives < 30 else 99))
        try:
            run = two.run("copy", backup=BACKUP, to=to) if run is None else here.work(two.adapters, run.id)
        except Killed:
            deaths += 1
            (run,) = two.adapters.ledger.runs(kind="copy")
            continue
        break
    assert run is not None
    assert run.state == "verified", run.error
    assert deaths > 3
    (entry,) = Catalog(store).entries()
    assert entry.state == "verified"
    assert read(store, f"{BACKUP}.dump.gpg") == content_of(BACKUP)
    assert not list(store.open_uploads())


def test_a_damaged_source_is_not_spread(two: Scene) -> None:
    add_backup(two.store("near"), BACKUP)
    wrong = bytearray(content_of(BACKUP))
    wrong[3] ^= 1
    put(two.store("near"), f"{BACKUP}.dump.gpg", bytes(wrong))
    run = two.run("copy", backup=BACKUP, to="far")
    assert run.state == "failed"
    assert "differ from the manifest" in run.error["message"]
    assert [entry.state for entry in Catalog(two.store("far")).entries(None, [BACKUP])] in (
        [],
        ["incomplete"],
    )


class Down:
    """A destination that does not answer."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, name: str) -> object:
        def away(*_: object, **__: object) -> Iterator[object]:
            raise StorageUnavailable(f"{self.name} does not answer.", "")

        return away


def backup_that_missed(two: Scene, alias: str, state: str = "failed") -> Run:
    """A backup's run as `backup.conclude` leaves it when one destination was down."""
    ledger = two.adapters.ledger
    new = NewRun("backup", "goimg", {"databases": ["goimg"]})
    run, _ = ledger.create_run(new, flows.first(new))
    (dump,) = ledger.steps(run.id, name="backup.dump")
    claim = ledger.claim(run.id, dump.id, owner="somebody")
    assert claim is not None
    ledger.set_run(claim, backup_id=BACKUP)
    copies = [
        {"destination": one, "state": "failed" if one == alias else "verified", "bytes": 1, "error": None}
        for one in ("near", "far")
    ]
    ledger.commit(claim, {"destinations": ["near", "far"]}, end=RunEnd(state, {"copies": copies}))  # type: ignore[arg-type]
    return ledger.run(run.id)


@pytest.mark.parametrize("state", ["failed", "verified"])
def test_a_destination_that_was_down_catches_up(
    two: Scene, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(copy, "_ASK_AGAIN", 0.01)
    monkeypatch.setattr(copy, "_SOON", 0.01)
    add_backup(two.store("near"), BACKUP)
    backup = backup_that_missed(two, "far", state)
    far = two.store("far")
    two.put_in_place("far", Down("far"))
    assert reconcile.catch_up(two.adapters) == 1
    assert reconcile.catch_up(two.adapters) == 0, "once"
    (run,) = two.adapters.ledger.runs(kind="copy")
    hints = two.adapters.ledger.take_due(run_id=run.id, limit=9)
    assert [hint.name for hint in hints] == ["copy.plan"]
    _work_until(two, run.id, lambda: _swept(two, backup))
    assert two.adapters.ledger.run(run.id).state == "running", "it waits, and no attempt is counted"
    two.put_in_place("far", far)
    _work_until(two, run.id, lambda: not two.adapters.ledger.run(run.id).open)
    assert two.adapters.ledger.run(run.id).state == "verified"
    assert backups_in(far) == {BACKUP}
    assert reconcile.catch_up(two.adapters) == 0
    assert [run.kind for run in two.adapters.ledger.runs()].count("backup") == 1, "nothing is dumped twice"


def _swept(two: Scene, backup: Run) -> bool:
    """The backup's own run clears up after itself first."""
    (sweep,) = two.adapters.ledger.steps(backup.id, name="backup.sweep")
    runner.perform(two.adapters, backup.id, sweep.id)
    return sweep.state == "done"


def _work_until(two: Scene, run_id: str, done: Callable[[], bool]) -> None:
    def work() -> bool:
        for hint in two.adapters.ledger.take_due(run_id=run_id, limit=9, resend_after=0):
            runner.perform(two.adapters, run_id, hint.step_id)
        return done()

    assert wait_until(work, 20)


def harm(two: Scene, alias: str, how: str) -> None:
    store = two.store(alias)
    key = f"{BACKUP}.dump.gpg"
    if how == "flipped":
        wrong = bytearray(content_of(BACKUP))
        wrong[9] ^= 1
        put(store, key, bytes(wrong))
    elif how == "missing":
        store.delete(key)
    elif how == "truncated":
        put(store, key, content_of(BACKUP)[:-3])
    elif how == "manifest gone":
        store.delete(f"{BACKUP}.manifest.json")
    elif how == "manifest garbage":
        put(store, f"{BACKUP}.manifest.json", b"{")
    elif how == "manifest replaced":
        other = Catalog(store).manifest(BACKUP)
        artifact = other.artifacts[0].model_copy(update={"sha256": "0" * 64})
        part = artifact.parts[0].model_copy(update={"sha256": "1" * 64})
        artifact = artifact.model_copy(update={"parts": (part, *artifact.parts[1:])})
        put(store, f"{BACKUP}.manifest.json", _json(other, artifact))


def _json(manifest: Manifest, artifact: object) -> bytes:
    return manifest.model_copy(update={"artifacts": (artifact,)}).to_json()


HARM = ["flipped", "missing", "truncated", "manifest gone", "manifest garbage", "manifest replaced"]


@pytest.mark.parametrize("alias", ["near", "far"])
@pytest.mark.parametrize("how", HARM)
def test_repair(two: Scene, alias: str, how: str) -> None:
    for one in ("near", "far"):
        add_backup(two.store(one), BACKUP)
    harm(two, alias, how)
    two.run("verify", backup=BACKUP)
    runs = repair(two.adapters, BACKUP, requested_by="test", here="test")
    assert [run.request["to"] for run in runs] == [alias]
    ended = here.work(two.adapters, runs[0].id)
    assert ended.state == "verified", ended.error
    entry = Catalog(two.store(alias)).entry(BACKUP)
    assert entry is not None
    assert entry.state == "verified"
    assert read(two.store(alias), f"{BACKUP}.dump.gpg") == content_of(BACKUP)
    assert (
        Catalog(two.store(alias)).manifest(BACKUP).artifacts
        == Catalog(two.store("near")).manifest(BACKUP).artifacts
    )


def test_a_copy_that_is_gone_is_no_damage(two: Scene) -> None:
    """Who wants to repair it is told what does."""
    add_backup(two.store("near"), BACKUP)
    with pytest.raises(ConfigError, match="near: verified, far: missing") as caught:
        repair(two.adapters, BACKUP, requested_by="test")
    assert caught.value.hint.endswith(f"pgfleet copy {BACKUP} --to far")
    two.put_in_place("far", Down("far"))
    with pytest.raises(ConfigError, match="far: cannot be listed"):
        repair(two.adapters, BACKUP, requested_by="test")
