"""Keys that may not do everything. A server of its own, for the users."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.conftest import content_of, put, s3_destination
from tests.services import Bucket
from worker.errors import AccessDenied, ObjectLocked
from worker.local.s3 import S3, S3User
from worker.storage.s3 import S3Store

USERS = {name: S3User.new(name) for name in ("uploader", "cleaner", "hider", "restorer")}
_READ = ["s3:GetObject", "s3:GetObjectVersion"]
#: Who may not do what, by bucket policy.
DENIED = {
    "uploader": ["s3:DeleteObject", "s3:DeleteObjectVersion"],
    "cleaner": [*_READ, "s3:PutObject"],
    "hider": ["s3:DeleteObjectVersion"],
    "restorer": ["s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"],
}
MAY_ASK = ("cleaner", "hider")


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[S3]:
    server = S3(place / "roles-s3", users=tuple(USERS.values()))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["plain", "locked"])
def roles_bucket(request: pytest.FixtureRequest, server: S3) -> Bucket:
    name = f"roles-{request.param}-{request.function.__name__.replace('_', '-')}"[:60].rstrip("-")
    server.create_bucket(name, object_lock=request.param == "locked")
    set_policy(
        server,
        name,
        *(
            statement(name, "Allow", user, ["s3:GetObjectRetention", "s3:GetObjectLegalHold"])
            for user in MAY_ASK
        ),
        *(statement(name, "Deny", user, actions) for user, actions in DENIED.items()),
    )
    return Bucket(server, name)


def statement(bucket: str, effect: str, user: str, actions: list[str]) -> dict[str, object]:
    return {
        "Effect": effect,
        "Principal": {"AWS": f"arn:aws:iam::000000000000:user/{user}"},
        "Action": actions,
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }


def set_policy(server: S3, bucket: str, *statements: dict[str, object]) -> None:
    policy = {"Version": "2012-10-17", "Statement": statements}
    server.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def store_of(bucket: Bucket, role: str, **settings: object) -> S3Store:
    user = USERS[role]
    return S3Store(s3_destination(bucket, access_key=user.access_key, secret_key=user.secret_key, **settings))


def stored(bucket: Bucket) -> list[str]:
    answer = bucket.client().list_object_versions(Bucket=bucket.name)
    return [found["Key"] for found in answer.get("Versions", [])]


def test_the_uploader_cannot_delete(roles_bucket: Bucket) -> None:
    store = store_of(roles_bucket, "uploader")
    put(store, "a", b"x")
    with pytest.raises(AccessDenied):
        store.delete("a")
    assert content_of(store, "a") == b"x"
    probe = store.probe()
    assert (probe["multipart"], probe["delete"]) == ("yes", "no")


def test_the_restorer_can_only_read(roles_bucket: Bucket) -> None:
    put(store_of(roles_bucket, "uploader"), "a", b"x")
    store = store_of(roles_bucket, "restorer")
    assert content_of(store, "a") == b"x"
    for work in (
        lambda: put(store, "b", b"x"),
        lambda: store.begin("b"),
        lambda: store.delete("a"),
        store.probe,
    ):
        with pytest.raises(AccessDenied):
            work()


def test_the_cleaner_deletes_what_it_cannot_read(roles_bucket: Bucket) -> None:
    put(store_of(roles_bucket, "uploader"), "a", b"x")
    store = store_of(roles_bucket, "cleaner")
    with pytest.raises(AccessDenied):
        store.read("a")
    store.delete("a")
    assert stored(roles_bucket) == []


def test_a_key_that_may_not_delete_versions_hides(roles_bucket: Bucket) -> None:
    put(store_of(roles_bucket, "uploader"), "a", b"x")
    store = store_of(roles_bucket, "hider")
    store.delete("a")
    assert list(store.list()) == []
    assert stored(roles_bucket) == (["fleet/one/a"] if "locked" in roles_bucket.name else [])


def test_nobody_deletes_what_is_locked(server: S3) -> None:
    """To lock what it puts, a key needs one right more; it does not let it shorten a lock."""
    name = "roles-lock"
    server.create_bucket(name, object_lock=True)
    asking = ["s3:GetObjectRetention", "s3:GetObjectLegalHold"]
    set_policy(
        server,
        name,
        statement(name, "Allow", "uploader", ["s3:PutObjectRetention"]),
        statement(name, "Allow", "cleaner", asking),
    )
    bucket = Bucket(server, name)
    put(store_of(bucket, "uploader", object_lock="compliance", object_lock_days=1), "a", b"x")
    with pytest.raises(ObjectLocked, match="it is locked until"):
        store_of(bucket, "cleaner").delete("a")
    with pytest.raises(AccessDenied, match="may not delete a, nor ask if it is locked"):
        store_of(bucket, "uploader").delete("a")
    assert content_of(store_of(bucket, "uploader"), "a") == b"x"
