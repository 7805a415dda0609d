"""Object lock, and keys that may do no more than docs/policies says, on a real S3 server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.integration.prune_scene import (
    WHOLE,
    Scene,
    add_backup,
    backups_in,
    content_of,
    days_ago,
    id_of,
    new_cleanup,
    put,
    scene,
)
from tests.services import Bucket
from worker import flows, here, runner
from worker.catalog import Catalog
from worker.core import audit
from worker.errors import AccessDenied
from worker.ledger.model import NewRun
from worker.local.s3 import S3, S3User
from worker.steps.context import Adapters
from worker.steps.hold import hold, release
from worker.storage.guarded import UNTIL_RELEASED
from worker.submit import repair, scrub

POLICIES = Path(__file__).parents[2] / "docs" / "policies"
ROLES = ("uploader", "cleaner", "restorer")
OLD = [id_of(day) for day in (days_ago(age) for age in range(200, 212)) if day.day != 1][:4]
NEW = id_of(days_ago(1))


@pytest.fixture
def locked(bucket: Bucket) -> Iterator[Bucket]:
    """A bucket with object lock."""
    name = f"{bucket.name}-locked"
    bucket.server.create_bucket(name, object_lock=True)
    yield Bucket(bucket.server, name)
    with suppress(ClientError):
        bucket.client().delete_bucket(Bucket=name)


def versions(bucket: Bucket, key: str = "") -> list[tuple[str, str]]:
    answer = bucket.client().list_object_versions(Bucket=bucket.name, Prefix=f"fleet/one/{key}")
    return [(found["Key"], found["VersionId"]) for found in answer.get("Versions", [])]


def far(directory: Path, bucket: Bucket, **more: Any) -> Scene:
    (directory / "a").mkdir(exist_ok=True)
    return scene(directory / "a", bucket, aliases=(), far=more)


def test_cleanup_says_what_is_locked_and_goes_on(locked: Bucket, tmp_path: Path) -> None:
    plain = far(tmp_path, locked)
    add_backup(plain.store("far"), OLD[1])
    one = far(tmp_path, locked, object_lock="compliance", object_lock_days=2)
    for backup in (OLD[0], NEW):
        add_backup(one.store("far"), backup)
    run = one.run(force=True)
    assert run.state == "succeeded", run.error
    plan = {
        row["backup_id"]: row
        for step in one.adapters.ledger.steps(run.id, name="cleanup.plan")
        for row in step.result["plan"]
    }
    assert (plan[OLD[0]]["keep"], plan[OLD[0]]["rule"]) == (True, "locked")
    assert "locked until" in plan[OLD[0]]["reason"]
    assert backups_in(one.store("far")) == {OLD[0], NEW}
    assert not versions(locked, OLD[1]), "what is not locked goes, with all of its versions"


def test_an_upload_locked_after_the_plan(locked: Bucket, tmp_path: Path) -> None:
    """The store's own word counts: locked between plan and removal is kept, and no error."""
    one = far(tmp_path, locked)
    for backup in (OLD[0], NEW):
        add_backup(one.store("far"), backup)
    run, _ = one.adapters.ledger.create_run(*new_cleanup(force=True))
    (plan,) = one.adapters.ledger.steps(run.id, name="cleanup.plan")
    runner.perform(one.adapters, run.id, plan.id)
    one.adapters.store("far").extend_lock(f"{OLD[0]}.manifest.json", datetime.now(UTC) + timedelta(days=1))
    ended = here.work(one.adapters, run.id)
    assert ended.state == "succeeded", ended.error
    assert [found["state"] for found in ended.result["not_removed"]] == ["locked"]
    assert OLD[0] in backups_in(one.store("far"))


def test_a_hold_is_the_buckets_too(locked: Bucket, tmp_path: Path) -> None:
    one = far(tmp_path, locked)
    for backup in (OLD[0], NEW):
        add_backup(one.store("far"), backup)
    done, failures = hold(one.adapters, OLD[0], reason="evidence", until=None, by="me")
    assert not failures
    assert [held.locked for held in done] == [True]
    (key, version), *_ = versions(locked, f"{OLD[0]}.dump.gpg")
    with pytest.raises(ClientError):
        locked.client().delete_object(Bucket=locked.name, Key=key, VersionId=version)
    one.run(force=True)
    assert OLD[0] in backups_in(one.store("far"))
    release(one.adapters, OLD[0], by="me")
    one.run(force=True)
    assert backups_in(one.store("far")) == {NEW}


