"""Cleanup over real stores: what goes and what stays, day after day and killed at every step."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.prune_scene import (
    Killed,
    Mortal,
    Scene,
    add_backup,
    backups_in,
    days_ago,
    id_of,
    new_cleanup,
    prove,
    put,
    scene,
)
from tests.services import Bucket
from worker import flows, runner
from worker import here as worker_here
from worker.catalog import Catalog
from worker.errors import StorageUnavailable
from worker.ledger.model import NewRun, NewStep
from worker.steps import clock
from worker.steps.context import Context
from worker.steps.hold import hold, release
from worker.steps.prune import survey
from worker.steps.upload import open_upload
from worker.storage import ObjectStore


@pytest.fixture(params=["directory", "s3"])
def one(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    """One destination: a directory, and then a bucket."""
    if request.param == "directory":
        return scene(tmp_path, orphan_grace_hours=1)
    return scene(tmp_path, request.getfixturevalue("bucket"), aliases=(), orphan_grace_hours=1)


def store_of(one: Scene) -> ObjectStore:
    return one.store(next(iter(one.adapters.settings.destinations)))


def all_is_old(one: Scene) -> None:
    """Own or not: every upload and object has outlived its grace."""
    one.adapters.settings.__dict__.update(orphan_grace_hours=-1.0, foreign_grace_days=-1.0)


def golden(first: date, today: date) -> set[date]:
    """The seed's table, counted by hand: of one backup a day, what is there on `today` after its cleanup."""
    kept = set()
    day = first
    while day <= today:
        age = (today - day).days
        limit = 180 if day.day == 1 else 28 if day.weekday() == 6 else 7
        if age <= limit:
            kept.add(day)
        day += timedelta(days=1)
    return kept


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_400_days(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A backup every day, cleaned up every Sunday; through two DST changes, a leap day and a turn of the year."""
    bucket = request.getfixturevalue("bucket") if kind == "s3" else None
    here = scene(tmp_path, bucket, aliases=() if bucket else ("near",))
    store = store_of(here)
    first = date(2023, 10, 1)
    for number in range(400):
        day = first + timedelta(days=number)
        add_backup(store, id_of(day), verified=False)
        if day.weekday() == 6 or number == 399:
            now = datetime(day.year, day.month, day.day, 3, tzinfo=UTC)
            for copy in survey(here.adapters, "goimg", now).copies:
                if not copy.verdict.keep:
                    Catalog(store).forget(copy.entry.backup_id)
            assert backups_in(store) == {id_of(kept) for kept in golden(first, day)}
    assert 10 < len(backups_in(store)) < 20


def fill(store: ObjectStore, ages: Iterator[int] | range) -> None:
    for age in ages:
        add_backup(store, id_of(days_ago(age)))


def expected(ages: range) -> set[str]:
    today = days_ago(0)
    return {id_of(day) for day in golden(days_ago(ages.stop - 1), today) if (today - day).days in ages}


def test_killed_at_every_step_it_ends_in_the_same_set(one: Scene) -> None:
    store, (alias,) = store_of(one), one.adapters.settings.destinations
    ages = range(1, 14)
    fill(store, ages)
    deaths = 0
    for lives in (0, 1, 2, 3, 4, 5, 8, 11, 99):
        one.put_in_place(alias, Mortal(store, lives))
        try:
            one.run(force=True)
        except Killed:
            deaths += 1
            (run, *_) = one.adapters.ledger.runs(limit=1)
            # What the next process would find out by the dead owner's name.
            one.adapters.ledger.cancel(run.id, "the test: its process is dead")
    assert deaths >= 5
    assert backups_in(store) == expected(ages)
    assert {info.key.partition(".")[0] for info in store.list("goimg-")} == expected(ages)


def test_a_killed_run_goes_on_itself(one: Scene) -> None:
    store, (alias,) = store_of(one), one.adapters.settings.destinations
    ages = range(1, 14)
    fill(store, ages)
    one.put_in_place(alias, Mortal(store, 2))
    with pytest.raises(Killed):
        one.run(force=True)
    one.put_in_place(alias, store)
    (run,) = one.adapters.ledger.runs()
    ended = worker_here.work(one.adapters, run.id)
    assert ended.state == "succeeded", ended.error
    assert backups_in(store) == expected(ages)


def test_dry_run_says_the_same_and_removes_nothing(one: Scene) -> None:
    store = store_of(one)
    fill(store, range(1, 14))
    before = [info.key for info in store.list()]
    dry = one.run(dry_run=True, force=True)
    assert dry.state == "succeeded"
    assert [info.key for info in store.list()] == before
    real = one.run(force=True)
    assert one.plan(dry) == one.plan(real)
    (sums,) = real.result["destinations"].values()
    (planned,) = dry.result["destinations"].values()
    assert sums["removed"] == planned["remove"] > 0
    assert sums["bytes"] == planned["bytes"] > 0


def test_a_large_plan_stops(one: Scene) -> None:
    store = store_of(one)
    days = [age for age in range(200, 230) if days_ago(age).day != 1][:5]
    for age in days:
        add_backup(store, id_of(days_ago(age)))
    run = one.run()
    assert (run.state, run.error["type"], run.error["exit_code"]) == ("failed", "PlanTooLarge", 1)
    assert "4 of its 5 copies" in run.error["message"]
    assert len(backups_in(store)) == 5
    assert one.run(force=True).state == "succeeded"
    assert backups_in(store) == {id_of(days_ago(days[0]))}, "the newest always stays"


def test_a_plan_that_is_large_in_one_destination_stops(tmp_path: Path) -> None:
    """However many backups the other one keeps."""
    two = scene(tmp_path, aliases=("near", "archive"))
    for age in range(1, 8):
        add_backup(two.store("archive"), id_of(days_ago(age)))
    for age in [age for age in range(200, 230) if days_ago(age).day != 1][:4]:
        put(two.store("near"), f"{id_of(days_ago(age))}.dump.gpg", b"by the scripts")
    add_backup(two.store("near"), id_of(days_ago(1)))
    run = two.run()
    assert (run.state, run.error["type"]) == ("failed", "PlanTooLarge")
    assert "goimg in near would remove 4 of its 5 copies" in run.error["message"]
    assert len(list(two.store("near").list(f"{id_of(days_ago(1))[:5]}"))) == 7


def test_what_is_never_removed(one: Scene) -> None:
    store, (alias,) = store_of(one), one.adapters.settings.destinations
    old = [
        id_of(day)
        for day in (days_ago(age) for age in range(200, 240))
        if day.day != 1 and day.weekday() != 6
    ]
    for backup in old[:6]:
        add_backup(store, backup)
    newest, proven, refuted, held, gone, until = old[:6]
    prove(store, proven)
    prove(store, refuted, "refuted")
    hold(one.adapters, held, reason="court case", until=None, by="me")
    hold(one.adapters, until, reason="an hour", until=datetime.now(UTC) + timedelta(seconds=4), by="me")
    plan = one.plan(one.run(dry_run=True))
    assert {backup: plan[alias, backup] for backup in old[:6]} == {
        newest: (True, "newest"),
        proven: (True, "newest_proven"),
        refuted: (False, "expired"),
        held: (True, "held"),
        gone: (False, "expired"),
        until: (True, "held"),
    }
    time.sleep(4.1)
    one.run(force=True)
    assert backups_in(store) == {newest, proven, held}
    release(one.adapters, held, by="me")
    one.run(force=True)
    assert backups_in(store) == {newest, proven}


def test_held_between_plan_and_removal(one: Scene) -> None:
    """The last look is right before the deletion."""
    store = store_of(one)
    fill(store, range(1, 14))
    run, _ = one.adapters.ledger.create_run(*new_cleanup(force=True))
    (plan,) = one.adapters.ledger.steps(run.id, name="cleanup.plan")
    runner.perform(one.adapters, run.id, plan.id)
    doomed = [step.data["backup_id"] for step in one.adapters.ledger.steps(run.id, name="cleanup.remove")]
    hold(one.adapters, doomed[0], reason="just now", until=None, by="me")
    Catalog(store).forget(id_of(days_ago(1)))  # and the newest vanishes, which the plan relied on
    for step in list(one.adapters.ledger.steps(run.id, name="cleanup.remove")):
        runner.perform(one.adapters, run.id, step.id)
    states = [step.result for step in one.adapters.ledger.steps(run.id, name="cleanup.remove")]
    assert {result["state"] for result in states} == {"kept"}
    assert "just now" in states[0]["reason"]
    assert "plan again" in states[1]["reason"]


def test_a_clock_that_disagrees_with_the_ledgers_stops_everything(tmp_path: Path) -> None:
    one = scene(tmp_path)
    run, _ = one.adapters.ledger.create_run(*new_cleanup())
    (step,) = one.adapters.ledger.steps(run.id, name="cleanup.plan")
    claim = one.adapters.ledger.claim(run.id, step.id, owner="me")
    assert claim is not None
    context, now = Context(one.adapters, claim), datetime.now(UTC)
    assert clock.trouble(context, now) == ""
    assert "this host's is 2 h" in clock.trouble(context, now + timedelta(hours=2))
    assert "behind the ledger's" in clock.trouble(context, now - timedelta(hours=2))


def test_a_clock_that_was_set_while_the_worker_ran_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the ledger is on the same host it has the same clock."""
    one = scene(tmp_path)
    fill(one.store("near"), range(20, 24))
    monkeypatch.setattr(clock, "_AT_START", clock._AT_START - 10 * 86_400)
    run = one.run(force=True)
    assert (run.state, run.error["type"], run.error["exit_code"]) == ("failed", "ClockLooksWrong", 1)
    assert "it was set forward by 10 d" in run.error["message"]
    assert len(backups_in(one.store("near"))) == 4
    monkeypatch.undo()
    assert one.run(force=True).state == "succeeded"
    assert len(backups_in(one.store("near"))) < 4


def test_nothing_goes_while_the_clock_looks_wrong(one: Scene) -> None:
    store = store_of(one)
    fill(store, range(1, 14))
    add_backup(store, id_of(days_ago(-3)))
    half = id_of(days_ago(50), 5)
    put(store, f"{half}.globals.sql.gpg", b"half")
    all_is_old(one)
    run = one.run(force=True)
    assert (run.state, run.error["type"]) == ("failed", "ClockLooksWrong"), "somebody is told"
    assert run.error["message"].endswith(f"the clock looks wrong: {id_of(days_ago(-3))} is from the future.")
    assert {rule for _, rule in one.plan(run).values()} == {"clock"}
    assert len(backups_in(store)) == 15
    assert f"{half}.globals.sql.gpg" in {info.key for info in store.list()}, "nor is anything swept"


def test_dumps_of_the_seeds_scripts_fall_under_the_policy(one: Scene) -> None:
    store = store_of(one)
    old, new = id_of(days_ago(300)), id_of(days_ago(1))
    for backup in (old, new):
        put(store, f"{backup}.dump.gpg", b"by the seed")
    one.run(force=True)
    assert backups_in(store) == {new}


def test_not_one_strangers_object_is_touched(one: Scene) -> None:
    store = store_of(one)
    fill(store, range(1, 10))
    old = id_of(days_ago(300))
    strange = [
        f"{old}.dump.gpg.bak", f"{old}.txt", f"{old}", f"{old}.manifest.json.old", f"{old}.data-1.dump.gpg",
        f"x{old}.dump.gpg", f"other-{old}.dump.gpg", f"goimg2-backup-{old[-15:]}.dump.gpg",
        "goimg-backup-20230231-020000.dump.gpg", "goimg-backup-20230101.dump.gpg", "goimg-backup-.dump.gpg",
        "GOIMG-backup-20230101-020000.dump.gpg", "goimg_backup-20230101-020000.dump.gpg",
        f"{old}.verify-2023.json", "README", f"{old}.dump.gpg.partial", f"{id_of(days_ago(1))}.dump",
    ]  # fmt: skip
    for name in strange:
        put(store, name, b"mine")
    outside = _outside(one, old)
    all_is_old(one)
    run = one.run(force=True)
    assert run.state == "succeeded", run.error
    left = {info.key for info in store.list()}
    assert set(strange) <= left
    assert outside()


def _outside(one: Scene, old: str) -> object:
    """The same names beside our prefix, or below it."""
    (destination,) = one.adapters.settings.destinations.values()
    if destination.kind == "directory":
        assert destination.path is not None
        below = destination.path / "below"
        below.mkdir()
        file = below / f"{old}.dump.gpg"
        file.write_text("mine")
        return file.exists
    client = store_of(one).bucket.client  # type: ignore[attr-defined]
    names = [
        f"{old}.dump.gpg",
        f"fleet/{old}.dump.gpg",
        f"fleet/one/more/{old}.dump.gpg",
        f"fleet/one2/{old}.dump.gpg",
    ]
    for name in names:
        client.put_object(Bucket=destination.bucket, Key=name, Body=b"mine")
    return lambda: all(client.head_object(Bucket=destination.bucket, Key=name) for name in names)


def test_sweep(one: Scene) -> None:
    """What dead runs left goes when it is old enough; what an open run is writing stays."""
    store = store_of(one)
    fill(store, range(1, 4))
    dead, alive, sealed = id_of(days_ago(2), 5), id_of(days_ago(0), 1), id_of(days_ago(1))
    sha256 = hashlib.sha256(b"part").hexdigest()
    for backup in (dead, alive):
        put(store, f"{backup}.globals.sql.gpg", b"half")
        upload = store.begin(f"{backup}.dump.gpg")
        store.put_part(f"{backup}.dump.gpg", upload, 1, io.BytesIO(b"part"), size=4, sha256=sha256)
    put(store, f"{sealed}.data-07.dump.gpg", b"not in the manifest")
    put(store, f"{sealed}.dump", b"somebody looked into it")
    _open_run(one, alive)
    assert one.run().result["destinations"][store.name]["orphans"] == 0, "too young"
    all_is_old(one)
    run = one.run()
    assert run.state == "succeeded", run.error
    sums = run.result["destinations"][store.name]
    assert (sums["aborted_uploads"], sums["orphans"]) == (1, 2)
    left = {info.key for info in store.list()}
    assert f"{dead}.globals.sql.gpg" not in left
    assert f"{sealed}.data-07.dump.gpg" not in left
    assert {f"{alive}.globals.sql.gpg", f"{sealed}.dump", f"{sealed}.dump.gpg"} <= left
    assert [upload.key for upload in store.open_uploads()] == [f"{alive}.dump.gpg"]


def test_what_another_fleet_is_uploading_is_left_alone(tmp_path: Path, bucket: Bucket) -> None:
    """Two ledgers, one place: B knows nothing of A's backup. Its own dead one goes after hours, A's after days."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    a, b = (scene(tmp_path / name, bucket, aliases=()) for name in ("a", "b"))
    store = b.store("far")
    theirs, dead, collided = id_of(days_ago(0), 1), id_of(days_ago(2), 5), id_of(days_ago(2), 6)
    uploads = {}
    for fleet, backup in ((a, theirs), (b, dead), (b, collided), (a, collided)):
        uploads[fleet is a, backup] = _begin(fleet, backup)
        put(store, f"{backup}.globals.sql.gpg", b"half")
    b.adapters.settings.__dict__[
        "orphan_grace_hours"
    ] = -1.0  # B's own is old; what is A's is younger than a week
    run = b.run()
    assert run.state == "succeeded", run.error
    assert {one.upload_id for one in store.open_uploads()} == {uploads[True, theirs], uploads[True, collided]}
    left = {info.key for info in store.list()}
    assert {f"{theirs}.globals.sql.gpg", f"{collided}.globals.sql.gpg"} <= left
    assert f"{dead}.globals.sql.gpg" not in left
    all_is_old(b)
    assert b.run().state == "succeeded"
    assert not list(store.open_uploads())
    assert not list(store.list("goimg-"))


def _begin(fleet: Scene, backup: str) -> str:
    """A run of this fleet that opened its upload, and then died or is still at it; the upload's id."""
    ledger, key = fleet.adapters.ledger, f"{backup}.dump.gpg"
    new = NewRun("backup", "goimg", {"databases": ["goimg"]})
    data = {"artifact": {"name": key, "size": 9, "sha256": ""}, "destination": "far"}
    run, _ = ledger.create_run(new, [NewStep("backup.upload", key, queue="control", data=data)])
    (step,) = ledger.steps(run.id)
    claim = ledger.claim(run.id, step.id, owner="somebody")
    assert claim is not None
    ledger.set_run(claim, backup_id=backup)
    context = Context(fleet.adapters, replace(claim, run=ledger.run(run.id)))
    upload = open_upload(context, fleet.store("far"), fleet.adapters.destination("far"), key)
    ledger.cancel(run.id, "the test")
    return upload


def _open_run(one: Scene, backup: str) -> None:
    new = NewRun("backup", "goimg", {"databases": ["goimg"]})
    run, _ = one.adapters.ledger.create_run(new, flows.first(new))
    (dump,) = one.adapters.ledger.steps(run.id, name="backup.dump")
    claim = one.adapters.ledger.claim(run.id, dump.id, owner="somebody")
    assert claim is not None
    one.adapters.ledger.set_run(claim, backup_id=backup)


def test_a_lost_manifest_is_not_swept(one: Scene) -> None:
    """Its evidence says that it was a backup once: its age decides, not the sweep."""
    store = store_of(one)
    fill(store, range(1, 4))
    young, old = id_of(days_ago(2)), id_of(days_ago(300))
    add_backup(store, old)
    for backup in (young, old):
        store.delete(f"{backup}.manifest.json")
    all_is_old(one)
    run = one.run()
    assert run.state == "succeeded", run.error
    left = {info.key for info in store.list()}
    assert f"{young}.dump.gpg" in left
    assert not any(key.startswith(old) for key in left)


def test_two_destinations(tmp_path: Path, bucket: Bucket) -> None:
    """Each by itself; the only good copy stays; one that is down delays only what depends on it."""
    here = scene(tmp_path, bucket)
    near, far = here.store("near"), here.store("far")
    for age in range(1, 14):
        add_backup(near, id_of(days_ago(age)))
        add_backup(far, id_of(days_ago(age)))
    doomed = sorted(
        id_of(days_ago(age))
        for age in (9, 10, 11, 12)
        if days_ago(age).day != 1 and days_ago(age).weekday() != 6
    )
    victim, other = doomed[0], doomed[1]
    put(far, f"{victim}.dump.gpg", b"damaged")
    far.delete(f"{other}.dump.gpg")
    plan = here.plan(here.run(dry_run=True))
    assert plan["near", victim] == (True, "only_good_copy")
    assert plan["far", victim] == (False, "expired")
    assert plan["near", other] == (True, "only_good_copy")
    run = here.run(destination="far", force=True)
    assert run.state == "succeeded", run.error
    assert {destination for destination, _ in here.plan(run)} == {"far"}
    assert victim not in backups_in(far)
    assert victim in backups_in(near)

    class Down:
        name = "far"

        def list(self, prefix: str = "") -> Iterator[object]:
            raise StorageUnavailable("far does not answer.", "")

        def put(self, key: str, body: bytes, **_: object) -> None:
            raise StorageUnavailable("far does not answer.", "")

    here.put_in_place("far", Down())
    run = here.run(force=True)
    assert (run.state, run.error["exit_code"]) == ("failed", 1)
    assert "far does not answer" in run.error["message"]
    assert here.plan(run)["near", victim][1] == "only_good_copy"
    dry = here.run(dry_run=True)
    assert (dry.state, dry.error["message"]) == ("failed", "far does not answer."), "half a plan says so"
    here.put_in_place("far", far)
    assert here.run(force=True).state == "succeeded"
    assert backups_in(near) == backups_in(far) == expected(range(1, 14))


def test_a_spool_leftover_and_old_rows_go(tmp_path: Path) -> None:
    here = scene(tmp_path)
    left = here.adapters.spool.run_dir("gone00000000")
    (left / "archive").write_bytes(b"x")
    long_ago = time.time() - 3 * 86_400
    for path in (left / "archive", left):
        os.utime(path, (long_ago, long_ago))
    assert here.run().state == "succeeded"
    assert not left.exists()
