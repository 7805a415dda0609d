"""Keep a backup whatever the retention says, and let it go again: a record beside every copy of it.

Where the bucket has object lock, a legal hold is set on what is stored too: then no key can remove it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from worker.catalog import Entry
from worker.errors import BackupNotFound, PgfleetError, StorageError
from worker.steps import audit
from worker.steps.context import Adapters
from worker.steps.inventory import Listed, list_all

logger = logging.getLogger("pgfleet.hold")


@dataclass(frozen=True)
class Held:
    """What was done in one destination. `locked`: its bucket holds the objects as well."""

    destination: str
    locked: bool


def hold(
    adapters: Adapters, backup_id: str, *, reason: str, until: datetime | None, by: str
) -> tuple[list[Held], dict[str, PgfleetError]]:
    """Hold every copy; (what was done, the destinations where it was not). Raises BackupNotFound."""
    record = {"held": True, "reason": reason, "until": until.isoformat() if until else None, "by": by}
    return _record(adapters, backup_id, record)


def release(adapters: Adapters, backup_id: str, *, by: str) -> tuple[list[Held], dict[str, PgfleetError]]:
    """Take the hold off every copy. Raises BackupNotFound."""
    return _record(adapters, backup_id, {"held": False, "reason": "released", "until": None, "by": by})


def _record(
    adapters: Adapters, backup_id: str, record: dict[str, Any]
) -> tuple[list[Held], dict[str, PgfleetError]]:
    listed, failures = list_all(adapters, backup=backup_id)
    if not listed:
        if failures:
            raise next(iter(failures.values()))
        raise BackupNotFound(
            f"No destination has a backup {backup_id!r}.", "`pgfleet list` shows what is there."
        )
    record["at"] = datetime.now(UTC).isoformat()
    done = []
    for alias, entry in listed[0].copies.items():
        try:
            done.append(_of_copy(adapters, alias, entry, record))
        except PgfleetError as error:
            failures[alias] = error
    _answer_for(adapters, listed[0], record, done, failures)
    return done, failures


def _answer_for(
    adapters: Adapters,
    item: Listed,
    record: dict[str, Any],
    done: list[Held],
    failures: dict[str, PgfleetError],
) -> None:
    """The evidence of a hold goes with its backup; who asked for it stays on record."""
    held = bool(record["held"])
    audit.note(
        adapters,
        "hold" if held else "release",
        by=record["by"],
        database=item.database,
        backup_id=item.backup_id,
        where=", ".join(one.destination for one in done),
        result=("held" if held else "released") if done else "failed",
        at=datetime.fromisoformat(record["at"]),
        detail={
            "reason": record["reason"],
            "until": record["until"],
            "evidence_at": record["at"],
            "legal_hold": [one.destination for one in done if one.locked],
            "failed": {alias: error.message for alias, error in failures.items()},
        },
    )


def _of_copy(adapters: Adapters, alias: str, entry: Entry, record: dict[str, Any]) -> Held:
    """The record first when it holds, last when it releases: what is half done holds."""
    store, held = adapters.store(alias), bool(record["held"])
    if held:
        adapters.catalog(alias).evidence_put(entry.backup_id, "hold", record)
    locked = [store.set_legal_hold(info.key, held) for info in entry.objects]
    if not held:
        adapters.catalog(alias).evidence_put(entry.backup_id, "hold", record)
    return Held(alias, any(locked))


def carry(adapters: Adapters, backup_id: str, *, sources: Iterable[str], to: str) -> None:
    """Hold a copy that has just been made or mended, if the backup is held. Idempotent. Raises StorageUnavailable.

    Where the access key may not set a legal hold, the record alone holds it: cleanup goes by that.
    """
    catalog, store = adapters.catalog(to), adapters.store(to)
    made = catalog.entry(backup_id)
    if made is None:
        return
    if not made.held:
        record = next(filter(None, (_hold_record(adapters, alias, backup_id) for alias in sources)), None)
        if record is None:
            return
        catalog.evidence_put(backup_id, "hold", record)
    try:
        for info in made.objects:
            store.set_legal_hold(info.key, True)
    except StorageError as error:
        if error.retryable:
            raise
        logger.warning(error.message, extra={"action": "hold.carry", "hint": error.hint})


def _hold_record(adapters: Adapters, alias: str, backup_id: str) -> dict[str, Any] | None:
    """What is in force there now; None where nobody answers: cleanup asks all copies once more."""
    catalog = adapters.catalog(alias)
    try:
        entry = catalog.entry(backup_id)
        records = catalog.evidence(backup_id, "hold") if entry is not None and entry.held else []
    except StorageError:
        return None
    return records[-1] if records else None
