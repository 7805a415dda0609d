"""What only a directory has: modes, mounts, full disks, and what a killed writer leaves."""

from __future__ import annotations

import io
import os
import resource
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.conftest import content_of, put, sha256
from worker.config.model import Destination
from worker.errors import (
    AccessDenied,
    BucketMissing,
    ConfigError,
    StorageError,
    StorageUnavailable,
    UploadGone,
)
from worker.storage import directory, disk
from worker.storage.directory import DirectoryStore
from worker.storage.disk import StoredRange


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(Destination(alias="disk", kind="directory", path=root))


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_modes(store: DirectoryStore, root: Path) -> None:
    put(store, "a", b"x")
    upload = store.begin("b")
    store.complete(
        "b", upload, [store.put_part("b", upload, 1, io.BytesIO(b"y"), size=1, sha256=sha256(b"y"))]
    )
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert {stat.S_IMODE((root / name).stat().st_mode) for name in "ab"} == {0o600}
    assert everything(root) == [".uploads", "a", "b"]


def test_new_directories_outlive_a_power_cut(
    store: DirectoryStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes a name durable is an fsync of the directory that holds it."""
    synced: set[Path] = set()

    def note(path: Path) -> None:
        synced.add(path)

    monkeypatch.setattr(disk, "fsync_directory", note)
    monkeypatch.setattr(directory, "fsync_directory", note)
    store.begin("a.dump")
    assert synced == {root.parent, root, root / ".uploads"}


def test_the_plain_files_are_the_objects(store: DirectoryStore, root: Path) -> None:
    """By hand, with nothing of ours."""
    root.mkdir()
    (root / "goimg-backup-20240101-020000.dump").write_bytes(b"seed")
    (root / ".hidden").write_bytes(b"theirs")
    (root / "folder").mkdir()
    (root / "link").symlink_to("/etc/hostname")
    assert [info.key for info in store.list()] == ["goimg-backup-20240101-020000.dump"]
    assert content_of(store, "goimg-backup-20240101-020000.dump") == b"seed"


def test_a_disk_that_is_not_mounted(tmp_path: Path) -> None:
    """The mount point's directory is missing, so nothing is written beside the disk."""
    store = DirectoryStore(Destination(alias="disk", kind="directory", path=tmp_path / "mnt" / "backups"))
    for work in (
        lambda: put(store, "a", b"x"),
        lambda: list(store.list()),
        lambda: store.read("a"),
        lambda: store.begin("a"),
    ):
        with pytest.raises(BucketMissing, match=r"there is no .*/mnt to hold backups"):
            work()
    assert not (tmp_path / "mnt").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_directory_that_cannot_be_made() -> None:
    """/proc is there and says of a new directory that it is not there."""
    store = DirectoryStore(Destination(alias="disk", kind="directory", path=Path("/proc/pgfleet")))
    for work in (lambda: put(store, "a", b"x"), lambda: store.begin("a")):
        with pytest.raises(BucketMissing, match=r"/proc/pgfleet cannot be made in /proc"):
            work()


def test_no_path_configured() -> None:
    with pytest.raises(ConfigError, match="has no path"):
        DirectoryStore(Destination(alias="disk", kind="directory"))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The system refuses to let a file grow further, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_more_room(store: DirectoryStore, root: Path) -> None:
    put(store, "a", b"old")
    content = b"x" * 3_000_000
    upload = store.begin("b")
    parts = [
        store.put_part("b", upload, number, io.BytesIO(content), size=len(content), sha256=sha256(content))
        for number in (1, 2)
    ]
    before = everything(root)
    with files_of_at_most(4_000_000):
        with pytest.raises(StorageError, match=r"takes no more data: File too large, .* free"):
            put(store, "a", b"x" * 5_000_000)
        with pytest.raises(StorageError, match="takes no more data"):
            store.complete("b", upload, parts)
    assert everything(root) == before
    assert content_of(store, "a") == b"old"

    store.complete("b", upload, parts)
    assert store.stat("b").size == 6_000_000


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root may do anything, so root becomes nobody for a while."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_no_permission(store: DirectoryStore, root: Path) -> None:
    put(store, "a", b"x")
    root.chmod(0o500)
    try:
        with somebody_else(), pytest.raises(AccessDenied, match="Permission denied") as raised:
            put(store, "b", b"x")
    finally:
        root.chmod(0o700)
    assert "read and write access" in raised.value.hint


def test_a_path_that_is_a_file(store: DirectoryStore, root: Path) -> None:
    root.write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be used"):
        put(store, "a", b"x")


def test_a_disk_that_fails_in_the_middle(tmp_path: Path) -> None:
    """A directory cannot be read as a file: the system's error comes while reading, as a bad sector's does."""
    seen: list[OSError] = []

    def explain(error: OSError) -> StorageUnavailable:
        seen.append(error)
        return StorageUnavailable("The disk does not answer.")

    stream = io.BufferedReader(StoredRange(tmp_path, 0, 10, explain))
    with stream, pytest.raises(StorageUnavailable):
        stream.read()
    assert seen


def test_unfinished_files_are_swept_when_their_writer_is_long_gone(store: DirectoryStore, root: Path) -> None:
    put(store, "a", b"x")
    old, fresh = root / ".b.0123456789abcdef.partial", root / ".c.0123456789abcdef.partial"
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, times=(time.time() - 90_000,) * 2)
    assert [info.key for info in store.list()] == ["a"]
    put(store, "d", b"x")
    assert everything(root) == [fresh.name, "a", "d"]


def test_killed_while_completing(store: DirectoryStore, root: Path) -> None:
    """After the rename the upload is still there: completing again is right. While it is being removed: gone."""
    upload = store.begin("a")
    part = store.put_part("a", upload, 1, io.BytesIO(b"content"), size=7, sha256=sha256(b"content"))
    directory = root / ".uploads" / f"{upload}.a"
    shutil.copytree(directory, root / "kept")
    store.complete("a", upload, [part])
    shutil.move(root / "kept", directory)

    store.complete("a", upload, [part])
    assert content_of(store, "a") == b"content"

    removing = root / ".uploads" / f".{upload}.a"
    removing.mkdir()
    with pytest.raises(UploadGone):
        store.complete("a", upload, [part])
    assert list(store.open_uploads()) == []
    store.abort("b", store.begin("b"))
    assert everything(root) == [".uploads", "a"]


def test_a_damaged_part_is_not_joined(store: DirectoryStore, root: Path) -> None:
    upload = store.begin("a")
    part = store.put_part("a", upload, 1, io.BytesIO(b"content"), size=7, sha256=sha256(b"content"))
    path = root / ".uploads" / f"{upload}.a" / "1"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError):
        store.complete("a", upload, [part])
    assert list(store.list()) == []
