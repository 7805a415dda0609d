"""The parts of `pgfleet validate`: a test database that is seeded, lost, restored and compared. Its own litter, too."""

from __future__ import annotations

import hashlib
import logging
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from worker.config.model import Database, Settings, Target
from worker.core import keys
from worker.core.backup import parse_id
from worker.core.compare import Comparison, compare
from worker.core.drill import Check, Control
from worker.core.fingerprint import NOTHING, Fingerprint
from worker.errors import ConfigError, DatabaseUnavailable, PgfleetError
from worker.postgres import soundness, targets
from worker.postgres.control import change_one_row, pick
from worker.postgres.inspect import CHUNK_PAGES, fingerprint
from worker.postgres.inspect_tables import plan
from worker.postgres.queries import query
from worker.postgres.server import Connection, connect
from worker.steps.context import Adapters

log = logging.getLogger("pgfleet.validate")

_ALIAS = "pgfleet-validate"
_BACKUPS = re.compile(
    rf"{_ALIAS}(-[0-9a-f]{{8}})?", re.ASCII
)  # the aliases whose backups are of test databases
_PREFIX = "pgfleet_validate_"
#: A test database, and what a restore makes beside it (worker/postgres/replace.py).
_OURS = re.compile(rf"(?P<owner>{_PREFIX}[0-9a-f]{{8}})(_restore_\w+|_before_\w+)?", re.ASCII)
_MAINTENANCE = "postgres"
_STALE = timedelta(days=1)  # a backup of a test database that is older was left by somebody who was killed
_LOCK = "SELECT pg_try_advisory_lock(%s::bigint)"


def production(settings: Settings, alias: str | None) -> Database:
    """The database whose settings are validated. Raises ConfigError."""
    if alias is None and len(settings.databases) != 1:
        raise ConfigError("Several databases are configured.", "Say whose settings to validate: --database.")
    try:
        return settings.databases[alias] if alias is not None else next(iter(settings.databases.values()))
    except KeyError:
        known = ", ".join(settings.databases)
        raise ConfigError(f"There is no database called {alias!r} here.", f"Configured: {known}.") from None


def settings_for(settings: Settings, source: Database) -> Settings:
    """The same settings for a test database, of a new name, on the server of `source`."""
    token = secrets.token_hex(4)
    alias = f"{_ALIAS}-{token}"  # of its own: two validations may take their backups in the same second
    changes: dict[str, Any] = {
        "alias": alias,
        "name": f"{_PREFIX}{token}",
        "exclude_schemas": (),
        "exclude_tables": (),
        "fingerprint": "full",
        "drill_questions": None,
        "allow_replace": False,
    }
    database = source.model_copy(update=changes)
    return settings.model_copy(update={"databases": {alias: database}, "targets": {alias: target(database)}})


def target(database: Database) -> Target:
    """The server that the test database is on."""
    server = database.model_dump(include=set(Target.model_fields) - {"alias", "database", "allow_replace"})
    return Target.model_validate({**server, "alias": database.alias})


@contextmanager
def scratch_database(database: Database) -> Iterator[None]:
    """Created for the block and dropped after it, whatever happens; so are those of runs that were killed.

    A session that holds an advisory lock of the test database's name says that somebody is still at it.
    """
    with closing(connect(database, _MAINTENANCE, application_name="pgfleet validate")) as connection:
        connection.execute(query("session"))  # else a limit for idle sessions may take the lock away
        connection.execute(_LOCK, [_key(database.name)])
        for (name,) in connection.execute(
            "SELECT datname FROM pg_database WHERE starts_with(datname::text, %s)", [_PREFIX]
        ).fetchall():
            match = _OURS.fullmatch(name)
            if match is None or match["owner"] == database.name:
                continue
            owner = _key(match["owner"])
            if connection.execute(_LOCK, [owner]).fetchone() == (True,):
                targets.drop(target(database), name)
                connection.execute("SELECT pg_advisory_unlock(%s::bigint)", [owner])
        connection.execute(SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(database.name)))
        try:
            yield
        finally:
            targets.drop(target(database), database.name)


def _key(name: str) -> int:
    return int.from_bytes(
        hashlib.sha256(f"pgfleet:validate:{name}".encode()).digest()[:8], "big", signed=True
    )


