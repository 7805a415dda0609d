"""Where copies live. One protocol, two implementations (`s3`, `directory`), one conformance suite for both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """`key` is relative to the destination's prefix. `storage_class` is empty where the store has none."""

    key: str
    size: int
    modified: datetime
    storage_class: str = ""
    sha256: str = ""  # hex; only where the store itself vouches for the whole object


@dataclass(frozen=True, slots=True)
class StoredPart:
    number: int
    size: int
    sha256: str  # hex, or "" where the store keeps none
    etag: str


@dataclass(frozen=True, slots=True)
class OpenUpload:
    key: str
    upload_id: str
    started: datetime


class ObjectStore(Protocol):
    """Keys are flat names relative to the prefix. Every method may raise StorageError and its kinds;
    only StorageUnavailable is worth a retry.
    """

    name: str  # the destination's alias

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
        """Store a whole object, durable and readable on return; `sha256` (hex) is checked by the store where it can.

        Raises ObjectExists with `if_absent` when the key is taken (decided atomically).
        """

    def begin(self, key: str, *, storage_class: str = "") -> str:
        """Open a multipart upload; nothing is visible under `key` until `complete`. Returns the upload id."""

    def put_part(
        self, key: str, upload_id: str, number: int, body: BinaryIO, *, size: int, sha256: str
    ) -> StoredPart:
        """Idempotent by number: the last writer wins. Raises UploadGone."""

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        """Parts that have arrived, by number. Raises UploadGone."""

    def complete(
        self,
        key: str,
        upload_id: str,
        parts: Iterator[StoredPart] | list[StoredPart],
        *,
        if_absent: bool = False,
    ) -> None:
        """Join the parts in order. Atomic: the object is whole or absent.

        Raises UploadGone; ObjectExists with `if_absent` when the key is taken, and then the upload stays open.
        """

    def abort(self, key: str, upload_id: str) -> None:
        """Give up an upload and its parts, until none is listed. No error when it is gone already."""

    def open_uploads(self, prefix: str = "") -> Iterator[OpenUpload]: ...

    def read(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        """A stream of the range; close it. Raises ObjectMissing, ObjectArchived.

        A range that ends after the object gives what there is: the caller counts the bytes.
        """

    def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectMissing."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object under the prefix in key order, pages fetched as needed."""

    def delete(self, key: str) -> None:
        """Idempotent: no error when it is absent. Raises ObjectLocked."""

    def probe(self) -> Mapping[str, str]:
        """Put, read back and delete a probe object, try a multipart upload; report what the store offers:
        ``{"versioning": "on|off|unknown", "object_lock": "on|off|unknown", "multipart": "yes|no"}``.
        """
