"""One instant of a database, held still: dumps and fingerprints that import its snapshot describe the same rows.

Order matters. The advisory lock says who is at work. ACCESS SHARE locks come before the snapshot, because
TRUNCATE and rewriting ALTER TABLE are not MVCC-safe: under an older snapshot their table looks empty (manual,
"Caveats" of Concurrency Control). In a REPEATABLE READ transaction LOCK TABLE takes no snapshot, the first query
does. What was created in between is noticed, and everything starts again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice

import psycopg
from psycopg.sql import SQL, Literal

from worker.config.model import Database
from worker.errors import Busy, DumpFailed
from worker.postgres.excludes import resolve_excluded
from worker.postgres.failures import place
from worker.postgres.privileges import find_problems
from worker.postgres.queries import query
from worker.postgres.server import Connection, ServerFacts, connect, facts, translated
from worker.postgres.tables import TableInfo, list_tables, lock_statement, with_sizes

log = logging.getLogger("pgfleet.postgres")

_ATTEMPTS = 5
_LEAVING_SECONDS = 3.0  # a session that was closed just now holds its lock until the server has noticed
_BATCH = 500  # tables in one LOCK TABLE statement
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True)
class Snapshot:
    """id: for `pg_dump --snapshot`. taken_at: by the server's clock, aware. tables: all that belong in the dump.

    Valid only inside its `held_snapshot` block.
    """

    id: str
    taken_at: datetime
    tables: tuple[TableInfo, ...]
    facts: ServerFacts
    database: Database
    application_name: str
    _connection: Connection = field(repr=False)

    def alive(self) -> None:
        """Ask the server; any thread may. Raises DatabaseUnavailable when the snapshot is lost."""
        with translated(self.database, self.database.name):
            self._connection.execute("SELECT 1")

    @contextmanager
    def reader(self) -> Iterator[Connection]:
        """A connection of its own that sees this snapshot, read only and pinned (session.sql).

        It locks the tables too, so that no ALTER TABLE that comes later can get between: open readers early.
        Raises Busy when such a one waits already, DatabaseUnavailable when the snapshot is lost.
        """
        with (
            translated(self.database, self.database.name),
            closing(_open(self.database, self.application_name)) as connection,
        ):
            connection.execute(_BEGIN)
            connection.execute(SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(self.id)))
            _lock(connection, self.database, self.tables)
            yield connection


@contextmanager
def held_snapshot(database: Database, *, application_name: str) -> Iterator[Snapshot]:
    """Hold a snapshot of `database`, all its tables locked against changes of their definition.

    Raises Busy when somebody else backs the database up or keeps a table locked for longer than `lock_timeout`,
    DumpFailed when the role may not read all of it, ConfigError for exclusions that match nothing,
    DatabaseUnavailable.
    """
    with (
        translated(database, database.name),
        closing(_open(database, application_name)) as connection,
    ):
        _reserve(connection, database)
        for _ in range(_ATTEMPTS):
            taken = _take(connection, database)
            if taken is not None:
                break
            connection.execute("ROLLBACK")
        else:
            raise Busy(
                f"The tables of {database.name} change faster than they can be locked.",
                "It is tried again; schedule the backup for a time without migrations.",
            )
        snapshot = Snapshot(*taken, facts(connection), database, application_name, connection)
        log.info(
            "snapshot taken",
            extra={"action": "snapshot.take", "database": database.alias, "tables": len(snapshot.tables)},
        )
        yield snapshot


def _open(database: Database, application_name: str) -> Connection:
    connection = connect(database, database.name, application_name=application_name)
    try:
        connection.execute(query("session"))
        milliseconds = str(database.lock_timeout * 1000)
        connection.execute("SELECT set_config('lock_timeout', %s, false)", [milliseconds])
    except BaseException:
        connection.close()
        raise
    return connection


def advisory_key(database: Database) -> int:
    """The same on every worker: 64 bits of a hash of alias and name, signed as PostgreSQL's bigint is."""
    digest = hashlib.sha256(f"pgfleet:{database.alias}:{database.name}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _reserve(connection: Connection, database: Database) -> None:
    key = advisory_key(database)
    deadline = time.monotonic() + _LEAVING_SECONDS
    while connection.execute("SELECT pg_try_advisory_lock(%s::bigint)", [key]).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise _busy(connection, database, key)
        time.sleep(0.1)


def _busy(connection: Connection, database: Database, key: int) -> Busy:
    halves = {"high": key >> 32 & 0xFFFFFFFF, "low": key & 0xFFFFFFFF}
    holder = connection.execute(query("advisory_holder"), halves).fetchone()
    return Busy(
        f"{database.alias} is being backed up already{_session(holder)}.",
        "Wait until that is done; if it is a leftover, end that session on the server.",
    )


def _take(connection: Connection, database: Database) -> tuple[str, datetime, tuple[TableInfo, ...]] | None:
    """(snapshot id, time, tables), or None when tables came or went meanwhile. A transaction is left open."""
    excluded = resolve_excluded(connection, database)
    before = list_tables(connection, excluded)
    problems = find_problems(connection, database, before, excluded)
    if problems:
        raise DumpFailed(*problems[0])
    connection.execute(_BEGIN)
    try:
        _lock(connection, database, before)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.DeadlockDetected):
        return None
    row = connection.execute("SELECT pg_export_snapshot(), clock_timestamp()").fetchone()
    assert row is not None
    if list_tables(connection, excluded) != before:
        return None
    return row[0], row[1].astimezone(UTC), tuple(with_sizes(connection, before))


def _lock(connection: Connection, database: Database, tables: Sequence[TableInfo]) -> None:
    lockable = iter([table for table in tables if table.locked])
    while batch := list(islice(lockable, _BATCH)):
        try:
            connection.execute(lock_statement(batch))
        except psycopg.errors.LockNotAvailable as error:
            connection.execute("ROLLBACK")
            raise locked_error(connection, database, batch) from error


def locked_error(connection: Connection, database: Database, tables: Sequence[TableInfo]) -> Busy:
    """Busy, naming the session that keeps (or wants to keep) readers out of one of `tables`, if it is still there."""
    oids = [table.oid for table in tables]
    found = connection.execute(query("table_lockers"), {"oids": oids}).fetchone()
    name = f"Table {found[0]}" if found is not None else "A table"
    return Busy(
        f"{name} of {database.name} on {place(database)} was locked for longer than {database.lock_timeout} s"
        f"{_session(found[1:] if found is not None else None)}.",
        "It is tried again; end that session, or raise lock_timeout.",
    )


def _session(row: Sequence[object] | None) -> str:
    """Of (pid, application, role, since): ` by "psql" (pid 123, role postgres, since …)`; "" when nobody is known."""
    if row is None:
        return ""
    pid, application, role, since = row
    if pid is None:
        return " by a prepared transaction"
    started = f", since {since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if isinstance(since, datetime) else ""
    return f' by "{application}" (pid {pid}, role {role}{started})'
