"""The server that a restore writes to: what it is, what it has, and what stands in the way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier

from worker.config.model import Target
from worker.core.restore_plan import no_event_triggers, pgoptions
from worker.core.versions import Version, from_number
from worker.errors import Busy, DatabaseUnavailable, DumpFailed, PgfleetError, RestoreFailed
from worker.postgres.queries import query
from worker.postgres.server import Connection, connect, translated

APPLICATION = "pgfleet restore"


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """Sizes in bytes. data_directory: None where we may not know."""

    version_num: int
    in_recovery: bool
    superuser: bool
    may_create_databases: bool
    may_create_roles: bool
    databases: list[str]
    extensions: list[str]
    roles: list[str]
    tablespaces: list[str]
    shared_buffers: int
    maintenance_work_mem: int
    free_connections: int
    data_directory: str | None

    @property
    def version(self) -> Version:
        return from_number(self.version_num)


@dataclass(frozen=True, slots=True)
class Found:
    """A database of the server. ours: we may rename and drop it. bytes: None where we may not know."""

    oid: int
    owner: str
    ours: bool
    allows_connections: bool
    is_template: bool
    connection_limit: int
    tablespace: str
    comment: str | None
    bytes: int | None
    prepared: int
    slots: int


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody's connection to a database, and whether we may end it."""

    pid: int
    role: str
    application: str
    ours_to_end: bool


@dataclass(frozen=True, slots=True)
class Identity:
    """A server, whatever name it is reached by. `cluster` outlives a restart, `started` tells clones apart."""

    cluster: str
    started: str


@contextmanager
def restoring(target: Target, dbname: str) -> Iterator[None]:
    """What goes wrong with the target is a failed restore (exit code 6), tried again where that may help."""
    try:
        with translated(target, dbname):
            yield
    except (DatabaseUnavailable, DumpFailed, Busy) as error:
        raise as_restore(error) from error


def as_restore(error: PgfleetError) -> RestoreFailed:
    failed = RestoreFailed(error.message, error.hint)
    failed.retryable = error.retryable
    return failed


@contextmanager
def maintenance(target: Target) -> Iterator[Connection]:
    """A connection from which databases are created, renamed and dropped. Raises RestoreFailed, ConfigError."""
    with session(target, target.maintenance_db) as connection:
        yield connection


@contextmanager
def session(target: Target, dbname: str) -> Iterator[Connection]:
    """A connection that no setting of server, role or database cuts short or makes read-only."""
    with (
        restoring(target, dbname),
        closing(enter(target, dbname, application_name=APPLICATION)) as connection,
    ):
        connection.execute(query("session"))
        connection.execute("SET default_transaction_read_only = off")
        connection.execute("SET synchronous_commit = on")
        yield connection


def enter(target: Target, dbname: str, *, application_name: str) -> Connection:
    """A connection that fires no trigger of the database's own at login (17): such a one may write a row into what
    is compared, or refuse us. Only a superuser can have restored one, and may switch it off.
    """
    if dbname == target.maintenance_db:
        return connect(target, dbname, application_name=application_name)
    with closing(connect(target, target.maintenance_db, application_name=application_name)) as asked:
        known = from_number(asked.info.server_version)
        options = pgoptions(no_event_triggers(known, asked.info.parameter_status("is_superuser") == "on"))
    return connect(target, dbname, application_name=application_name, options=options)


def facts(connection: Connection) -> TargetFacts:
    """Raises psycopg.Error."""
    with connection.cursor(row_factory=class_row(TargetFacts)) as cursor:
        found = cursor.execute(query("target_facts")).fetchone()
    assert found is not None
    return found


def identity(connection: Connection) -> Identity | None:
    """None where we may not ask. Raises psycopg.Error."""
    with connection.cursor(row_factory=class_row(Identity)) as cursor:
        try:
            return cursor.execute(query("server_identity")).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            return None


def find(connection: Connection, name: str) -> Found | None:
    with connection.cursor(row_factory=class_row(Found)) as cursor:
        return cursor.execute(query("target_database"), {"name": name}).fetchone()


def sessions(connection: Connection, name: str) -> list[Session]:
    with connection.cursor(row_factory=class_row(Session)) as cursor:
        return cursor.execute(query("target_sessions"), {"name": name}).fetchall()


def contents(target: Target, name: str) -> list[str]:
    """Some of what is in a database; nothing when it is empty."""
    with session(target, name) as connection:
        found = [str(row[0]) for row in connection.execute(query("target_objects"))]
        return found or _rows_of_extensions(connection)


def _rows_of_extensions(connection: Connection) -> list[str]:
    """Tables of extensions in which somebody has put rows: what pg_dump would take of them."""
    found = []
    for schema, table, condition in connection.execute(query("target_extension_rows")).fetchall():
        # The condition is SQL, as the extension gave it to pg_extension_config_dump().
        statement = SQL("SELECT EXISTS (SELECT FROM {} {})").format(Identifier(schema, table), SQL(condition))
        if connection.execute(statement).fetchone() == (True,):
            found.append(f"rows in {schema}.{table}")
    return found


def free_space(target: Target, found: TargetFacts) -> int | None:
    """Bytes free where the server keeps its data; None when it is on another machine, or does not tell."""
    local = target.host.startswith("/") or target.host in ("localhost", "127.0.0.1", "::1")
    if not local or found.data_directory is None:
        return None
    try:
        return shutil.disk_usage(Path(found.data_directory)).free
    except OSError:
        return None


def drop(target: Target, name: str) -> bool:
    """Drop a database with whoever is in it; False when there was none. Its subscriptions go first, without a word
    to their publishers: DROP DATABASE refuses while there are any. Raises RestoreFailed.
    """
    with maintenance(target) as connection:
        found = find(connection, name)
        if found is None:
            return False
        if found.allows_connections:
            _drop_subscriptions(target, name)
        connection.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
        return True


def _drop_subscriptions(target: Target, name: str) -> None:
    with session(target, name) as connection:
        own = "SELECT subname FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = %s)"
        for (subscription,) in connection.execute(own, [name]).fetchall():
            identifier = Identifier(subscription)
            connection.execute(SQL("ALTER SUBSCRIPTION {} DISABLE").format(identifier))
            connection.execute(SQL("ALTER SUBSCRIPTION {} SET (slot_name = NONE)").format(identifier))
            connection.execute(SQL("DROP SUBSCRIPTION {}").format(identifier))
