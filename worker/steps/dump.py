"""Dump one database under one snapshot, and describe what came out."""

from __future__ import annotations

import json
import logging
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from worker import __version__
from worker.core.backup import ArtifactKind, Gap, TableCount, backup_id, backup_type
from worker.durable import durable_write, hash_file
from worker.errors import ConfigError, StorageError, StorageUnavailable
from worker.gpg import Key
from worker.postgres.dump import Archive, compression, dump_archives
from worker.postgres.globals import dump_globals
from worker.postgres.snapshot import Snapshot, held_snapshot
from worker.postgres.tools import Tools, client_for
from worker.steps.contents import reading
from worker.steps.context import Context, Later, Outcome
from worker.steps.facts import FACTS
from worker.steps.keys import recipients

log = logging.getLogger("pgfleet.dump")

#: Without an earlier backup to go by: an archive is compressed and has no indexes in it.
_GUESSED_RATIO = 0.5
#: Runs to look through for one that dumped in the same second; more cannot have begun since.
_LATELY = 100
GLOBALS = "globals.sql"
FINGERPRINT = "fingerprint.json"


def dump(context: Context) -> Outcome:
    """Everything under one snapshot, into the run's directory. Each attempt is a new backup with a new id.

    What cannot work is refused before the dump: destinations, keys, client tools, room on the spool.
    """
    database = context.database
    _check_destinations(context)
    keys = recipients(context.adapters, database)
    name = f"pgfleet {context.run.id}"
    with held_snapshot(database, application_name=name) as snapshot:
        directory = _fresh(context.run_dir)  # under the lock: nobody else's dump writes there now
        tools = client_for(database, snapshot.facts.version, context.settings.pg_bin)
        context.set_run(backup_id=own_id(context, snapshot.taken_at), spool_id=context.adapters.spool.id)
        expected = _expected_bytes(context, snapshot.facts.size_bytes)
        context.adapters.spool.need(2 * expected, f"The backup of {database.alias}")
        context.progress(0, expected)
        with reading(context, snapshot) as read:
            archives = dump_archives(snapshot, tools, directory, stop=context.stop, progress=context.progress)
            contents = read()
        missing = contents.missing + dump_globals(tools, database, directory / GLOBALS, application_name=name)
    if contents.fingerprint is not None:
        durable_write(directory / FINGERPRINT, contents.fingerprint.to_json())
    described = _described(context, archives, directory)
    facts = _facts(context, snapshot, tools, keys=keys, tables=contents.tables, missing=missing)
    durable_write(directory / FACTS, json.dumps(facts).encode())
    result = {
        "archives": described,
        "destinations": list(database.destinations),
        "bytes": sum(archive["size"] for archive in described),
        "fingerprint_seconds": round(contents.fingerprint.seconds, 3) if contents.fingerprint else None,
    }
    return Outcome(result)


def own_id(context: Context, taken_at: datetime) -> str:
    """The backup's id, of the second of its snapshot. Raises Later when the run before was as quick as that.

    Called under the database's lock: whoever held it before has put its id on record.
    """
    chosen = backup_id(context.run.database, taken_at)
    before = context.ledger.runs(kind="backup", database=context.run.database, limit=_LATELY)
    if any(run.backup_id == chosen and run.id != context.run.id for run in before):
        raise Later(f"{chosen} was taken in this very second by another run.", 1.0)
    return chosen


def _fresh(directory: Path) -> Path:
    """What a killed attempt left is of another instant."""
    for path in directory.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return directory


def _check_destinations(context: Context) -> None:
    """A dump that no destination would take is not begun. One that is away may be back by then, and where another
    takes a copy the run goes on: copies are independent of each other.
    """
    aliases = context.database.destinations
    if not aliases:
        raise ConfigError(
            f"No destination is configured for {context.database.alias}.", "Set BACKUP_DIR or S3_BUCKET."
        )
    refusals = [error for alias in aliases if (error := _refusal(context, alias)) is not None]
    if len(refusals) == len(aliases):
        raise refusals[0]
    for error in refusals:
        log.warning(error.message, extra={"action": "destination.refuses", "hint": error.hint})


def _refusal(context: Context, alias: str) -> StorageError | None:
    """What a retry would not cure: a wrong bucket or key. One request: nothing begins with a run's id."""
    try:
        next(iter(context.adapters.store(alias).list(context.run.id)), None)
    except StorageUnavailable:
        return None
    except StorageError as error:
        return error
    return None


def _expected_bytes(context: Context, database_bytes: int) -> int:
    """About how large the archives will be: as the last backup, if there was one."""
    for run in context.ledger.runs(
        kind="backup", database=context.run.database, states=("verified",), limit=1
    ):
        sizes = [copy.get("bytes", 0) for copy in run.result.get("copies", ())]
        return int(max(sizes, default=0) * 1.1)
    return int(database_bytes * _GUESSED_RATIO)


def _described(context: Context, archives: list[Archive], directory: Path) -> list[dict[str, Any]]:
    """stem, kind, size and SHA-256 of each file to encrypt: a dump that stands alone is never one of ours."""
    small: list[tuple[str, ArtifactKind]] = [(GLOBALS, "globals"), (FINGERPRINT, "fingerprint")]
    kinds = [(stem, kind) for stem, kind in small if (directory / stem).exists()]
    kinds += [(archive.stem, "dump" if archive.stem == "dump" else "data") for archive in archives]
    described = []
    for stem, kind in kinds:
        size, sha256 = hash_file(directory / stem, stop=context.stop)
        described.append({"stem": stem, "kind": kind, "size": size, "sha256": sha256})
    return described


def _facts(
    context: Context,
    snapshot: Snapshot,
    tools: Tools,
    *,
    keys: list[Key],
    tables: list[TableCount],
    missing: list[Gap],
) -> dict[str, Any]:
    """The manifest, less what only a copy knows."""
    at: datetime = snapshot.taken_at
    database = context.database
    return {
        "format": 1,
        "backup_id": backup_id(database.alias, at),
        "run_id": context.run.id,
        "database": database.alias,
        "dbname": database.name,
        "type": backup_type(at.date()),
        "snapshot_at": at.isoformat(),
        "pgfleet": __version__,
        "server": snapshot.facts.server.model_dump(mode="json"),
        "client": f"pg_dump {tools.version}",
        "compression": compression(database, tools),
        "encrypted": bool(keys),
        "recipients": [key.fingerprint for key in keys],
        "tables": [table.model_dump(mode="json") for table in tables],
        "missing": [gap.model_dump(mode="json") for gap in missing],
    }
