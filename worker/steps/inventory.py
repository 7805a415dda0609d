"""Every backup with its copies, over all destinations at once, and which one a request means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from worker.catalog import Entry
from worker.core.requests import LATEST, OfOneBackup
from worker.errors import BackupNotFound, ConfigError, PgfleetError
from worker.ledger.model import RunKind
from worker.steps.context import Adapters


@dataclass(frozen=True)
class Listed:
    """A backup and its copies by destination, in the order of the configuration."""

    backup_id: str
    database: str
    copies: dict[str, Entry]


def list_all(
    adapters: Adapters,
    *,
    database: str | None = None,
    destination: str | None = None,
    backup: str | None = None,
) -> tuple[list[Listed], dict[str, PgfleetError]]:
    """Backups newest first, and the destinations that could not be listed: one that is down hides no other."""
    aliases = [destination] if destination else list(adapters.settings.destinations)
    open_ids = in_progress(adapters)
    found: dict[str, list[Entry]] = {}
    failures: dict[str, PgfleetError] = {}
    with ThreadPoolExecutor(max(1, len(aliases))) as pool:
        futures = {
            alias: pool.submit(adapters.catalog(alias).entries, database, open_ids) for alias in aliases
        }
        for alias, future in futures.items():
            try:
                found[alias] = future.result()
            except PgfleetError as error:
                failures[alias] = error
    return [item for item in by_backup(found) if backup in (None, item.backup_id)], failures


def by_backup(found: Mapping[str, Iterable[Entry]]) -> list[Listed]:
    """Destination → its copies, as backups, newest first."""
    copies: dict[str, dict[str, Entry]] = {}
    for alias, entries in found.items():
        for entry in entries:
            copies.setdefault(entry.backup_id, {})[alias] = entry
    listed = [Listed(backup_id, next(iter(own.values())).database, own) for backup_id, own in copies.items()]
    return sorted(listed, key=lambda item: next(iter(item.copies.values())).at, reverse=True)


def in_progress(adapters: Adapters) -> list[str]:
    """Every backup that the ledger knows: without a manifest it is none of a stranger's, but never sealed.

    None when the ledger is away, as on the day of the disaster.
    """
    try:
        runs = [run for kind in WRITING for run in adapters.ledger.runs(kind=kind, limit=10_000)]
    except PgfleetError:
        return []
    given_up = [backup for run in runs for backup in run.data.get("given_up", ())]
    return [*(run.backup_id for run in runs if run.backup_id), *given_up]


@dataclass(frozen=True)
class Choice:
    """A backup, and the destinations to take it from, best first. notes: what speaks against taking it for granted."""

    backup_id: str
    copies: dict[str, Entry]
    notes: tuple[str, ...] = ()


def choose(
    adapters: Adapters, wanted: OfOneBackup, *, destination: str | None = None, usable: bool = True
) -> Choice:
    """The backup that a request means. With `usable`, damaged and incomplete copies do not count.

    Raises BackupNotFound that says what is there instead.
    """
    database = wanted.database or (only_database(adapters) if wanted.backup in LATEST else None)
    backup = None if wanted.backup in LATEST else wanted.backup
    listed, failures = list_all(adapters, database=database, destination=destination, backup=backup)
    damaged: list[Listed] = []
    for item in listed:
        copies = {
            alias: entry for alias, entry in item.copies.items() if not usable or entry.state in _USABLE
        }
        at = next(iter(item.copies.values())).at
        if wanted.before is not None and at >= wanted.before:
            continue
        if not copies:
            damaged += [item] if any(entry.state == "damaged" for entry in item.copies.values()) else []
            continue
        if wanted.backup == "latest-proven" and not any(entry.proven_at for entry in copies.values()):
            continue
        notes = _notes(copies, damaged if backup is None else (), failures if backup is None else {})
        nearest = sorted(copies.items(), key=lambda pair: _distance(adapters, *pair))
        return Choice(item.backup_id, dict(nearest), notes)
    raise _nothing(wanted, listed, failures)


def _notes(
    copies: Mapping[str, Entry], newer: Iterable[Listed], failures: Mapping[str, PgfleetError]
) -> tuple[str, ...]:
    """A restore of the latest backup must not pass in silence over one that is newer, or over a drill's verdict."""
    notes = [
        f"{alias} could not be listed, and may hold a newer backup: {error.message}"
        for alias, error in failures.items()
    ]
    notes += [f"{item.backup_id} is newer, but damaged in {', '.join(item.copies)}." for item in newer]
    notes += [
        f"A drill has refuted the copy in {alias} ({entry.refuted_at:%Y-%m-%d %H:%M} UTC): pgfleet evidence says how."
        for alias, entry in copies.items()
        if entry.refuted_at is not None
    ]
    return tuple(notes)


WRITING: tuple[RunKind, ...] = ("backup", "copy")
_USABLE = ("verified", "unverified", "unmanaged")
_COLD = ("GLACIER", "DEEP_ARCHIVE")


def _distance(adapters: Adapters, alias: str, entry: Entry) -> tuple[int, int]:
    """Nearest first: a directory, a bucket, cold storage; then the one that is known to be good."""
    cold = any(info.storage_class in _COLD for info in entry.objects)
    local = adapters.destination(alias).kind == "directory"
    return (0 if local else 2 if cold else 1, _USABLE.index(entry.state) if entry.state in _USABLE else 9)


def only_database(adapters: Adapters) -> str:
    """The alias of the one database that is configured. Raises ConfigError when there are several."""
    databases = list(adapters.settings.databases)
    if len(databases) != 1:
        raise ConfigError(
            f"Several databases are configured ({', '.join(databases)}): 'latest' could be any of them.",
            "Name one with --database.",
        )
    return databases[0]


def _nothing(wanted: OfOneBackup, listed: list[Listed], failures: dict[str, PgfleetError]) -> PgfleetError:
    if failures and not listed:
        return next(iter(failures.values()))
    if wanted.backup not in LATEST and listed:
        states = ", ".join(f"{alias}: {entry.state}" for alias, entry in listed[0].copies.items())
        return BackupNotFound(
            f"No copy of {wanted.backup} can be used ({states}).", "Take another: pgfleet list."
        )
    away = "".join(f" {alias} could not be listed: {error.message}" for alias, error in failures.items())
    before = f" before {wanted.before:%Y-%m-%d %H:%M:%S} UTC" if wanted.before else ""
    if wanted.backup == "latest-proven" and listed:
        return BackupNotFound(
            f"No drill has proven a backup{before} that is here yet.",
            f"Prove the newest: pgfleet drill latest. Or restore it unproven: pgfleet restore latest.{away}",
        )
    what = f"of {wanted.database} " if wanted.backup in LATEST and wanted.database else ""
    what += "" if wanted.backup in LATEST else f"{wanted.backup!r} "
    return BackupNotFound(
        f"There is no backup {what}here{before}.", f"`pgfleet list` shows what there is.{away}"
    )
