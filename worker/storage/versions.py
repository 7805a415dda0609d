"""Deleting in a bucket that keeps versions or locks them.

A plain delete in a versioned bucket only hides an object behind a marker: its bytes stay, and are paid for. So
all versions are deleted, and none when one of them is locked. An object that may be locked is not hidden
either: a backup that cannot be deleted must stay listed. Governance mode is never bypassed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from botocore.exceptions import ClientError

from worker.errors import AccessDenied, ObjectLocked, ObjectMissing
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


class _Lock(NamedTuple):
    """end and mode: of the retention, which may be over. known: false where we may not ask."""

    end: datetime | None
    mode: str
    held: bool
    known: bool

    @property
    def until(self) -> datetime | None:
        if self.held:
            return UNTIL_RELEASED
        return self.end if self.end is not None and self.end > datetime.now(UTC) else None


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
        """Idempotent. Raises ObjectLocked and AccessDenied, and then the object can be read as before."""
        if self.versioning() == "off":
            self._delete(key)
            return
        found = self._found(key)
        shown = [_Version("", marker=False, latest=True)]
        sure = self._refuse_locked(key, found if found is not None else shown)
        if found is not None and self._delete_all(key, found):
            return
        if not sure:
            raise AccessDenied(
                f"The access key of {self._bucket.place.alias} may not delete {key}, nor ask if it is locked.",
                "Give it s3:DeleteObjectVersion, s3:GetObjectRetention and s3:GetObjectLegalHold.",
            )
        # A key that may hide but not delete: a lifecycle rule of the bucket does the rest.
        self._delete(key)
        log.info("versions kept", extra={"action": "storage.versions_kept", "object": key})

    def until(self, key: str) -> datetime | None:
        """The end of the retention, UNTIL_RELEASED under a legal hold, None without a lock in force."""
        return self._lock(key).until

    def extend(self, key: str, until: datetime) -> bool:
        if self.locking() == "off":
            return False
        lock = self._lock(key)
        if lock.end is None or lock.end < until:
            mode: Any = lock.mode or self._mode or "GOVERNANCE"
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

    def _found(self, key: str) -> list[_Version] | None:
        """All versions and markers; None where the access key may not list them."""
        full = self._bucket.target(key)["Key"]
        try:
            return [
                _Version(found["VersionId"], group == "DeleteMarkers", bool(found.get("IsLatest")))
                for page in self._bucket.pages("list_object_versions", Prefix=full)
                for group in ("Versions", "DeleteMarkers")
                for found in page.get(group, ())
                if found["Key"] == full
            ]
        except AccessDenied:
            return None

    def _refuse_locked(self, key: str, versions: Iterable[_Version]) -> bool:
        """Raises ObjectLocked for a lock in force. False: we may not ask, so there may be one."""
        if self.locking() == "off":
            return True
        sure = True
        for version in versions:
            if version.marker:
                continue
            with suppress(ObjectMissing):
                lock = self._lock(key, version.id)
                if lock.until is not None:
                    raise _locked(key, self._bucket, lock.until)
                sure = sure and lock.known
        return sure

    def _delete_all(self, key: str, versions: Iterable[_Version]) -> bool:
        """False when the access key may not. The one that shows goes last, so that no older one takes its place."""
        try:
            for version in sorted(versions, key=lambda version: version.latest):
                self._delete(key, VersionId=version.id)
        except AccessDenied:
            return False
        return True

    def _delete(self, key: str, **version: Any) -> None:
        with self._bucket.watch(key):
            try:
                self._bucket.client.delete_object(**self._bucket.target(key), **version)
            except ClientError as error:
                if _says_locked(error):
                    raise _locked(key, self._bucket, None) from None
                raise

    def _lock(self, key: str, version: str = "") -> _Lock:
        which: dict[str, Any] = {**self._bucket.target(key)} | ({"VersionId": version} if version else {})
        hold = self._ask("get_object_legal_hold", key, **which)
        kept = self._ask("get_object_retention", key, **which)
        retention = (kept or {}).get("Retention", {})
        return _Lock(
            end=retention.get("RetainUntilDate"),
            mode=retention.get("Mode", ""),
            held=(hold or {}).get("LegalHold", {}).get("Status") == "ON",
            known=hold is not None and kept is not None,
        )

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
