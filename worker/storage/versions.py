"""Deleting in a bucket that keeps versions or locks them.

A plain delete in a versioned bucket only hides an object behind a marker: its bytes stay, and are paid for. So
all versions are deleted, each only when no lock is known; a bucket with locks refuses by itself where we may
not ask. Governance mode is never bypassed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from botocore.exceptions import ClientError

from worker.errors import AccessDenied, ObjectLocked, ObjectMissing, StorageError
from worker.storage.bucket import Bucket
from worker.storage.failures import code_of
from worker.storage.guarded import UNTIL_RELEASED

log = logging.getLogger("pgfleet.storage")

State = Literal["on", "off", "unknown"]
#: How stores say that an object, its bucket or they themselves know no locks.
_NO_LOCK = frozenset(
    ("NoSuchObjectLockConfiguration", "ObjectLockConfigurationNotFoundError", "InvalidRequest", "NotImplemented",
     "MethodNotAllowed", "InvalidArgument", "UnsupportedOperation")
)  # fmt: skip
#: What refusals of locked objects have in common (AWS and others, MinIO).
_LOCK_WORDS = ("object lock", "worm protected")


class _Version(NamedTuple):
    id: str
    marker: bool
    latest: bool


class Versions:
    """`mode`: the lock that new objects get, ``GOVERNANCE`` or ``COMPLIANCE``; "" for none."""

    def __init__(self, bucket: Bucket, mode: str) -> None:
        self._bucket = bucket
        self._mode = mode

    def versioning(self) -> State:
        """off: never turned on; a bucket whose versioning was suspended still has versions."""
        try:
            status = self._bucket.client.get_bucket_versioning(Bucket=self._bucket.name).get("Status")
        except ClientError as error:
            return "off" if code_of(error) in _NO_LOCK else "unknown"
        return "on" if status else "off"

    def locking(self) -> State:
        try:
            answer = self._bucket.client.get_object_lock_configuration(Bucket=self._bucket.name)
        except ClientError as error:
            return "off" if code_of(error) in _NO_LOCK else "unknown"
        return "on" if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled" else "off"

    def delete(self, key: str) -> None:
        """Idempotent. Raises ObjectLocked, and then the object is as it was."""
        if self.versioning() != "on":
            self._hide(key)
            return
        try:
            found = list(self._of(key))
        except AccessDenied:
            self._hide(key)
            return
        kept = [version for version in found if not version.marker]
        for version in kept:
            self._refuse_locked(key, version.id)
        markers = [version.id for version in found if version.marker]
        if len(kept) > 1 and not any(version.marker and version.latest for version in found):
            markers.append(self._hide(key))  # else an older version would show while the newer ones go
        try:
            for version_id in [*(version.id for version in kept), *filter(None, markers)]:
                self._delete_version(key, version_id)
        except AccessDenied:
            # A key that may hide but not delete: a lifecycle rule of the bucket does the rest.
            self._hide(key)
            log.info("versions kept", extra={"action": "storage.versions_kept", "object": key})

    def until(self, key: str, version: str = "") -> datetime | None:
        """The end of the retention, UNTIL_RELEASED under a legal hold, None without a lock in force."""
        if self._held(key, version):
            return UNTIL_RELEASED
        end = self._retention(key, version).get("RetainUntilDate")
        return end if end is not None and end > datetime.now(UTC) else None

    def extend(self, key: str, until: datetime) -> bool:
        if self.locking() == "off":
            return False
        now = self._retention(key, "")
        end = now.get("RetainUntilDate")
        if end is None or end < until:
            mode: Any = now.get("Mode") or self._mode or "GOVERNANCE"
            with self._bucket.watch(key):
                self._bucket.client.put_object_retention(
                    **self._bucket.target(key), Retention={"Mode": mode, "RetainUntilDate": until}
                )
        return True

    def hold(self, key: str, on: bool) -> bool:
        if self.locking() == "off":
            return False
        with self._bucket.watch(key):
            self._bucket.client.put_object_legal_hold(
                **self._bucket.target(key), LegalHold={"Status": "ON" if on else "OFF"}
            )
        return True

    def _of(self, key: str) -> Iterator[_Version]:
        full = self._bucket.target(key)["Key"]
        for page in self._bucket.pages("list_object_versions", Prefix=full):
            for group, marker in (("Versions", False), ("DeleteMarkers", True)):
                for found in page.get(group, ()):
                    if found["Key"] == full:
                        yield _Version(found["VersionId"], marker, found.get("IsLatest", False))

    def _refuse_locked(self, key: str, version: str) -> None:
        until = self.until(key, version)
        if until is not None:
            raise _locked(key, self._bucket, until)

    def _hide(self, key: str) -> str:
        """A plain delete. The id of the marker that it left, if any."""
        try:
            answer = self._bucket.client.delete_object(**self._bucket.target(key))
        except ClientError as error:
            raise self._refused(key, error) from None
        return answer.get("VersionId", "") if answer.get("DeleteMarker") else ""

    def _delete_version(self, key: str, version: str) -> None:
        try:
            self._bucket.client.delete_object(**self._bucket.target(key), VersionId=version)
        except ClientError as error:
            raise self._refused(key, error) from None

    def _refused(self, key: str, error: ClientError) -> StorageError:
        message = str(error.response.get("Error", {}).get("Message", "")).lower()
        if code_of(error) == "ObjectLocked" or any(words in message for words in _LOCK_WORDS):
            return _locked(key, self._bucket, None)
        return explain(error, self._bucket.place, key)

    def _retention(self, key: str, version: str) -> dict[str, Any]:
        answer = self._ask("get_object_retention", key, version)
        return dict(answer.get("Retention", {}))

    def _held(self, key: str, version: str) -> bool:
        answer = self._ask("get_object_legal_hold", key, version)
        return bool(answer.get("LegalHold", {}).get("Status") == "ON")

    def _ask(self, operation: str, key: str, version: str) -> dict[str, Any]:
        """{} when there is no lock, and when we may not know."""
        arguments: dict[str, Any] = {"VersionId": version} if version else {}
        try:
            answer: dict[str, Any] = getattr(self._bucket.client, operation)(**self._bucket.target(key), **arguments)
        except ClientError as error:
            if code_of(error) in _NO_LOCK:
                return {}
            explained = explain(error, self._bucket.place, key)
            if isinstance(explained, AccessDenied):
                return {}
            raise explained from None
        return answer
