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

from worker.errors import AccessDenied, ObjectLocked
from worker.storage.bucket import Bucket
from worker.storage.failures import code_of
from worker.storage.guarded import UNTIL_RELEASED

log = logging.getLogger("pgfleet.storage")

State = Literal["on", "off", "unknown"]
#: How stores say that an object, its bucket or they themselves know no locks.
_NO_LOCK = frozenset(
    ("NoSuchObjectLockConfiguration", "NoSuchObjectLegalHold", "ObjectLockConfigurationNotFoundError",
     "InvalidRequest", "NotImplemented", "MethodNotAllowed")
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
        return _state(self._ask("get_bucket_versioning", Bucket=self._bucket.name), "Status")

    def locking(self) -> State:
        answer = self._ask("get_object_lock_configuration", Bucket=self._bucket.name)
        return _state(answer and answer.get("ObjectLockConfiguration", {}), "ObjectLockEnabled")

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
            until = self.until(key, version.id)
            if until is not None:
                raise _locked(key, self._bucket, until)
        markers = [version.id for version in found if version.marker]
        if len(kept) > 1 and not any(version.marker and version.latest for version in found):
            markers.append(self._hide(key))  # else an older version would show while the newer ones go
        try:
            for version_id in [*(version.id for version in kept), *filter(None, markers)]:
                self._delete(key, VersionId=version_id)
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

    def _hide(self, key: str) -> str:
        """A plain delete. The id of the marker that it left, if any."""
        answer = self._delete(key)
        return str(answer.get("VersionId", "")) if answer.get("DeleteMarker") else ""

    def _delete(self, key: str, **version: Any) -> dict[str, Any]:
        with self._bucket.watch(key):
            try:
                return dict(self._bucket.client.delete_object(**self._bucket.target(key), **version))
            except ClientError as error:
                if _says_locked(error):
                    raise _locked(key, self._bucket, None) from None
                raise

    def _retention(self, key: str, version: str) -> dict[str, Any]:
        return dict(self._ask_about("get_object_retention", key, version).get("Retention", {}))

    def _held(self, key: str, version: str) -> bool:
        answer = self._ask_about("get_object_legal_hold", key, version)
        return bool(answer.get("LegalHold", {}).get("Status") == "ON")

    def _ask_about(self, operation: str, key: str, version: str) -> dict[str, Any]:
        """{} also when we may not know."""
        arguments: dict[str, Any] = {
            **self._bucket.target(key),
            **({"VersionId": version} if version else {}),
        }
        return self._ask(operation, key, **arguments) or {}

    def _ask(self, operation: str, key: str = "", **arguments: Any) -> dict[str, Any] | None:
        """None when the access key may not ask; {} when there is nothing of the kind."""
        try:
            with self._bucket.watch(key):
                try:
                    return dict(getattr(self._bucket.client, operation)(**arguments))
                except ClientError as error:
                    if code_of(error) in _NO_LOCK:
                        return {}
                    raise
        except AccessDenied:
            return None


def _state(answer: dict[str, Any] | None, field: str) -> State:
    return "unknown" if answer is None else "on" if answer.get(field) else "off"


def _says_locked(error: ClientError) -> bool:
    message = str(error.response.get("Error", {}).get("Message", "")).lower()
    return code_of(error) == "ObjectLocked" or any(words in message for words in _LOCK_WORDS)


def _locked(key: str, bucket: Bucket, until: datetime | None) -> ObjectLocked:
    if until == UNTIL_RELEASED:
        when, hint = "under a legal hold", "Release the hold first, if the backup may go."
    else:
        when = f"locked until {until:%Y-%m-%d %H:%M} UTC" if until else "locked"
        hint = "It can be deleted once the lock has ended; nothing is wrong."
    where = str(bucket.place)
    return ObjectLocked(f"{where[0].upper()}{where[1:]} keeps {key}: it is {when}.", hint)