def test_a_repaired_copy_of_a_held_backup_is_held_by_the_bucket_again(locked: Bucket, tmp_path: Path) -> None:
    two = scene(tmp_path, locked)
    for alias in ("near", "far"):
        add_backup(two.store(alias), NEW)
    hold(two.adapters, NEW, reason="evidence", until=None, by="me")
    key = f"{NEW}.dump.gpg"
    put(two.store("far"), key, b"another version")
    assert two.adapters.store("far").lock_until(key) is None
    (run,) = repair(two.adapters, NEW, requested_by="test", here="test")
    assert here.work(two.adapters, run.id).state == "verified"
    assert two.adapters.store("far").lock_until(key) == UNTIL_RELEASED
    release(two.adapters, NEW, by="me")


def test_locks_grow_with_the_settings(locked: Bucket, tmp_path: Path) -> None:
    add_backup(far(tmp_path, locked, object_lock="governance", object_lock_days=1).store("far"), NEW)
    one = far(tmp_path, locked, object_lock="governance", object_lock_days=9)
    key = f"{NEW}.dump.gpg"
    before = one.adapters.store("far").lock_until(key)
    assert before is not None
    assert before < datetime.now(UTC) + timedelta(days=2)
    assert one.run().state == "succeeded"
    after = one.adapters.store("far").lock_until(key)
    assert after is not None
    assert after > datetime.now(UTC) + timedelta(days=8)
    shorter = far(tmp_path, locked, object_lock="governance", object_lock_days=3)
    assert shorter.run().state == "succeeded"
    assert shorter.adapters.store("far").lock_until(key) == after, "never shorter"


# --- the policies of docs/policies ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def users() -> dict[str, S3User]:
    """With no rights but those of the bucket's policy."""
    made = {role: S3User.new(f"pgfleet-{role}") for role in ROLES}
    return {role: S3User(user.name, user.access_key, user.secret_key, ()) for role, user in made.items()}


@pytest.fixture(scope="module")
def server(place: Path, users: dict[str, S3User]) -> Iterator[S3]:
    server = S3(place / "policies-s3", users=tuple(users.values()))
    server.start()
    yield server
    server.stop()


def policy(name: str, bucket: str) -> dict[str, Any]:
    text = (POLICIES / f"{name}.json").read_text()
    for word, value in (("BUCKET", bucket), ("PREFIX", "fleet/one"), ("ACCOUNT", "000000000000")):
        text = text.replace(word, value)
    return dict(json.loads(text))


@pytest.fixture(params=["plain", "locked"])
def guarded(request: pytest.FixtureRequest, server: S3) -> Bucket:
    name = f"guarded-{request.param}-{request.function.__name__.replace('_', '-')}"[:60].rstrip("-")
    server.create_bucket(name, object_lock=request.param == "locked")
    server.client().put_bucket_policy(Bucket=name, Policy=json.dumps(policy("bucket", name)))
    return Bucket(server, name)


def as_role(directory: Path, bucket: Bucket, user: S3User, **more: Any) -> Scene:
    directory = directory / user.name
    directory.mkdir(exist_ok=True)
    return scene(
        directory, bucket, far={"access_key": user.access_key, "secret_key": user.secret_key, **more}
    )


def test_the_bucket_policy_is_the_roles_together() -> None:
    together = policy("bucket", "b")["Statement"]
    for role in ROLES:
        mine = [one for one in together if one["Principal"]["AWS"].endswith(f"user/pgfleet-{role}")]
        assert [{**one, "Principal": None} for one in mine] == [
            {**one, "Principal": None} for one in policy(role, "b")["Statement"]
        ]


