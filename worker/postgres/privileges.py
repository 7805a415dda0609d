"""What the connected role may not read: a dump would fail on it, or come without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from worker.config.model import Database
from worker.postgres.excludes import resolve_excluded
from worker.postgres.queries import query
from worker.postgres.server import Connection
from worker.postgres.tables import TableInfo, list_tables

_SHOWN = 5


class Problem(NamedTuple):
    """One sentence that says what is wrong, and what to do about it."""

    message: str
    hint: str


def privilege_problems(connection: Connection, database: Database) -> list[Problem]:
    """Why a dump of `database` by this role cannot be complete; empty when it can.

    It changes the settings of the session. Raises psycopg.Error, ConfigError for exclusions that match nothing.
    """
    connection.execute(query("session"))
    excluded = resolve_excluded(connection, database)
    return find_problems(connection, database, list_tables(connection, excluded), excluded)


def find_problems(
    connection: Connection, database: Database, tables: Sequence[TableInfo], excluded: Sequence[int]
) -> list[Problem]:
    """The same for tables that are known already. The session must be pinned (session.sql)."""
    role, name = database.user, database.name
    grant = f'GRANT pg_read_all_data TO "{role}" (since PostgreSQL 14), or exclude them from the backup.'
    without = {"excluded": list(excluded)}
    schemas = [row[0] for row in connection.execute(query("unreadable_schemas"), without)]
    unreadable = [str(t) for t in tables if t.locked and not t.readable and t.schema not in schemas]
    filtered = [str(table) for table in tables if table.locked and table.filtered]
    sequences = [row[0] for row in connection.execute(query("unreadable_sequences"), without)]
    large_objects = connection.execute(query("unreadable_large_objects")).fetchone()
    problems = [
        Problem(f"{role} may not read {len(names)} {what}{_s(names)} of {name}: {_some(names)}.", grant)
        for what, names in (("schema", schemas), ("table", unreadable), ("sequence", sequences))
        if names
    ]
    if filtered:
        problems.append(
            Problem(
                f"Row-level security hides rows from {role} in {len(filtered)} table{_s(filtered)} of {name}:"
                f" {_some(filtered)}.",
                f'ALTER ROLE "{role}" BYPASSRLS, or dump as the tables\' owner or as a superuser.',
            )
        )
    if large_objects is not None and large_objects[0]:
        problems.append(
            Problem(
                f"{role} may not read {large_objects[0]} large objects of {name}.",
                f'GRANT SELECT ON LARGE OBJECT … TO "{role}", or dump as their owner or as a superuser.',
            )
        )
    return problems


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _s(names: Sequence[str]) -> str:
    return "" if len(names) == 1 else "s"