def seed(database: Database, rows: int) -> int:
    """Fill the test database; its size in bytes. Raises psycopg.Error."""
    with _session(database) as connection:
        connection.execute("SELECT set_config('pgfleet.rows', %s, false)", [str(rows)])
        with connection.transaction():
            connection.execute(query("validate_seed"))
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def drop(database: Database) -> None:
    """The disaster."""
    targets.drop(target(database), database.name)


def take_fingerprint(database: Database) -> Fingerprint:
    return fingerprint(lambda: _session(database), mode="full")


def compare_restored(database: Database, expected: Fingerprint) -> tuple[Comparison, list[Check], Control]:
    """The restored database against what it was: content, foreign keys by query, a trigger that fires, the control."""
    found = take_fingerprint(database)
    comparison = compare(expected, found)
    with _session(database) as connection:
        checks = [*soundness.foreign_keys(connection, _nothing), _trigger(connection), _sequence(connection)]
        if not comparison.matches:
            return comparison, checks, Control(skipped="The comparison has found differences already.")
        work = plan(connection, "full", CHUNK_PAGES, NOTHING)
        number = pick(work, found.tables)
        assert number is not None, "the seed has rows"
        changed = change_one_row(connection, work, number)
    tables = tuple(
        changed.table if table.full_name == changed.table.full_name else table for table in found.tables
    )
    after = compare(expected, found.model_copy(update={"tables": tables}))
    named = tuple(sorted({difference.what for difference in after.differences}))
    name = changed.table.full_name
    return comparison, checks, Control(table=name, change=changed.change, ok=named == (name,), found=named)


def _nothing() -> None:
    """Nobody stops this work but a signal."""


def _trigger(connection: Connection) -> Check:
    """An image that is added must be counted in its album."""
    with connection.transaction(force_rollback=True):
        connection.execute("SET LOCAL search_path = public")
        count = "SELECT images FROM albums WHERE id = 1"
        before = connection.execute(count).fetchone()
        connection.execute("INSERT INTO images (album_id, content) VALUES (1, '')")
        after = connection.execute(count).fetchone()
    ok = before is not None and after is not None and after[0] == before[0] + 1
    name, found = "public.images: images_counted", f"{before and before[0]} → {after and after[0]}"
    return Check(kind="trigger", what=name, ok=ok, expected="fires", found=found)


def _sequence(connection: Connection) -> Check:
    """The next invoice must get a number that none has."""
    with connection.transaction(force_rollback=True):
        row = connection.execute(
            "SELECT nextval('public.invoice_numbers') > max(number) FROM public.invoices"
        ).fetchone()
    return Check(
        kind="sequence",
        what="public.invoice_numbers",
        ok=row == (True,),
        expected="goes on",
        found=str(row and row[0]),
    )


@contextmanager
def _session(database: Database) -> Iterator[Connection]:
    with closing(connect(database, database.name, application_name="pgfleet validate")) as connection:
        soundness.unhindered(connection)
        yield connection


def clean(adapters: Adapters, say: Callable[[str], None]) -> int:
    """Delete the test database's backups: this run's, and those that a killed one left more than a day ago."""
    (database,) = adapters.settings.databases.values()
    deleted, before = 0, datetime.now(UTC) - _STALE
    for alias in database.destinations:
        catalog = adapters.catalog(alias)
        try:
            for backup in _backups(adapters, alias):
                owner, at = parse_id(backup)
                if owner == database.alias or at < before:
                    catalog.forget(backup)
                    deleted += 1
        except PgfleetError as error:
            say(f"A backup of the test database stays in {alias}: {error.message} {error.hint}")
    return deleted


def _backups(adapters: Adapters, destination: str) -> list[str]:
    """The ids of what is stored of test databases: this run's and others'."""
    names = (keys.parse(info.key) for info in adapters.store(destination).list(_ALIAS))
    found = dict.fromkeys(name.backup_id for name in names if name is not None)
    return [backup for backup in found if _BACKUPS.fullmatch(parse_id(backup)[0])]


def as_unavailable(error: psycopg.Error) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"The server refused: {str(error).splitlines()[0]}.", "Its role needs CREATEDB."
    )
