"""Copies in an S3 bucket."""

from __future__ import annotations

import base64
import copy
import io
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from botocore.exceptions import ClientError

from worker.config.model import Destination
from worker.errors import (
    ObjectArchived,
    ObjectExists,
    ObjectMissing,
    StorageError,
    StorageUnavailable,
    UploadGone,
)
from worker.storage import ObjectInfo, OpenUpload, StoredPart
from worker.storage.bodies import Download, as_stream, checksum_headers
from worker.storage.bucket import Bucket
from worker.storage.failures import code_of
from worker.storage.guarded import ThawState, ThawTier
from worker.storage.probe import try_store
from worker.storage.slice import BUFFER
from worker.storage.versions import Versions

_ABORTS = 5
_ARCHIVES = frozenset(("GLACIER", "DEEP_ARCHIVE"))


class S3Store:
    """One bucket and prefix. Safe for threads; not across a fork. Implements GuardedStore.

    Everything put gets a checksum that the server verifies (`profiles.py` says which), the object lock that the
    destination asks for, counted from the moment of the call, and the storage class of the call.
    """

    def __init__(self, destination: Destination) -> None:
        """Raises ConfigError, StorageError; connects at the first call only."""
        self.name = destination.alias
        self.bucket = Bucket(destination)
        self._profile = self.bucket.profile
        self._client = self.bucket.client
        self._lock_mode = destination.object_lock.upper()
        self._lock_days = destination.object_lock_days
        self._versions = Versions(self.bucket, self._lock_mode)

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
        stream = as_stream(body, size, key)
        extra = self._checksum(stream, sha256, key) | self._attributes(storage_class)
        if if_absent and self._profile.conditional:
            extra["IfNoneMatch"] = "*"
        elif if_absent:
            self._refuse_taken(key)
        with self.bucket.watch(key):
            self._client.put_object(**self.bucket.target(key), Body=stream, **extra)

    def begin(self, key: str, *, storage_class: str = "") -> str:
        extra = self._attributes(storage_class)
        if self._declared:
            extra["ChecksumAlgorithm"] = "SHA256"
        with self.bucket.watch(key):
            return self._client.create_multipart_upload(**self.bucket.target(key), **extra)["UploadId"]

    def put_part(
        self, key: str, upload_id: str, number: int, body: BinaryIO, *, size: int, sha256: str
    ) -> StoredPart:
        stream = as_stream(body, size, key)
        checksum: Any = self._checksum(stream, sha256, key)
        with self.bucket.watch(key):
            answer = self._client.upload_part(
                **self.bucket.target(key), UploadId=upload_id, PartNumber=number, Body=stream, **checksum
            )
        return StoredPart(number, size, sha256, answer["ETag"])

    def list_parts(self, key: str, upload_id: str) -> Iterator[StoredPart]:
        """SeaweedFS goes on listing a part that was replaced. The newest is it; of two from the same second with
        different content neither is, so that it is sent again.
        """
        newest: dict[int, Any] = {}
        for page in self.bucket.pages("list_parts", Key=self.bucket.target(key)["Key"], UploadId=upload_id):
            for part in page.get("Parts", ()):
                other = newest.setdefault(part["PartNumber"], part)
                if part["LastModified"] > other["LastModified"]:
                    newest[part["PartNumber"]] = part
                elif part["LastModified"] == other["LastModified"] and part["ETag"] != other["ETag"]:
                    newest[part["PartNumber"]] = {**part, "ETag": ""}
        for number, part in sorted(newest.items()):
            if part["ETag"]:
                yield StoredPart(number, part["Size"], _hex(part.get("ChecksumSHA256", "")), part["ETag"])

    def complete(
        self, key: str, upload_id: str, parts: Iterable[StoredPart], *, if_absent: bool = False
    ) -> None:
        """After a lost answer the upload may be gone and the object there: then UploadGone or ObjectExists,
        and `stat` tells.
        """
        if if_absent:
            self._refuse_taken(key)  # SeaweedFS checks the condition too, but of two at once both may win
        extra: Any = {"IfNoneMatch": "*"} if if_absent and self._profile.conditional else {}
        with self.bucket.watch(key):
            self._client.complete_multipart_upload(
                **self.bucket.target(key),
                UploadId=upload_id,
                MultipartUpload={"Parts": [self._named(part) for part in parts]},
                **extra,
            )

    def _named(self, part: StoredPart) -> Any:
        named: dict[str, Any] = {"PartNumber": part.number, "ETag": part.etag}
        if self._declared and part.sha256:
            named["ChecksumSHA256"] = base64.b64encode(bytes.fromhex(part.sha256)).decode()
        return named

    def abort(self, key: str, upload_id: str) -> None:
        """A part that was on its way may arrive after the abort, so it is repeated until none is listed."""
        for attempt in range(_ABORTS):
            try:
                with self.bucket.watch(key):
                    self._client.abort_multipart_upload(**self.bucket.target(key), UploadId=upload_id)
                if next(self.list_parts(key, upload_id), None) is None:
                    return
            except UploadGone:
                return
            time.sleep(0.2 * 2**attempt)
        raise StorageUnavailable(
            f"The upload of {key} to {self.name} still has parts after {_ABORTS} attempts to abort it.",
            "The next cleanup tries again.",
        )

    def open_uploads(self, prefix: str = "") -> Iterator[OpenUpload]:
        for page in self.bucket.pages("list_multipart_uploads", Prefix=self.bucket.prefix + prefix):
            for upload in page.get("Uploads", ()):
                key = upload["Key"].removeprefix(self.bucket.prefix)
                if "/" not in key:
                    yield OpenUpload(key, upload["UploadId"], upload["Initiated"])

    def read(self, key: str, offset: int = 0, length: int | None = None) -> BinaryIO:
        if length == 0:
            self.stat(key)
            return io.BytesIO()
        extra: Any = {}
        if offset or length is not None:
            extra["Range"] = f"bytes={offset}-" + ("" if length is None else str(offset + length - 1))
        with self.bucket.watch(key):
            try:
                body = self._client.get_object(**self.bucket.target(key), **extra)["Body"]
            except ClientError as error:
                if code_of(error) == "InvalidRange":  # it starts at the object's end or after
                    return io.BytesIO()
                raise
        return io.BufferedReader(Download(body, self.bucket.place, key), BUFFER)

    def stat(self, key: str) -> ObjectInfo:
        mode: Any = {"ChecksumMode": "ENABLED"} if self._profile.checksum == "sha256" else {}
        with self.bucket.watch(key):
            head = self._client.head_object(**self.bucket.target(key), **mode)
        checksum = head.get("ChecksumSHA256", "")
        whole = checksum if head.get("ChecksumType") != "COMPOSITE" and "-" not in checksum else ""
        return ObjectInfo(
            key,
            head["ContentLength"],
            head["LastModified"],
            head.get("StorageClass", "STANDARD"),
            _hex(whole),
        )

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        for page in self.bucket.pages("list_objects_v2", Prefix=self.bucket.prefix + prefix, Delimiter="/"):
            for found in page.get("Contents", ()):
                key = found["Key"].removeprefix(self.bucket.prefix)
                if key:  # some tools keep an empty object in place of a folder
                    yield ObjectInfo(
                        key, found["Size"], found["LastModified"], found.get("StorageClass", "STANDARD")
                    )

    def delete(self, key: str) -> None:
        self._versions.delete(key)

    def probe(self) -> Mapping[str, str]:
        versioning, locking = self._versions.versioning(), self._versions.locking()
        if self._lock_mode and locking == "off":
            raise StorageError(
                f"The bucket {self.bucket.name} of destination {self.name} has no object lock, and object_lock is set.",
                "Create a bucket with object lock (it cannot be added by us), or remove object_lock.",
            )
        unlocked = copy.copy(self)
        unlocked._lock_mode = ""  # else the probe objects could not be deleted for days
        return {"versioning": versioning, "object_lock": locking, **try_store(unlocked)}

    def thaw(self, key: str, days: int, tier: ThawTier) -> None:
        request: Any = {"Days": days, "GlacierJobParameters": {"Tier": tier}}
        with self.bucket.watch(key):
            try:
                self._client.restore_object(**self.bucket.target(key), RestoreRequest=request)
            except ClientError as error:
                # Asked for before; or (InvalidObjectState) the object is not in cold storage.
                if code_of(error) not in ("RestoreAlreadyInProgress", "InvalidObjectState"):
                    raise

    def thaw_state(self, key: str) -> ThawState:
        with self.bucket.watch(key):
            head = self._client.head_object(**self.bucket.target(key))
        restore = head.get("Restore", "")
        if 'ongoing-request="true"' in restore:
            return "thawing"
        if restore or not (head.get("StorageClass") in _ARCHIVES or head.get("ArchiveStatus")):
            return "ready"
        try:  # others than AWS keep the class as a mere label
            self.read(key, 0, 1).close()
        except ObjectArchived:
            return "none"
        return "ready"

    def lock_until(self, key: str) -> datetime | None:
        return self._versions.until(key)

    def extend_lock(self, key: str, until: datetime) -> bool:
        return self._versions.extend(key, until)

    def set_legal_hold(self, key: str, on: bool) -> bool:
        return self._versions.hold(key, on)

    @property
    def _declared(self) -> bool:
        return self._profile.checksum == "sha256" and self._profile.declared

    def _checksum(self, stream: BinaryIO, sha256: str, key: str) -> dict[str, Any]:
        return dict(checksum_headers(stream, sha256, self._profile.checksum, key, self.name))

    def _attributes(self, storage_class: str) -> dict[str, Any]:
        attributes: dict[str, Any] = {"StorageClass": storage_class} if storage_class else {}
        if self._lock_mode:
            attributes["ObjectLockMode"] = self._lock_mode
            attributes["ObjectLockRetainUntilDate"] = datetime.now(UTC) + timedelta(days=self._lock_days)
        return attributes

    def _refuse_taken(self, key: str) -> None:
        try:
            self.stat(key)
        except ObjectMissing:
            return
        raise ObjectExists(f"Destination {self.name} has {key} already.", "It is left as it is.")


def _hex(checksum: str) -> str:
    return base64.b64decode(checksum).hex() if checksum else ""
