"""Copies in a directory: a local disk or a mounted file system, with the contract of a bucket.

An object is a file of mode 0600, written beside under a hidden name, fsynced and renamed. A multipart upload is
a directory ``.uploads/{upload id}.{key}``, so that one mkdir opens it; part N is its file ``N``, the bytes of the
part followed by the 32 bytes of their SHA-256, so that one rename makes both true. The directory itself is made
when it is missing, its parent is not: that is where a disk should have been mounted.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from worker.config.model import Destination
from worker.errors import BucketMissing, ConfigError, ObjectMissing, StorageError, UploadGone
from worker.storage import ObjectInfo, OpenUpload, StoredPart
from worker.storage.bodies import as_stream, wrong_bytes
from worker.storage.disk import (
    StoredRange,
    explain,
    fsync_directory,
    join,
    link,
    make_directory,
    write_all,
    write_block,
)
from worker.storage.guarded import ThawState, ThawTier
from worker.storage.names import check_name
from worker.storage.probe import try_store
from worker.storage.slice import BUFFER

_UPLOADS = ".uploads"
_UPLOAD_ID = re.compile(r"(?P<started>\d{8}T\d{12}Z)-[0-9a-f]{16}")
_STARTED = "%Y%m%dT%H%M%S%fZ"
_DIGEST = hashlib.sha256().digest_size
_PARTIAL = ".partial"
_STALE_SECONDS = 24 * 3600  # an unfinished file that was not written to for so long has no writer any more


class DirectoryStore:
    """Implements GuardedStore; storage classes mean nothing to it, and it has no locks."""

    def __init__(self, destination: Destination) -> None:
        """Raises ConfigError; touches the disk at the first call only."""
        if destination.path is None:
            raise ConfigError(
                f"Destination {destination.alias} has no path.", "Set BACKUP_DIR (path in the settings file)."
            )
        self.name = destination.alias
        self.path = destination.path
        self.root = self.path / destination.prefix.strip("/")

    def put(
        self,
        key: str,
        body: bytes | BinaryIO,
        *,
        size: int,
        sha256: str,
        if_absent: bool = False,
        storage_class: str = "",
    ) -> None:
        target = self.root / check_name(key)
        stream = as_stream(body, size, key)
        with self._watch(key):
            self._make_root()
            _sweep(self.root)
            with self._written(target, stream, sha256) as partial:
                if if_absent:
                    link(partial, target, self.name)
                else:
                    partial.replace(target)
                fsync_directory(self.root)

    def begin(self, key: str, *, storage_class: str = "") -> str:
        upload_id = f"{datetime.now(UTC):{_STARTED}}-{secrets.token_hex(8)}"
        with self._watch(key):
            self._make_root()
            uploads = self.root / _UPLOADS
            make_directory(uploads)
            for gone in uploads.glob(".*"):
                shutil.rmtree(gone, ignore_errors=True)
            (uploads / f"{upload_id}.{check_name(key)}").mkdir(mode=0o700)
            fsync_directory(uploads)
        return upload_id

    def put_part(
        self, key: str, upload_id: str, number: int, body: BinaryIO, *, size: int, sha256: str
    ) -> StoredPart:
        upload = self._upload(key, upload_id)
        stream = as_stream(body, size, key)
        with (
            self._watch(key, upload),
            self._written(upload / str(number), stream, sha256, trailer=bytes.fromhex(sha256)) as partial,
        ):
            partial.replace(upload / str(number))
            fsync_directory(upload)
        return StoredPart(number, size, sha256, sha256)

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        upload = self._upload(key, upload_id)
        with self._watch(key, upload):
            numbers = sorted(int(entry.name) for entry in upload.iterdir() if entry.name.isdecimal())
        for number in numbers:
            with self._watch(key, upload):
                part = _stored(upload, number)
            yield part

    def complete(
        self, key: str, upload_id: str, parts: Iterable[StoredPart], *, if_absent: bool = False
    ) -> None:
        """Needs room for the object a second time, where the file system cannot share blocks."""
        upload = self._upload(key, upload_id)
        with self._watch(key, upload):
            wanted = list(parts)
            self._check_parts(upload, key, wanted)
            joined = upload / f"{secrets.token_hex(8)}{_PARTIAL}"
            try:
                join(joined, ((upload / str(part.number), part.size) for part in wanted))
                if if_absent:
                    link(joined, self.root / key, self.name)
                else:
                    joined.replace(self.root / key)
            finally:
                joined.unlink(missing_ok=True)
            fsync_directory(self.root)
            _remove(upload)

    def abort(self, key: str, upload_id: str) -> None:
        with suppress(UploadGone):
            upload = self._upload(key, upload_id)
            with self._watch(key, upload):
                _remove(upload)

    def open_uploads(self, prefix: str = "") -> Iterator[OpenUpload]:
        with self._watch(""):
            self._check_root()
            found = sorted(_names(self.root / _UPLOADS))
        for name in found:
            upload_id, _, key = name.partition(".")
            if (match := _UPLOAD_ID.fullmatch(upload_id)) and key.startswith(prefix):
                started = datetime.strptime(match["started"], _STARTED).replace(tzinfo=UTC)
                yield OpenUpload(key, upload_id, started)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        path = self.root / check_name(key)
        with self._watch(key):
            size = path.stat().st_size
            stored = StoredRange(path, offset, size if length is None else length, self._explain)
            return io.BufferedReader(stored, BUFFER)

    def stat(self, key: str) -> ObjectInfo:
        with self._watch(key):
            return _info(self.root / check_name(key))

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        with self._watch(""):
            self._check_root()
            found = sorted(_names(self.root))
        for name in found:
            path = self.root / name
            if name.startswith(prefix) and not name.startswith("."):
                with self._watch(""), suppress(FileNotFoundError):
                    if path.is_file() and not path.is_symlink():
                        yield _info(path)

    def delete(self, key: str) -> None:
        with self._watch(key), suppress(FileNotFoundError):
            (self.root / check_name(key)).unlink()
            fsync_directory(self.root)

    def probe(self) -> Mapping[str, str]:
        return {"versioning": "off", "object_lock": "off", **try_store(self)}

    def thaw(self, key: str, days: int, tier: ThawTier) -> None:
        self.stat(key)

    def thaw_state(self, key: str) -> ThawState:
        self.stat(key)
        return "ready"

    def lock_until(self, key: str) -> datetime | None:
        self.stat(key)
        return None

    def extend_lock(self, key: str, until: datetime) -> bool:
        return False

    def set_legal_hold(self, key: str, on: bool) -> bool:
        return False

    @contextmanager
    def _watch(self, key: str, upload: Path | None = None) -> Iterator[None]:
        """Raise our kinds of errors for the system's, for what is done to `key` or to its `upload`."""
        try:
            yield
        except FileNotFoundError:
            self._check_root()
            if upload is not None and not upload.is_dir():
                raise _gone(key, self.name) from None
            raise ObjectMissing(
                f"Destination {self.name} (directory {self.root}) has no object {key}.",
                "`pgfleet list` shows what is there.",
            ) from None
        except OSError as error:
            raise self._explain(error) from error

    def _explain(self, error: OSError) -> StorageError:
        return explain(error, self.name, self.root)

    def _check_root(self) -> None:
        if not self.path.parent.is_dir():
            raise BucketMissing(
                f"Destination {self.name} cannot be used: there is no {self.path.parent} to hold {self.path.name}.",
                "Mount the disk, or create the directory if it is the right one.",
            )

    def _make_root(self) -> None:
        """The directory and its prefix, never what should hold them."""
        self._check_root()
        levels = [self.root, *self.root.parents]
        for level in reversed(levels[: levels.index(self.path) + 1]):
            try:
                make_directory(level)
            except FileNotFoundError:  # what holds it is there: its file system makes no directories
                raise BucketMissing(
                    f"Destination {self.name} cannot be used: {level} cannot be made in {level.parent}.",
                    "Correct the path: it has to be on a disk that takes directories.",
                ) from None

    @contextmanager
    def _written(self, target: Path, stream: BinaryIO, sha256: str, trailer: bytes = b"") -> Iterator[Path]:
        """A new file beside `target` with the whole stream and the trailer, durable. Removed if it is not renamed."""
        partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}{_PARTIAL}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                digest = hashlib.sha256()
                write_all(descriptor, stream, digest.update)
                if digest.hexdigest() != sha256:
                    raise wrong_bytes(target.name, self.name)
                write_block(descriptor, trailer)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def _upload(self, key: str, upload_id: str) -> Path:
        upload = self.root / _UPLOADS / f"{upload_id}.{check_name(key)}"
        with self._watch(key):
            if _UPLOAD_ID.fullmatch(upload_id) is None or not upload.is_dir():
                raise _gone(key, self.name)
        return upload

    def _check_parts(self, upload: Path, key: str, parts: Sequence[StoredPart]) -> None:
        numbers = [part.number for part in parts]
        arrived = all((upload / str(number)).exists() for number in numbers)
        ordered = bool(numbers) and numbers == sorted(set(numbers))
        if not (
            arrived and ordered and all(_stored(upload, part.number).etag == part.etag for part in parts)
        ):
            raise StorageError(
                f"Destination {self.name} refuses to join the parts of {key}: one is missing or not the one that "
                "was uploaded last.",
                "Start the backup again.",
            )


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _gone(key: str, destination: str) -> UploadGone:
    return UploadGone(
        f"Destination {destination} knows no such upload of {key}.", "It was completed or aborted before."
    )


def _remove(upload: Path) -> None:
    """Renamed first: from then on the upload is gone, also for one who is just writing a part."""
    gone = upload.with_name(f".{upload.name}")
    upload.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)  # the rest is swept by the next upload


def _sweep(directory: Path) -> None:
    """Remove what writers that were killed left unfinished."""
    oldest = datetime.now(UTC).timestamp() - _STALE_SECONDS
    for partial in directory.glob(f".*{_PARTIAL}"):
        with suppress(FileNotFoundError):
            if partial.stat().st_mtime < oldest:
                partial.unlink()


def _stored(upload: Path, number: int) -> StoredPart:
    with (upload / str(number)).open("rb", buffering=0) as file:
        size = file.seek(-_DIGEST, os.SEEK_END)
        digest = file.read(_DIGEST).hex()
    return StoredPart(number, size, digest, digest)


def _info(path: Path) -> ObjectInfo:
    status = path.stat()
    return ObjectInfo(path.name, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
