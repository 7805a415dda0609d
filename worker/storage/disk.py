"""File system calls of the directory store, and their errors in our words."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from worker.core import human
from worker.errors import AccessDenied, ObjectExists, StorageError, StorageUnavailable
from worker.storage.slice import BUFFER, Range

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
_FORBIDDEN = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_AWAY = frozenset((errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN,
                   errno.ENODEV, errno.ENXIO))  # fmt: skip
_NOT_SHARED = frozenset((errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP))


class StoredRange(Range):
    """A byte range of a stored file. A disk that fails in the middle raises what `explain` makes of it."""

    def __init__(
        self, path: Path, offset: int, length: int, explain: Callable[[OSError], StorageError]
    ) -> None:
        self._explain = explain
        super().__init__(path, offset, length)

    def readinto(self, buffer: WriteableBuffer) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            raise self._explain(error) from error


def explain(error: OSError, destination: str, root: Path) -> StorageError:
    """For everything but a file that is not there, whose meaning the caller knows."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    where = f"Destination {destination} (directory {root})"
    if error.errno in _FULL:
        return StorageError(
            f"{where} takes no more data: {reason}{_free(root)}.",
            "Free some space there, or raise the quota.",
        )
    if error.errno in _FORBIDDEN:
        return AccessDenied(
            f"{where} may not be used by this user: {reason}.",
            f"Give user {os.geteuid()} read and write access to it.",
        )
    if error.errno in _AWAY:
        return StorageUnavailable(
            f"{where} does not answer: {reason}.", "Check the disk or the mount; it is tried again."
        )
    return StorageError(
        f"{where} cannot be used: {reason}.", "Check that it is a directory on a working disk."
    )


def _free(root: Path) -> str:
    try:
        return f", {human.size(shutil.disk_usage(root).free)} free"
    except OSError:
        return ""


def write_all(descriptor: int, source: BinaryIO, update: Callable[[bytes], object]) -> None:
    """Copy the rest of `source`; `update` sees every block."""
    while block := source.read(BUFFER):
        update(block)
        write_block(descriptor, block)


def write_block(descriptor: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def fsync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Of mode 0700, unless it is there; a power cut on return leaves it. What holds it may be writable only."""
    if path.is_dir():
        return
    path.mkdir(mode=0o700, exist_ok=True)
    with suppress(PermissionError):
        fsync_directory(path.parent)


def join(target: Path, pieces: Iterable[tuple[Path, int]]) -> None:
    """Write the first N bytes of each (file, N) to the new file `target` (0600), durable on return.

    The kernel copies, and file systems that can share blocks do not even do that.
    """
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for path, size in pieces:
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _copy(source, descriptor, size)
            finally:
                os.close(source)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: int, target: int, size: int) -> None:
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, size - done, done)
        except OSError as error:
            if error.errno not in _NOT_SHARED:
                raise
            block = os.pread(source, min(BUFFER, size - done), done)
            write_block(target, block)
            count = len(block)
        if count == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        done += count


def link(partial: Path, target: Path, destination: str) -> None:
    """Give a finished file its name unless that is taken, in one step that only one writer can win."""
    try:
        os.link(partial, target)
    except FileExistsError:
        raise ObjectExists(
            f"Destination {destination} has {target.name} already.", "It is left as it is."
        ) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        raise StorageError(
            f"Destination {destination} ({target.parent}) is on a file system without hard links.",
            "Use a file system like ext4, XFS, ZFS or NFS.",
        ) from error
