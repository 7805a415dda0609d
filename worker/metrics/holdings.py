"""What the destinations hold of each database, and what that is worth: read from manifests and evidence alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.catalog import Entry
from worker.catalog.reader import moment
from worker.config.model import Database
from worker.core import human
from worker.core.backup import Manifest
from worker.errors import PgfleetError, StorageUnavailable
from worker.metrics.reading import Reading, read_all
from worker.steps.context import Adapters
from worker.steps.inventory import Listed, by_backup, in_progress
from worker.steps.prune import Judged, survey

#: What can be restored as far as is known, unless a drill has refuted it.
USABLE = frozenset({"verified", "unverified", "unmanaged"})


@dataclass(frozen=True, slots=True)
class Proof:
    """The newest drill that proved a copy. seconds: its recovery time; bytes: stored size of what it restored."""

    backup_id: str
    destination: str
    at: datetime
    seconds: float | None
    bytes: int

    def projected(self, size: int) -> float | None:
        """Seconds for a backup of `size` stored bytes: in proportion, which is right for what takes long."""
        if self.seconds is None:
            return None
        return self.seconds * max(1.0, size / self.bytes) if self.bytes else self.seconds


@dataclass(frozen=True, slots=True)
class Holding:
    """One database. `down`: its destinations that could not be listed, and why. `missing`: destination → backup ids.

    owed: destination → the backups that its retention keeps, there or not. proofs: destination → its newest proof.
    """

    database: str
    backups: list[Listed]
    judged: list[Judged]
    down: Mapping[str, PgfleetError]
    owed: Mapping[str, frozenset[str]]
    missing: Mapping[str, list[str]]
    proofs: Mapping[str, Proof]

    @property
    def proof(self) -> Proof | None:
        """The newest of all."""
        return max(self.proofs.values(), key=lambda one: (one.at, one.destination), default=None)

    def copies(self, destination: str) -> list[Entry]:
        """Newest first."""
        return [item.copies[destination] for item in self.backups if destination in item.copies]

    def sound(self, destination: str) -> list[Entry]:
        """The copies there that can be restored, newest first."""
        found = [sound(item).get(destination) for item in self.backups]
        return [entry for entry in found if entry is not None]

    def newest(self, destination: str, states: Collection[str] = USABLE) -> Entry | None:
        return next((entry for entry in self.sound(destination) if entry.state in states), None)

    def read_share(self, destination: str, days: int, now: datetime) -> float | None:
        """The share of its bytes there that was read back within `days` days; None where nothing can be compared."""
        copies = [
            copy
            for copy in self.copies(destination)
            if copy.manifest is not None and copy.size and copy.state != "damaged"
        ]
        read = sum(copy.size * _read_share(copy, now - timedelta(days=days)) for copy in copies)
        return read / sum(copy.size for copy in copies) if copies else None

    def best(self) -> Listed | None:
        """The newest backup that can be restored."""
        return next((item for item in self.backups if sound(item)), None)


@dataclass(frozen=True, slots=True)
class Holdings:
    """By database; `down`: every destination that could not be listed."""

    databases: dict[str, Holding]
    down: Mapping[str, PgfleetError]
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


def listing(adapters: Adapters, destination: str, max_age: float) -> Reading[list[Entry]]:
    """What one destination holds. Raises StorageError, ConfigError."""

    def read() -> list[Entry]:
        return adapters.catalog(destination).entries(None, in_progress(adapters))

    return Reading(f"destination {destination}", read, max_age)


def read(adapters: Adapters, listings: Mapping[str, Reading[list[Entry]]], patience: float) -> Holdings:
    """`listings`: of every destination. One that does not answer is named, and hides no others. Raises ConfigError."""
    read_all(listings.values(), patience, anew=True)
    found = {alias: one.value for alias, one in listings.items()}
    listed = by_backup({alias: entries for alias, entries in found.items() if entries is not None})
    down = {
        alias: listings[alias].error or _silent(alias, patience)
        for alias, entries in found.items()
        if entries is None
    }
    open_ids = _open(adapters)
    databases = {
        alias: _holding(adapters, database, listed, down, open_ids)
        for alias, database in adapters.settings.databases.items()
    }
    return Holdings(databases, down)


def _silent(destination: str, patience: float) -> PgfleetError:
    return StorageUnavailable(
        f"No answer from {destination} within {human.duration(patience)}.",
        "Look whether a disk or a network hangs.",
    )


def sound(item: Listed) -> dict[str, Entry]:
    """Destination → its copy, of those that can be restored as far as is known.

    What a drill has refuted in one destination is nowhere right, for the bytes are the same; but where another drill
    has proved it.
    """
    refuted = any(copy.refuted_at is not None for copy in item.copies.values())
    return {
        alias: copy
        for alias, copy in item.copies.items()
        if copy.state in USABLE and (copy.proven_at is not None or not refuted)
    }


def _read_share(entry: Entry, since: datetime) -> float:
    """As the newest record says, unless all that it knows of is too long ago."""
    newest = max((at for at in (entry.verified_at, entry.scrubbed_at) if at), default=None)
    return entry.scrubbed if newest is not None and newest >= since else 0.0


def newest_manifest(holding: Holding) -> Manifest | None:
    """Of the newest verified backup."""
    for item in holding.backups:
        for entry in item.copies.values():
            if entry.state == "verified" and entry.manifest is not None:
                return entry.manifest
    return None


def _holding(
    adapters: Adapters,
    database: Database,
    listed: list[Listed],
    down: Mapping[str, PgfleetError],
    open_ids: Collection[str],
) -> Holding:
    own = [item for item in listed if item.database == database.alias]
    found = survey(adapters, database.alias, datetime.now(UTC), known=(own, down))
    reached = [alias for alias in database.destinations if alias not in down]
    return Holding(
        database.alias,
        own,
        found.copies,
        {alias: error for alias, error in down.items() if alias in database.destinations},
        found.owed,
        {alias: list(_missing(alias, own, found.owed[alias].difference(open_ids))) for alias in reached},
        {proof.destination: proof for proof in _proofs(adapters, own)},
    )


def _open(adapters: Adapters) -> set[str]:
    """Backups whose run is still at work: what they lack is on its way."""
    try:
        runs = adapters.ledger.runs(states=("queued", "running"), limit=1000)
    except PgfleetError:
        return set()
    return {run.backup_id for run in runs if run.backup_id and run.kind in ("backup", "copy")}


def _missing(destination: str, backups: list[Listed], owed: Collection[str]) -> Iterator[str]:
    """Backups that others have and its retention keeps. Nobody owes it what is older than its first copy."""
    present = [item for item in backups if destination in item.copies]
    oldest = min((item.copies[destination].at for item in present), default=None)
    for item in backups:
        copy = item.copies.get(destination)
        if (copy is None or copy.state == "incomplete") and item.backup_id in owed and _elsewhere(item):
            if oldest is None:
                yield item.backup_id
                return
            if next(iter(item.copies.values())).at >= oldest:
                yield item.backup_id


def _elsewhere(item: Listed) -> bool:
    """Whether there is a copy that can be copied."""
    return any(copy.manifest is not None and copy.state in USABLE for copy in item.copies.values())


def _proofs(adapters: Adapters, backups: list[Listed]) -> Iterator[Proof]:
    proven = [
        (entry.proven_at, alias, entry)
        for item in backups
        for alias, entry in item.copies.items()
        if entry.proven_at is not None
    ]
    newest = {alias: (at, entry) for at, alias, entry in sorted(proven, key=lambda one: one[0])}
    for alias, (at, entry) in newest.items():
        record = _record(adapters, alias, entry.backup_id, at)
        seconds = record.get("rto", {}).get("seconds")
        size = record.get("backup_bytes") or entry.size
        yield Proof(entry.backup_id, alias, at, float(seconds) if seconds is not None else None, int(size))


def _record(adapters: Adapters, destination: str, backup_id: str, at: datetime) -> dict[str, Any]:
    """The drill's evidence; nothing when it cannot be read any more."""
    try:
        records = adapters.catalog(destination).evidence(backup_id, "drill")
    except PgfleetError:
        return {}
    return next((record for record in records if moment(record.get("at")) == at), {})
