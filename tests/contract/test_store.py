"""What every ObjectStore promises."""

from __future__ import annotations

import hashlib
import io
import os
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from tests.contract.conftest import content_of, put, sha256
from worker.errors import ObjectExists, ObjectMissing, StorageError, StorageUnavailable, UploadGone
from worker.storage import StoredPart
from worker.storage.guarded import GuardedStore
from worker.storage.slice import FileSlice

MIB = 1024 * 1024
FIVE = 5 * MIB


def part(store: GuardedStore, key: str, upload: str, number: int, content: bytes) -> StoredPart:
    return store.put_part(key, upload, number, io.BytesIO(content), size=len(content), sha256=sha256(content))


def test_put_read_stat_delete(store: GuardedStore) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    put(store, "a-1.dump", b"hello world")

    assert content_of(store, "a-1.dump") == b"hello world"
    info = store.stat("a-1.dump")
    assert (info.key, info.size) == ("a-1.dump", 11)
    assert before <= info.modified <= datetime.now(UTC) + timedelta(seconds=2)
    assert info.sha256 in ("", sha256(b"hello world"))

    store.delete("a-1.dump")
    with pytest.raises(ObjectMissing):
        store.stat("a-1.dump")
    with pytest.raises(ObjectMissing):
        store.read("a-1.dump")
    store.delete("a-1.dump")


def test_put_replaces(store: GuardedStore) -> None:
    put(store, "a", b"old, and longer")
    put(store, "a", b"new")
    assert content_of(store, "a") == b"new"


def test_an_empty_object(store: GuardedStore) -> None:
    put(store, "empty", b"")
    assert store.stat("empty").size == 0
    assert content_of(store, "empty") == b""
    with store.read("empty", 0, 10) as stream:
        assert stream.read() == b""


def test_wrong_sha256_is_refused_by_put(store: GuardedStore) -> None:
    with pytest.raises(StorageUnavailable):
        store.put("a", b"hello", size=5, sha256=sha256(b"hellO"))
    assert list(store.list()) == []


def test_wrong_size_is_refused(store: GuardedStore) -> None:
    with pytest.raises(StorageError, match="5 bytes are there, and it should be 6"):
        store.put("a", b"hello", size=6, sha256=sha256(b"hello"))
    upload = store.begin("a")
    with pytest.raises(StorageError, match="should be 4"):
        store.put_part("a", upload, 1, io.BytesIO(b"hello"), size=4, sha256=sha256(b"hello"))


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (3, 4, b"3456"),
        (3, 0, b""),
        (8, 100, b"89"),
        (10, 5, b""),
        (20, None, b""),
    ],
)
def test_ranges(store: GuardedStore, offset: int, length: int | None, expected: bytes) -> None:
    put(store, "digits", b"0123456789")
    with store.read("digits", offset, length) as stream:
        assert stream.read() == expected


def test_a_range_of_nothing_still_needs_the_object(store: GuardedStore) -> None:
    put(store, "other", b"")
    with pytest.raises(ObjectMissing):
        store.read("missing", 0, 0)


def test_list_is_sorted_flat_and_by_prefix(store: GuardedStore) -> None:
    for key in ("b.dump", "a.dump", "ab.dump", "B.dump"):
        put(store, key, b"x")
    assert [info.key for info in store.list()] == ["B.dump", "a.dump", "ab.dump", "b.dump"]
    assert [info.key for info in store.list("a")] == ["a.dump", "ab.dump"]
    assert list(store.list("c")) == []


def test_list_of_nothing(store: GuardedStore) -> None:
    assert list(store.list()) == []
    assert list(store.open_uploads()) == []


