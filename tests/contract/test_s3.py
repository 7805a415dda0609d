"""What only a bucket has: prefixes, strangers, versions, locks, cold storage."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from botocore.response import StreamingBody
from botocore.stub import Stubber

from tests.contract.conftest import content_of, put, s3_destination, sha256
from tests.services import Bucket
from worker.errors import AccessDenied, ObjectArchived, ObjectLocked, ObjectMissing, StorageError
from worker.storage.guarded import UNTIL_RELEASED
from worker.storage.s3 import S3Store

StoreOf = Callable[..., S3Store]


def versions(bucket: Bucket) -> list[str]:
    answer = bucket.client().list_object_versions(Bucket=bucket.name)
    return [found["Key"] for found in [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]]


def test_the_prefix_is_a_folder(s3_store: StoreOf, bucket: Bucket) -> None:
    for prefix in ("fleet/one", "/fleet/one/", "fleet/one/"):
        put(s3_store(prefix=prefix), "a.dump", b"x", if_absent=prefix == "fleet/one")
    put(s3_store(prefix=""), "a.dump", b"top")
    assert bucket.keys() == ["a.dump", "fleet/one/a.dump"]


def test_strangers_are_not_seen(s3_store: StoreOf, bucket: Bucket) -> None:
    store = s3_store()
    put(store, "ours.dump", b"x")
    client = bucket.client()
    for key in ("fleet/one/", "fleet/one/deeper/ours.dump", "fleet/one2/b.dump", "fleet/oneb.dump", "c.dump"):
        client.put_object(Bucket=bucket.name, Key=key, Body=b"theirs")
    client.create_multipart_upload(Bucket=bucket.name, Key="fleet/one/deeper/up.dump")
    client.create_multipart_upload(Bucket=bucket.name, Key="fleet/one2/up.dump")

    assert [info.key for info in store.list()] == ["ours.dump"]
    assert list(store.open_uploads()) == []
    store.delete("ours.dump")
    assert len(bucket.keys()) >= 4


def test_storage_classes(s3_store: StoreOf) -> None:
    store = s3_store()
    put(store, "plain", b"x")
    put(store, "cold", b"x", storage_class="GLACIER")
    assert [(info.key, info.storage_class) for info in store.list()] == [
        ("cold", "GLACIER"),
        ("plain", "STANDARD"),
    ]
    assert store.stat("cold").storage_class == "GLACIER"
    # SeaweedFS keeps the class as a label: what can be read needs no thaw.
    assert store.thaw_state("cold") == "ready"
    with pytest.raises(StorageError, match="no such storage class"):
        put(store, "bogus", b"x", storage_class="BOGUS")


def test_the_store_vouches_for_a_whole_object_only(s3_store: StoreOf) -> None:
    store = s3_store()
    put(store, "a", b"hello")
    assert store.stat("a").sha256 == sha256(b"hello")
    upload = store.begin("b")
    part = store.put_part("b", upload, 1, io.BytesIO(b"hello"), size=5, sha256=sha256(b"hello"))
    store.complete("b", upload, [part])
    assert store.stat("b").sha256 == ""


def test_a_declared_upload_is_completed_with_its_checksums(s3_store: StoreOf) -> None:
    """As on AWS: `checksum` set for a server that is not known declares it when the upload is opened."""
    store = s3_store(profile="generic", checksum="sha256")
    upload = store.begin("a")
    parts = [
        store.put_part("a", upload, number, io.BytesIO(content), size=len(content), sha256=sha256(content))
        for number, content in enumerate((b"1" * 5 * 1024**2, b"2"), 1)
    ]
    store.complete("a", upload, parts)
    assert store.stat("a").size == 5 * 1024**2 + 1


def test_delete_takes_every_version(locked_bucket: Bucket) -> None:
    store = S3Store(s3_destination(locked_bucket))
    put(store, "a", b"one")
    put(store, "a", b"two")
    locked_bucket.client().delete_object(Bucket=locked_bucket.name, Key="fleet/one/a")
    put(store, "a", b"three")
    put(store, "ab", b"other")
    assert len(versions(locked_bucket)) == 5

    store.delete("a")
    assert versions(locked_bucket) == ["fleet/one/ab"]
    store.delete("a")


def test_delete_takes_what_a_marker_hides(locked_bucket: Bucket) -> None:
    store = S3Store(s3_destination(locked_bucket))
    put(store, "a", b"one")
    locked_bucket.client().delete_object(Bucket=locked_bucket.name, Key="fleet/one/a")
    store.delete("a")
    assert versions(locked_bucket) == []


@pytest.mark.parametrize("mode", ["governance", "compliance"])
def test_locked_objects_cannot_be_deleted(locked_bucket: Bucket, mode: str) -> None:
    store = S3Store(s3_destination(locked_bucket, object_lock=mode, object_lock_days=3))
    put(store, "whole", b"x")
    upload = store.begin("parts")
    store.complete(
        "parts", upload, [store.put_part("parts", upload, 1, io.BytesIO(b"x"), size=1, sha256=sha256(b"x"))]
    )

    for key in ("whole", "parts"):
        until = store.lock_until(key)
        assert until is not None
        assert abs(until - datetime.now(UTC) - timedelta(days=3)) < timedelta(minutes=1)
        with pytest.raises(ObjectLocked, match=f"keeps {key}: it is locked until {until:%Y-%m-%d %H:%M} UTC"):
            store.delete(key)
        assert content_of(store, key) == b"x"
    assert len(versions(locked_bucket)) == 2


def test_an_old_version_that_is_locked_keeps_the_object(locked_bucket: Bucket) -> None:
    """Somebody has overwritten a locked object: nothing is deleted, not even the new version."""
    put(S3Store(s3_destination(locked_bucket, object_lock="governance", object_lock_days=3)), "a", b"locked")
    store = S3Store(s3_destination(locked_bucket))
    put(store, "a", b"overwritten")
    with pytest.raises(ObjectLocked):
        store.delete("a")
    assert versions(locked_bucket) == ["fleet/one/a"] * 2


def test_a_lock_is_extended_and_never_shortened(locked_bucket: Bucket) -> None:
    store = S3Store(s3_destination(locked_bucket, object_lock="governance", object_lock_days=3))
    put(store, "a", b"x")
    later = datetime.now(UTC).replace(microsecond=0) + timedelta(days=9)
    assert store.extend_lock("a", later)
    assert store.lock_until("a") == later
    assert store.extend_lock("a", later - timedelta(days=8))
    assert store.lock_until("a") == later

    unlocked = S3Store(s3_destination(locked_bucket))
    put(unlocked, "b", b"x")
    assert unlocked.lock_until("b") is None
    assert unlocked.extend_lock("b", later)
    assert store.lock_until("b") == later


def test_legal_hold(locked_bucket: Bucket) -> None:
    store = S3Store(s3_destination(locked_bucket))
    put(store, "a", b"x")
    assert store.set_legal_hold("a", True)
    assert store.lock_until("a") == UNTIL_RELEASED
    with pytest.raises(ObjectLocked, match="under a legal hold"):
        store.delete("a")
    assert store.set_legal_hold("a", False)
    store.delete("a")
    assert versions(locked_bucket) == []


def test_probe_of_a_locked_bucket(locked_bucket: Bucket) -> None:
    """The probe objects are not locked for days themselves."""
    store = S3Store(s3_destination(locked_bucket, object_lock="compliance", object_lock_days=3))
    assert store.probe() == {"versioning": "on", "object_lock": "on", "multipart": "yes", "delete": "yes"}
    assert versions(locked_bucket) == []


def test_object_lock_needs_a_bucket_with_it(s3_store: StoreOf) -> None:
    store = s3_store(object_lock="governance", object_lock_days=3)
    with pytest.raises(StorageError, match="has no object lock, and object_lock is set"):
        store.probe()
    with pytest.raises(StorageError):
        put(store, "a", b"x")


def test_cold_storage(s3_store: StoreOf) -> None:
    """No S3 server of ours has cold storage: AWS's answers, as its reference gives them."""
    store = s3_store()
    target = {"Bucket": store.bucket.name, "Key": "fleet/one/a"}
    with Stubber(store.bucket.client) as stub:
        stub.add_client_error("get_object", "InvalidObjectState", http_status_code=403)
        with pytest.raises(ObjectArchived, match="keeps a in cold storage"):
            store.read("a")

        request = {"Days": 7, "GlacierJobParameters": {"Tier": "Bulk"}}
        stub.add_response("restore_object", {}, {**target, "RestoreRequest": request})
        store.thaw("a", 7, "Bulk")
        for code, status in (("RestoreAlreadyInProgress", 409), ("InvalidObjectState", 403)):
            stub.add_client_error("restore_object", code, http_status_code=status)
            store.thaw("a", 7, "Bulk")

        stub.add_response("head_object", {"StorageClass": "GLACIER"}, target)
        stub.add_client_error("get_object", "InvalidObjectState", http_status_code=403)
        assert store.thaw_state("a") == "none"
        stub.add_response(
            "head_object", {"StorageClass": "GLACIER", "Restore": 'ongoing-request="true"'}, target
        )
        assert store.thaw_state("a") == "thawing"
        done = 'ongoing-request="false", expiry-date="Fri, 21 Dec 2026 00:00:00 GMT"'
        stub.add_response("head_object", {"StorageClass": "DEEP_ARCHIVE", "Restore": done}, target)
        assert store.thaw_state("a") == "ready"
        stub.add_response("head_object", {"StorageClass": "GLACIER_IR"}, target)
        assert store.thaw_state("a") == "ready"
        stub.add_response("head_object", {"StorageClass": "GLACIER"}, target)
        body = StreamingBody(io.BytesIO(b"x"), 1)
        stub.add_response("get_object", {"Body": body}, {**target, "Range": "bytes=0-0"})
        assert store.thaw_state("a") == "ready"
        stub.assert_no_pending_responses()


def test_thawing_what_does_not_offer_it(s3_store: StoreOf) -> None:
    store = s3_store()
    put(store, "a", b"x")
    with pytest.raises(StorageError) as raised:
        store.thaw("a", 1, "Standard")
    assert not isinstance(raised.value, AccessDenied | ObjectMissing)
