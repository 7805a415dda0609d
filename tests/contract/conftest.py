"""The same store contract, over a directory and over a real S3 server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.services import Bucket
from worker.config.model import Destination
from worker.storage.connect import open_store
from worker.storage.guarded import GuardedStore
from worker.storage.s3 import S3Store


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(store: GuardedStore, key: str, content: bytes, **options: object) -> None:
    store.put(key, content, size=len(content), sha256=sha256(content), **options)  # type: ignore[arg-type]


def content_of(store: GuardedStore, key: str) -> bytes:
    with store.read(key) as stream:
        return stream.read()


def s3_destination(there: Bucket, /, **settings: object) -> Destination:
    """One attempt a request: a test that breaks something does not wait for retries."""
    return Destination.model_validate(
        {
            "alias": "bucket",
            "kind": "s3",
            "profile": "seaweedfs",
            "endpoint": there.server.endpoint,
            "bucket": there.name,
            "prefix": "fleet/one",
            "access_key": there.server.access_key,
            "secret_key": there.server.secret_key,
            "max_attempts": 1,
            **settings,
        }
    )


@pytest.fixture
def s3_store(bucket: Bucket) -> Callable[..., S3Store]:
    """A factory: settings of the destination → its store."""
    return lambda **settings: S3Store(s3_destination(bucket, **settings))


@pytest.fixture
def locked_bucket(bucket: Bucket) -> Iterator[Bucket]:
    """With object lock, and so with versioning."""
    name = f"{bucket.name}-locked"
    bucket.server.create_bucket(name, object_lock=True)
    yield Bucket(bucket.server, name)
    with suppress(ClientError):
        bucket.client().delete_bucket(Bucket=name)


@pytest.fixture(params=["directory", "s3", "s3-md5"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> GuardedStore:
    """Every implementation in turn; s3-md5 is the profile for servers that are not known."""
    if request.param == "directory":
        return open_store(
            Destination(alias="disk", kind="directory", path=tmp_path / "backups", prefix="fleet/one")
        )
    bucket = request.getfixturevalue("bucket")
    return open_store(s3_destination(bucket, profile="seaweedfs" if request.param == "s3" else "generic"))
