"""Is a restored database sound in itself? Foreign keys by query, indexes and tables by amcheck."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Composed, Identifier

from worker.core.drill import Check
from worker.postgres.queries import query
from worker.postgres.server import Connection

#: What a database, or a role in it, may have set for its own sessions, and what a check must not obey.
_UNHINDERED = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "default_transaction_read_only": "off",
    "standard_conforming_strings": "on",
}


def unhindered(connection: Connection) -> None:
    """No setting of the restored database cuts this session short, or makes it read-only. Raises psycopg.Error."""
    connection.execute(query("fingerprint_pin"), {"settings": json.dumps(_UNHINDERED)})


def without_triggers(connection: Connection) -> None:
    """Neither triggers, event triggers nor foreign keys for the rest of the transaction, where the role may choose."""
    with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute("SET LOCAL session_replication_role = replica")


class _Key(NamedTuple):
    """A row of foreign_keys.sql."""

    name: str
    child_schema: str
    child: str
    parent_schema: str
    parent: str
    child_only: bool
    parent_only: bool
    columns: list[str]
    parent_columns: list[str]
    operators: list[list[str]]


def foreign_keys(connection: Connection, alive: Callable[[], None]) -> list[Check]:
    """Every validated one, asked and not trusted: rows whose parent is not there. Raises psycopg.Error."""
    with connection.cursor(row_factory=class_row(_Key)) as cursor:
        keys = cursor.execute(query("foreign_keys")).fetchall()
    checks = []
    for key in keys:
        alive()
        statement = _orphans(
            Identifier(key.child_schema, key.child),
            Identifier(key.parent_schema, key.parent),
            key.child_only,
            key.parent_only,
            list(zip(key.columns, key.parent_columns, key.operators, strict=True)),
        )
        row = connection.execute(statement).fetchone()
        orphans = row[0] if row else 0
        checks.append(
            Check(
                kind="foreign key",
                what=f"{key.child_schema}.{key.child}: {key.name}",
                ok=orphans == 0,
                expected="no row without its parent",
                found=f"{orphans} rows without their parent" if orphans else "none",
            )
        )
    return checks


def _orphans(
    child: Identifier,
    parent: Identifier,
    child_only: bool,
    parent_only: bool,
    columns: list[tuple[str, str, list[str]]],
) -> Composed:
    """A row with a NULL in its key has no parent to have (MATCH SIMPLE, and the whole key of MATCH FULL)."""
    equal = SQL(" AND ").join(
        SQL("p.{} OPERATOR({}.{}) c.{}").format(
            Identifier(theirs), Identifier(operator[0]), SQL(operator[1]), Identifier(ours)
        )
        for ours, theirs, operator in columns
    )
    there = SQL(" AND ").join(SQL("c.{} IS NOT NULL").format(Identifier(ours)) for ours, _, _ in columns)
    return SQL(
        "SELECT count(*) FROM {}{} AS c WHERE {} AND NOT EXISTS (SELECT FROM {}{} AS p WHERE {})"
    ).format(
        SQL("ONLY " if child_only else ""), child, there, SQL("ONLY " if parent_only else ""), parent, equal
    )


def indexes(connection: Connection, alive: Callable[[], None]) -> tuple[list[Check], str]:
    """B-trees and heaps by amcheck, and why there was none of it. Nothing of the extension stays."""
    if connection.execute("SELECT FROM pg_available_extensions WHERE name = 'amcheck'").fetchone() is None:
        return [], "The drill server has no amcheck."
    checks = []
    with connection.transaction(force_rollback=True):
        try:
            without_triggers(connection)
            with connection.transaction():
                schema = Identifier(_amcheck_schema(connection))
        except psycopg.errors.InsufficientPrivilege:
            return [], "Only a superuser may use amcheck."
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:  # what an event trigger of the database's own raises
            return [], f"amcheck could not be made: {str(error).splitlines()[0]}."
        for kind, name, oid in connection.execute(query("amcheck_relations")).fetchall():
            alive()
            found = _amcheck(connection, schema, kind, oid)
            checks.append(
                Check(kind=kind, what=name, ok=not found, expected="sound (amcheck)", found=found or "sound")
            )
    return checks, ""


def _amcheck_schema(connection: Connection) -> str:
    """Where the database has amcheck; where it has none, it is made."""
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace "
        "WHERE e.extname = 'amcheck'"
    ).fetchone()
    if row is not None:
        return str(row[0])
    connection.execute("CREATE SCHEMA pgfleet_amcheck")
    connection.execute("CREATE EXTENSION amcheck SCHEMA pgfleet_amcheck")
    return "pgfleet_amcheck"


def _amcheck(connection: Connection, schema: Identifier, kind: str, oid: int) -> str:
    check = SQL("SELECT {}.bt_index_check(%s::oid::regclass, true)").format(schema)
    verify = SQL("SELECT msg FROM {}.verify_heapam(%s::oid::regclass) LIMIT 1").format(schema)
    try:
        with connection.transaction():
            if kind == "index":
                connection.execute(check, [oid])
                return ""
            bad = connection.execute(verify, [oid]).fetchone()
            return str(bad[0]) if bad else ""
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        return str(error).splitlines()[0]
