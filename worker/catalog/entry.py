"""What a listing, a manifest and the evidence tell about one copy."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from worker.catalog.reader import Reader, Record, moment, stamp
from worker.core import keys
from worker.core.backup import BackupType, Manifest, backup_type
from worker.core.keys import EvidenceKind
from worker.core.retention import Hold
from worker.errors import ObjectArchived, ObjectMissing
from worker.storage import ObjectInfo

State = Literal["verified", "damaged", "unverified", "unmanaged", "incomplete"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One copy. `manifest` is without its list of parts, which is most of it: `Catalog.manifest` has them.

    state: unmanaged is a dump of the seed's scripts or of plain pg_dump; incomplete is one of ours that was
    never sealed, or whose removal was begun. size: bytes of the stored artifacts. objects: all that is stored.
    """

    backup_id: str
    database: str
    at: datetime
    type: BackupType
    state: State
    size: int
    manifest: Manifest | None
    verified_at: datetime | None
    proven_at: datetime | None
    scrubbed_at: datetime | None
    held: bool
    objects: tuple[ObjectInfo, ...]
    hold: Hold | None = None
    refuted_at: datetime | None = None  # by the newest drill that came to a verdict
    scrubbed: float = 0.0  # the share of its bytes that was read back lately, as of the newest record

    @property
    def told(self) -> str:
        """Its state as people are told it: what a drill has found says more than that all bytes are there."""
        if self.refuted_at is not None and self.state != "damaged":
            return "refuted"
        return "proven" if self.proven_at is not None and self.state == "verified" else self.state


@dataclass
class Files:
    """What a listing shows of one backup."""

    backup_id: str
    database: str
    at: datetime
    manifest: ObjectInfo | None = None
    artifacts: dict[str, ObjectInfo] = field(default_factory=dict)
    evidence: dict[str, list[ObjectInfo]] = field(default_factory=dict)
    objects: list[ObjectInfo] = field(default_factory=list)

    def add(self, name: keys.Name, info: ObjectInfo) -> None:
        self.objects.append(info)
        if name.role == "manifest":
            self.manifest = info
        elif name.role == "artifact":
            self.artifacts[info.key] = info
        else:
            self.evidence.setdefault(name.evidence, []).append(info)

    @property
    def foreign(self) -> bool:
        """A dump and nothing that only pgfleet writes. Anybody's dump can be restored, drilled and held."""
        dumps = {f"{self.backup_id}.dump", f"{self.backup_id}.dump.gpg"}
        return (
            bool(self.artifacts)
            and self.artifacts.keys() <= dumps
            and not {"verify", "scrub"} & self.evidence.keys()
        )

    def matches(self, manifest: Manifest) -> bool:
        """Is all that the manifest names there, in the right size?"""
        found = {key: info.size for key, info in self.artifacts.items()}
        return all(found.get(artifact.name) == artifact.size for artifact in manifest.artifacts)


class _Dated(NamedTuple):
    """An evidence record, with the time stamp of its key for comparing."""

    stamp: str
    record: Record

    @property
    def good(self) -> bool:
        return self.record.get("ok") is True


def judge(reader: Reader, files: Files, in_progress: Collection[str], now: datetime) -> Entry:
    """Raises StorageUnavailable: what cannot be read now is not damaged."""
    checks = {kind: next(_newest(reader, files, kind), None) for kind in ("verify", "scrub")}
    proven_at, refuted_at = _drilled(reader, files)
    hold = _hold(reader, files, now)
    manifest, state = _manifest_and_state(reader, files, in_progress)
    latest = max((found for found in checks.values() if found), key=lambda found: found.stamp, default=None)
    if state == "unverified" and latest is not None:
        state = "verified" if latest.good else "damaged"
    return Entry(
        backup_id=files.backup_id,
        database=files.database,
        at=files.at,
        type=manifest.type if manifest else backup_type(files.at.date()),
        state=state,
        size=sum(info.size for info in files.artifacts.values()),
        manifest=manifest,
        verified_at=_good_at(checks["verify"]),
        proven_at=proven_at,
        scrubbed_at=_good_at(checks["scrub"]),
        held=hold is not None,
        objects=tuple(files.objects),
        hold=hold,
        refuted_at=refuted_at,
        scrubbed=_scrubbed(checks["verify"], checks["scrub"]),
    )


def _scrubbed(verified: _Dated | None, scrubbed: _Dated | None) -> float:
    if verified is not None and verified.good and (scrubbed is None or verified.stamp > scrubbed.stamp):
        parts, unread = verified.record.get("parts"), verified.record.get("parts_archived")
        return 1 - unread / parts if isinstance(parts, int) and isinstance(unread, int) and parts else 1.0
    share = scrubbed.record.get("covered") if scrubbed is not None else None
    return min(1.0, max(0.0, float(share))) if isinstance(share, (int, float)) else 0.0


def _manifest_and_state(
    reader: Reader, files: Files, in_progress: Collection[str]
) -> tuple[Manifest | None, State]:
    """What the listing and the manifest tell, without any evidence."""
    if files.manifest is None:
        return None, "unmanaged" if files.foreign and files.backup_id not in in_progress else "incomplete"
    try:
        manifest = reader.manifest(files.manifest, files.backup_id)
    except ObjectMissing:
        return None, "incomplete"  # it is being forgotten
    except ObjectArchived:
        return None, "unverified"
    if manifest is None or not files.matches(manifest):
        return manifest, "damaged"
    return manifest, "unverified"


def _newest(reader: Reader, files: Files, kind: EvidenceKind) -> Iterator[_Dated]:
    """The records that can be read, newest first."""
    for info in sorted(files.evidence.get(kind, ()), key=stamp, reverse=True):
        if (record := reader.record(info)) is not None:
            yield _Dated(stamp(info), record)


def _good_at(found: _Dated | None) -> datetime | None:
    return moment(found.record.get("at")) if found is not None and found.good else None


def _drilled(reader: Reader, files: Files) -> tuple[datetime | None, datetime | None]:
    """(proven at, refuted at) by the newest drill of this copy that came to a verdict; one of them at most.

    A bucket that is replicated into another has the records of the other's copies too.
    """
    for found in _newest(reader, files, "drill"):
        if found.record.get("destination", reader.name) != reader.name:
            continue
        at, verdict = moment(found.record.get("at")), found.record.get("verdict")
        if verdict == "proven":
            return at, None
        if verdict == "refuted":
            return None, at
    return None, None


def _hold(reader: Reader, files: Files, now: datetime) -> Hold | None:
    """The newest record decides. One that cannot be read holds: better a backup too many."""
    newest = max(files.evidence.get("hold", ()), key=stamp, default=None)
    if newest is None:
        return None
    record = reader.record(newest)
    if record is None:
        return Hold("the record of its hold cannot be read")
    until = moment(record.get("until"))
    if record.get("held") is not True or (until is not None and until <= now):
        return None
    return Hold(str(record.get("reason", "")), until)
