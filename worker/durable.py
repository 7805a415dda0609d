"""Files that are whole or absent, and still there after a power cut: written beside, fsynced, renamed."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from worker.core import human
from worker.errors import Cancelled, SpoolFull

_BUFFER = 1024 * 1024
_WRITE_BACK = 16 * 1024 * 1024
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Output:
    """A new file at `path`, its partial name. `size` (bytes) and `sha256` (hex): what was written so far."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._started = 0
        self.size = 0

    def write(self, chunk: bytes | memoryview) -> None:
        """Raises OSError when not all of it could be written."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._hash.update(chunk)
        self.size += len(chunk)
        if self.size - self._started >= _WRITE_BACK:
            # What is dirty is not dropped but queued for the disk, so the fsync at the end has little left to do.
            os.posix_fadvise(
                self._descriptor, self._started, self.size - self._started, os.POSIX_FADV_DONTNEED
            )
            self._started = self.size

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


@contextmanager
def replacing(target: Path) -> Iterator[Output]:
    """Write `target` (mode 0600): it appears, durable, when the block ends well; else nothing is left of it.

    Each writer has a partial file of its own, and takes away those of earlier writers of the same target: one
    that was killed gives its space back, one that lost its lease can rename no more (FileNotFoundError).
    Raises SpoolFull when the disk, the quota or the limit on a file's size is reached.
    """
    for stale in target.parent.glob(f"{glob.escape(target.name)}.*.partial"):
        stale.unlink(missing_ok=True)
    partial = target.with_name(f"{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with _room_in(target.parent):
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                yield Output(partial, descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _rename(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def durable_write(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, atomically. Raises SpoolFull."""
    with replacing(path) as output:
        output.write(content)


def durable_rename(partial: Path, final: Path) -> None:
    """Give a finished file its name; after a power cut there is the old one or the new one, whole.

    Both in one file system. Raises SpoolFull, FileNotFoundError.
    """
    with _room_in(final.parent):
        _fsync(partial)
        _rename(partial, final)


def hash_file(
    path: Path, *, progress: Callable[[int], None] | None = None, stop: Event | None = None
) -> tuple[int, str]:
    """(size in bytes, SHA-256 in hex). `progress` gets the bytes read so far. Raises Cancelled, OSError."""
    digest, size = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_BUFFER))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            if stop is not None and stop.is_set():
                raise Cancelled(f"Hashing {path.name} was stopped.", "")
            digest.update(buffer[:count])
            size += count
            if progress is not None:
                progress(size)
    return size, digest.hexdigest()


def _rename(partial: Path, final: Path) -> None:
    partial.replace(final)
    _fsync(final.parent)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _room_in(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        free = human.size(shutil.disk_usage(directory).free)
        raise SpoolFull(
            f"{directory} takes no more data ({os.strerror(error.errno)}): {free} free.",
            "Free some space there, raise the quota, or set PGFLEET_SPOOL to a larger disk.",
        ) from error
