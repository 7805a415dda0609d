"""How the ledger's tables come to be, and from one version to the next (docs/upgrade.md).

The ledger's row says its version and `oldest`: the lowest version whose programs can work on it. A program works on
a ledger when it knows its version, or when it is older than the ledger but not older than `oldest`. An older ledger is
migrated first, and that waits until nobody is alive who could not work on it afterwards.
"""

from __future__ import annotations

from importlib.resources import files
from typing import NamedTuple

from sqlalchemy import insert, inspect, select, text, update
from sqlalchemy.engine import Connection

from worker.errors import ConfigError, LedgerTooNew, UpgradeBlocked
from worker.ledger import schema
from worker.ledger.clock import now
from worker.ledger.workers import RECONCILE
from worker.owner import is_dead

_LOCK = 7_063_700_001  # pg_advisory_xact_lock: one migration at a time
#: A worker that has not said for so long that it lives is dead. It says so every 10 s.
ALIVE_SECONDS = 60.0
_NAMED = 5


class Migration(NamedTuple):
    """``sql/migrate_<version>.sql`` makes this version out of the one before; `oldest` can work on the result."""

    version: int
    oldest: int


class Found(NamedTuple):
    version: int
    oldest: int


#: Add to the end. One that only adds (a table, a column that may be left out, an index) keeps the last `oldest`.
MIGRATIONS = (Migration(2, oldest=2),)


def migrate(conn: Connection) -> None:
    """Make the newest tables, also from many processes at once; all of it is in the caller's transaction.

    Tables that are newer are left alone. Raises UpgradeBlocked while somebody works who could not go on.
    """
    if conn.dialect.name == "postgresql":
        conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    present = found(conn)
    if present is None:
        schema.metadata.create_all(conn)
        conn.execute(insert(schema.version).values(version=schema.VERSION, oldest=schema.OLDEST))
        return
    due = [migration for migration in MIGRATIONS if migration.version > present.version]
    if due:
        _wait_for_nobody(conn, present.version, due[-1])
        for migration in due:
            _apply(conn, migration)


def check(present: Found | None) -> None:
    """Raises ConfigError (LedgerTooNew) when these are not tables that this program can work on."""
    if present is None:
        raise ConfigError("The ledger has no tables yet.", "Any worker or pgfleet command creates them.")
    if present.version < schema.VERSION:
        raise ConfigError(
            f"The ledger's tables have version {present.version}, this pgfleet needs version {schema.VERSION}.",
            "Any upgraded worker or pgfleet command migrates them when it starts.",
        )
    if present.oldest > schema.VERSION:
        raise LedgerTooNew(
            f"The ledger's tables have version {present.version}, this pgfleet knows version {schema.VERSION}.",
            "Upgrade pgfleet on this host: a newer one has migrated the ledger.",
        )


def found(conn: Connection) -> Found | None:
    """What the tables say that are there, None when there are none."""
    if not inspect(conn).has_table(schema.version.name):
        return None
    # Not by a compiled query: SQLAlchemy would remember the columns that it found the first time.
    row = conn.exec_driver_sql(f"SELECT * FROM {schema.version.name}").mappings().one()  # noqa: S608
    return Found(row["version"], row.get("oldest", row["version"]))  # before version 2 none was compatible


def script(version: int) -> str:
    """The statements that make this version out of the one before, for every database that can hold a ledger."""
    return (files(__package__) / "sql" / f"migrate_{version:04}.sql").read_text()


def _apply(conn: Connection, migration: Migration) -> None:
    lines = (line for line in script(migration.version).splitlines() if not line.startswith("--"))
    for statement in "\n".join(lines).split(";"):
        if statement.strip():
            conn.exec_driver_sql(statement)
    conn.execute(update(schema.version).values(version=migration.version, oldest=migration.oldest))


def _wait_for_nobody(conn: Connection, version: int, target: Migration) -> None:
    alive = [*_workers(conn, version, target.oldest), *_here(conn, version, target.oldest)]
    if not alive:
        return
    more = f" and {len(alive) - _NAMED} more" if len(alive) > _NAMED else ""
    raise UpgradeBlocked(
        f"The ledger has to be migrated from version {version} to {target.version}, and there are still at work, of a"
        f" version that could not go on: {', '.join(alive[:_NAMED])}{more}.",
        "Stop them first: what they do is given back and taken up again. One that was killed counts for a minute.",
    )


def _workers(conn: Connection, version: int, oldest: int) -> list[str]:
    """Workers' main processes that are alive and know nothing as new as `oldest`."""
    workers = schema.workers.c
    query = select(workers.name, workers.version).order_by(workers.name)
    query = query.where(workers.seen_at > now() - ALIVE_SECONDS, workers.name != RECONCILE)
    if version >= 2:  # whoever wrote into version 1 knows version 1
        query = query.where(workers.schema < oldest, workers.stopped_at.is_(None))
    return [f"{row.name} (pgfleet {row.version})" for row in conn.execute(query)]


def _here(conn: Connection, version: int, oldest: int) -> list[str]:
    """Runs `--here` with a step in work. Such a process knows what it found, or made: the present version."""
    if version >= oldest:
        return []
    runs, steps = schema.runs.c, schema.steps.c
    query = select(runs.id, runs.kind, runs.here).distinct().order_by(runs.id)
    query = query.join_from(schema.runs, schema.steps, steps.run_id == runs.id)
    query = query.where(runs.here != "", steps.lease_until > now())
    return [f"{row.kind} --here, run {row.id}" for row in conn.execute(query) if not is_dead(row.here)]