def test_list_of_more_than_one_page(store: GuardedStore) -> None:
    keys = [f"object-{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: put(store, key, b""), keys))
    assert [info.key for info in store.list()] == keys


@pytest.mark.parametrize("key", ["", "a/b", "../a", "..", ".hidden", "a b", "a\n", "ä", "x" * 300])
def test_names_that_are_refused(store: GuardedStore, key: str) -> None:
    with pytest.raises(StorageError, match="cannot be the name"):
        put(store, key, b"x")
    with pytest.raises(StorageError, match="cannot be the name"):
        store.begin(key)
    with pytest.raises(StorageError, match="cannot be the name"):
        store.read(key)
    with pytest.raises(StorageError, match="cannot be the name"):
        store.delete(key)


def test_if_absent(store: GuardedStore) -> None:
    put(store, "a", b"first", if_absent=True)
    with pytest.raises(ObjectExists):
        put(store, "a", b"second", if_absent=True)
    assert content_of(store, "a") == b"first"


@pytest.mark.parametrize("store", ["directory", "s3"], indirect=True)
def test_if_absent_has_one_winner(store: GuardedStore) -> None:
    for attempt in range(2):
        barrier = Barrier(8)

        def write(number: int, key: str = f"race-{attempt}", barrier: Barrier = barrier) -> bytes | None:
            content = f"writer {number}".encode()
            barrier.wait(10)
            try:
                put(store, key, content, if_absent=True)
            except ObjectExists:
                return None
            return content

        with ThreadPoolExecutor(8) as pool:
            winners = [content for content in pool.map(write, range(8)) if content is not None]
        assert len(winners) == 1
        assert content_of(store, f"race-{attempt}") == winners[0]


def test_a_large_object_in_equal_parts(store: GuardedStore) -> None:
    contents = [os.urandom(FIVE), os.urandom(FIVE), os.urandom(1234)]
    upload = store.begin("big.dump.gpg", storage_class="STANDARD_IA")

    # In any order, from several threads.
    with ThreadPoolExecutor(3) as pool:
        parts = list(
            pool.map(
                lambda number: part(store, "big.dump.gpg", upload, number, contents[number - 1]), (3, 1, 2)
            )
        )
    assert list(store.list()) == []

    store.complete("big.dump.gpg", upload, sorted(parts, key=lambda one: one.number))

    assert sha256(content_of(store, "big.dump.gpg")) == sha256(b"".join(contents))
    assert store.stat("big.dump.gpg").size == 2 * FIVE + 1234
    assert list(store.open_uploads()) == []
    with store.read("big.dump.gpg", FIVE, FIVE) as stream:
        assert sha256(stream.read()) == sha256(contents[1])
    with pytest.raises(UploadGone):
        list(store.list_parts("big.dump.gpg", upload))


def test_a_part_can_be_written_again(store: GuardedStore) -> None:
    upload = store.begin("a")
    part(store, "a", upload, 1, b"x" * FIVE)
    part(store, "a", upload, 2, b"wrong")
    second = part(store, "a", upload, 2, b"right")
    first = part(store, "a", upload, 1, b"x" * FIVE)
    listed = {one.number: one.etag for one in store.list_parts("a", upload)}
    assert listed[1] == first.etag
    assert listed.get(2) in (second.etag, None)  # never the one that was replaced
    store.complete("a", upload, [first, second])
    assert content_of(store, "a") == b"x" * FIVE + b"right"


def test_wrong_sha256_is_refused_by_put_part(store: GuardedStore) -> None:
    upload = store.begin("a")
    with pytest.raises(StorageUnavailable):
        store.put_part("a", upload, 1, io.BytesIO(b"hello"), size=5, sha256=sha256(b"hellO"))
    assert list(store.list_parts("a", upload)) == []


def test_an_upload_goes_on_from_what_is_listed(store: GuardedStore) -> None:
    """Another process: it knows the key, finds the upload and its parts, sends the rest and completes."""
    upload = store.begin("a")
    part(store, "a", upload, 2, b"second")

    found = next(store.open_uploads("a"))
    assert (found.key, found.upload_id) == ("a", upload)
    assert abs(found.started - datetime.now(UTC)) < timedelta(seconds=10)
    arrived = {one.number: one for one in store.list_parts("a", upload)}
    assert [(one.size, one.sha256 in ("", sha256(b"second"))) for one in arrived.values()] == [(6, True)]
    part(store, "a", upload, 1, b"1" * FIVE)

    store.complete("a", upload, list(store.list_parts("a", upload)))
    assert content_of(store, "a") == b"1" * FIVE + b"second"


def test_open_uploads_by_prefix(store: GuardedStore) -> None:
    uploads = {key: store.begin(key) for key in ("a.dump", "a.globals", "b.dump")}
    assert {found.key: found.upload_id for found in store.open_uploads()} == uploads
    assert [found.key for found in store.open_uploads("a.d")] == ["a.dump"]


def test_two_uploads_of_one_key(store: GuardedStore) -> None:
    one, two = store.begin("a"), store.begin("a")
    assert one != two
    part(store, "a", one, 1, b"one")
    store.complete("a", two, [part(store, "a", two, 1, b"two")])
    assert content_of(store, "a") == b"two"
    assert [found.upload_id for found in store.open_uploads()] == [one]


def test_complete_with_a_missing_part_fails(store: GuardedStore) -> None:
    upload = store.begin("a")
    first = part(store, "a", upload, 1, b"1" * FIVE)
    never_sent = StoredPart(2, FIVE, sha256(b"2" * FIVE), first.etag)
    with pytest.raises(StorageError) as raised:
        store.complete("a", upload, [first, never_sent])
    assert not raised.value.retryable
    assert list(store.list()) == []

    second = part(store, "a", upload, 2, b"2" * FIVE)
    store.complete("a", upload, [first, second])
    assert store.stat("a").size == 2 * FIVE


def test_complete_joins_what_it_was_given_or_nothing(store: GuardedStore) -> None:
    """A part that was replaced meanwhile: AWS and the directory refuse, SeaweedFS still has the one named."""
    upload = store.begin("a")
    old = part(store, "a", upload, 1, b"old")
    part(store, "a", upload, 1, b"new")
    try:
        store.complete("a", upload, [old])
    except StorageError:
        assert list(store.list()) == []
    else:
        assert content_of(store, "a") == b"old"


def test_completed_twice_is_gone_or_done_and_the_object_is_whole(store: GuardedStore) -> None:
    """After a lost answer the caller completes again, and asks `stat` when the upload is gone."""
    upload = store.begin("a")
    parts = [part(store, "a", upload, 1, b"content")]
    store.complete("a", upload, parts)
    try:
        store.complete("a", upload, parts)
    except UploadGone:
        assert store.stat("a").size == 7
    assert content_of(store, "a") == b"content"


def test_complete_over_what_is_there_only_when_told(store: GuardedStore) -> None:
    put(store, "a", b"a stranger's")
    upload = store.begin("a")
    parts = [part(store, "a", upload, 1, b"ours")]
    with pytest.raises(ObjectExists):
        store.complete("a", upload, parts, if_absent=True)
    assert content_of(store, "a") == b"a stranger's"
    assert [found.upload_id for found in store.open_uploads()] == [upload], "it can still be told otherwise"
    store.complete("a", upload, parts)
    assert content_of(store, "a") == b"ours"

    upload = store.begin("b")
    store.complete("b", upload, [part(store, "b", upload, 1, b"new")], if_absent=True)
    assert content_of(store, "b") == b"new"


def test_abort_leaves_nothing(store: GuardedStore) -> None:
    upload = store.begin("a")
    part(store, "a", upload, 1, b"x" * FIVE)
    store.abort("a", upload)

    assert list(store.open_uploads()) == []
    assert list(store.list()) == []
    with pytest.raises(UploadGone):
        list(store.list_parts("a", upload))
    with pytest.raises(UploadGone):
        part(store, "a", upload, 1, b"x")
    with pytest.raises(UploadGone):
        store.complete("a", upload, [StoredPart(1, 1, sha256(b"x"), '"e"')])
    store.abort("a", upload)


def test_an_upload_id_of_nobody(store: GuardedStore) -> None:
    put(store, "a", b"x")
    for upload in ("nobody", "../a", "20260101T000000000000Z-0123456789abcdef"):
        with pytest.raises(StorageError):
            list(store.list_parts("a", upload))
        with suppress(StorageError):
            store.abort("a", upload)
    assert content_of(store, "a") == b"x"


@pytest.mark.parametrize(
    ("store", "size"), [("directory", 300 * MIB), ("s3", 300 * MIB), ("s3-md5", 64 * MIB)], indirect=["store"]
)
def test_memory_is_flat(store: GuardedStore, size: int, tmp_path: Path) -> None:
    """A large part passes through in both directions."""
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(size + 10)
    with FileSlice(sparse, 10, size) as body:
        digest = hashlib.file_digest(body, "sha256").hexdigest()

    tracemalloc.start()
    try:
        upload = store.begin("a")
        with FileSlice(sparse, 10, size) as body:
            stored = store.put_part("a", upload, 1, body, size=size, sha256=digest)
        store.complete("a", upload, [stored])
        read = 0
        with store.read("a") as stream:
            while block := stream.read(MIB):
                read += len(block)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert read == size
    assert peak < 16 * MIB


def test_probe(store: GuardedStore) -> None:
    assert store.probe() == {"versioning": "off", "object_lock": "off", "multipart": "yes", "delete": "yes"}
    assert list(store.list()) == []
    assert list(store.open_uploads()) == []


def test_neither_cold_nor_locked(store: GuardedStore) -> None:
    put(store, "a", b"x")
    assert store.thaw_state("a") == "ready"
    assert store.lock_until("a") is None
    assert not store.extend_lock("a", datetime.now(UTC) + timedelta(days=1))
    assert not store.set_legal_hold("a", True)