def test_the_fleet_under_exactly_these_policies(
    guarded: Bucket, users: dict[str, S3User], tmp_path: Path
) -> None:
    """Upload, verify and scrub with the uploader's key, clean up with the cleaner's, read with the restorer's."""
    lock = {"object_lock": "governance", "object_lock_days": 1} if "locked" in guarded.name else {}
    uploader = as_role(tmp_path, guarded, users["uploader"], **lock)
    for backup in (NEW, OLD[0]):
        add_backup(uploader.store("near"), backup, stems=WHOLE)
    run = uploader.run("copy", backup=NEW, to="far")
    assert run.state == "verified", run.error
    (scrubbed,) = scrub(uploader.adapters, database=None, destination="far", requested_by="t", here="t")
    assert here.work(uploader.adapters, scrubbed.id).state == "succeeded"

    unlocked = as_role(tmp_path, guarded, users["uploader"])
    add_backup(unlocked.store("far"), OLD[0])
    add_backup(unlocked.store("far"), OLD[1])
    refused = unlocked.run(destination="far", force=True)
    assert (refused.state, refused.error["exit_code"]) == ("failed", 1)
    assert backups_in(unlocked.store("far")) == {NEW, OLD[0], OLD[1]}, "the uploader removes nothing"

    cleaner = as_role(tmp_path, guarded, users["cleaner"])
    run = cleaner.run(destination="far", force=True)
    assert run.state == "succeeded", run.error
    assert backups_in(unlocked.store("far")) == {NEW}
    with pytest.raises(AccessDenied):
        cleaner.store("far").read(f"{NEW}.dump.gpg")
    records = {info.key for info in unlocked.store("far").list(audit.PREFIX)}
    removed = {name.action for name in map(audit.parse, records) if name is not None}
    assert removed >= {"remove", "cleanup"}, "what the cleaner did is on record, written with its own key"
    for record in records:
        with pytest.raises(AccessDenied):
            cleaner.store("far").delete(record)
    with pytest.raises(AccessDenied):
        put(cleaner.store("far"), f"{NEW}.globals.sql.gpg", b"x")

    restorer = as_role(tmp_path, guarded, users["restorer"]).store("far")
    assert [entry.state for entry in Catalog(restorer).entries()] == ["verified"]
    with restorer.read(f"{NEW}.dump.gpg") as stream:
        assert stream.read() == content_of(NEW)
    for change in (
        lambda: put(restorer, f"{NEW}.globals.sql.gpg", b"x"),
        lambda: restorer.begin(f"{NEW}.globals.sql.gpg"),
        lambda: restorer.delete(f"{NEW}.dump.gpg"),
    ):
        with pytest.raises(AccessDenied):
            change()


@pytest.mark.parametrize("guarded", ["plain"], indirect=True)
def test_the_evidence_of_a_restorers_drill(guarded: Bucket, users: dict[str, S3User], tmp_path: Path) -> None:
    """The key that drills may only read: who may put puts the record, with the drill's own words."""
    uploader = as_role(tmp_path, guarded, users["uploader"])
    add_backup(uploader.store("far"), NEW)
    restorer = as_role(tmp_path, guarded, users["restorer"])
    ledger = restorer.adapters.ledger
    new = NewRun("drill", "goimg", {"backup": NEW})
    run, _ = ledger.create_run(new, flows.first(new))
    (choose,) = ledger.steps(run.id, name="restore.choose")
    claim = ledger.claim(run.id, choose.id, owner="me")
    assert claim is not None
    ledger.set_run(claim, backup_id=NEW)
    ledger.commit(claim, {"destination": "far", "backup_id": NEW})
    (conclude,) = ledger.steps(run.id, name="drill.conclude")
    runner.perform(restorer.adapters, run.id, conclude.id)
    assert ledger.run(run.id).state == "could_not_run"
    (record,) = ledger.steps(run.id, name="drill.record")
    assert record.queue == "verify"
    runner.perform(Adapters(uploader.adapters.settings, ledger), run.id, record.id)
    (evidence,) = Catalog(restorer.store("far")).evidence(NEW, "drill")
    assert (evidence["run_id"], evidence["verdict"]) == (run.id, "could_not_run")


def test_a_stolen_uploader_key(guarded: Bucket, users: dict[str, S3User], tmp_path: Path) -> None:
    """It can neither delete nor unlock; what it overwrites in a versioned bucket is still there."""
    is_locked = "locked" in guarded.name
    lock = {"object_lock": "governance", "object_lock_days": 1} if is_locked else {}
    add_backup(as_role(tmp_path, guarded, users["uploader"], **lock).store("far"), NEW)
    thief = guarded.client(users["uploader"])
    key = f"fleet/one/{NEW}.dump.gpg"
    where: dict[str, Any] = {"Bucket": guarded.name, "Key": key}
    attempts = [lambda: thief.delete_object(**where), lambda: thief.delete_bucket(Bucket=guarded.name)]
    if is_locked:
        ((_, version),) = versions(guarded, f"{NEW}.dump.gpg")
        past = {"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(seconds=30)}
        attempts += [
            lambda: thief.delete_object(**where, VersionId=version),
            lambda: thief.delete_object(**where, VersionId=version, BypassGovernanceRetention=True),
            lambda: thief.put_object_retention(**where, Retention=past),  # type: ignore[arg-type]
            lambda: thief.put_object_retention(
                **where, Retention=past, BypassGovernanceRetention=True  # type: ignore[arg-type]
            ),
            lambda: thief.put_object_legal_hold(**where, LegalHold={"Status": "OFF"}),
        ]  # fmt: skip
    for attempt in attempts:
        with pytest.raises(ClientError):
            attempt()
    assert guarded.client().get_object(**where)["Body"].read() == content_of(NEW)
    if is_locked:
        thief.put_object(**where, Body=b"ransom")
        kept = guarded.client().get_object(**where, VersionId=version)["Body"].read()
        assert kept == content_of(NEW)
