"""The negative control: one row of a restored table is changed, and read again. Nothing of it stays."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from worker.core.fingerprint import TableFingerprint
from worker.errors import RestoreFailed
from worker.postgres.inspect import pin
from worker.postgres.inspect_tables import Plan, TablePlan, combine, read_chunk
from worker.postgres.queries import query
from worker.postgres.server import Connection
from worker.postgres.soundness import without_triggers

_READABLE = 1024**3  # bytes; a larger table is read again only when there is no smaller one


class _Column(NamedTuple):
    name: str
    category: str
    type: str
    required: bool
    in_unique: bool


class Changed(NamedTuple):
    """What was done to the table, and what it looks like with that."""

    change: str
    table: TableFingerprint


def pick(plan: Plan, found: tuple[TableFingerprint, ...]) -> int | None:
    """The number (in the plan) of a table that has rows, by chance; None when none has."""
    rows = {(table.schema_name, table.name): table.rows for table in found}
    filled = [
        number
        for number, table in enumerate(plan.tables)
        if table.kind == "table" and rows.get((table.schema_name, table.name))
    ]
    small = [number for number in filled if plan.tables[number].bytes <= _READABLE]
    if small:
        return random.choice(small)  # noqa: S311 - it must not be the same every time, no more
    return min(filled, key=lambda number: plan.tables[number].bytes, default=None)


def change_one_row(connection: Connection, plan: Plan, number: int) -> Changed:
    """Change one row of a table, fingerprint the table, roll back. Needs an autocommit connection.

    Raises psycopg.Error, RestoreFailed when no row can be changed.
    """
    table = plan.tables[number]
    pin(connection)
    with connection.transaction(force_rollback=True):
        # Neither triggers nor foreign keys: one row is to change, and nothing else. Who may not switch them off
        # has fewer values to choose from; what a trigger does elsewhere is not read, and rolled back.
        without_triggers(connection)
        _identify_rows(connection, table)
        change = _change(connection, table, content=plan.mode == "full")
        chunks = [chunk for chunk in plan.chunks if chunk.table == number]
        alone = [chunk.model_copy(update={"table": 0}) for chunk in chunks]
        only = plan.model_copy(update={"tables": (table,), "chunks": tuple(alone)})
        sums = [(chunk, read_chunk(connection, only, chunk)) for chunk in alone]
        tables = combine(only, sums)[0]
    return Changed(change, tables[0])


def _identify_rows(connection: Connection, table: TablePlan) -> None:
    """A published table without a key takes no update or delete before this; that of others stays as good as it was."""
    name = Identifier(table.schema_name, table.name)
    with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute(SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(name))


def _change(connection: Connection, table: TablePlan, *, content: bool) -> str:
    """content: whether a changed value shows; else a row has to go."""
    name = Identifier(table.schema_name, table.name)
    found = connection.execute(
        SQL("SELECT t.ctid::text FROM ONLY {} AS t {} LIMIT 1").format(name, SQL(table.condition))
    ).fetchone()
    if found is None:
        raise RestoreFailed(f"{table.name} had rows a moment ago.", "Please report this.")
    row = Literal(found[0])
    if content:
        for column, value in _attempts(connection, table):
            if _update(connection, name, row, column, value):
                return f"column {column.name} of one row changed"
    connection.execute(SQL("DELETE FROM ONLY {} WHERE ctid = {}::tid").format(name, row))
    return "one row deleted"


def _update(
    connection: Connection, name: Identifier, row: Literal, column: _Column, value: Composable
) -> bool:
    """False, and nothing done, when the value is refused or prints as before."""
    field = Identifier(column.name)
    printed = SQL("SELECT {}::text FROM ONLY {} WHERE ctid = {}::tid")
    before = connection.execute(printed.format(field, name, row)).fetchone()
    change = SQL("UPDATE ONLY {} SET {} = {} WHERE ctid = {}::tid RETURNING {}::text")
    try:
        with connection.transaction():
            after = connection.execute(change.format(name, field, value, row, field)).fetchone()
            if after is None or after == before:
                raise psycopg.Rollback
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return False
    return after is not None and after != before


def _attempts(connection: Connection, table: TablePlan) -> Iterator[tuple[_Column, Composed | SQL]]:
    name = Identifier(table.schema_name, table.name).as_string(connection)
    with connection.cursor(row_factory=class_row(_Column)) as cursor:
        columns = cursor.execute(query("control_columns"), {"table": name}).fetchall()
    for column in columns:
        field, type_ = Identifier(column.name), SQL(column.type)
        for text in (*_VALUES.get(column.category, ()), *(() if column.required else ("NULL",))):
            yield column, SQL(text).format(field=field, type=type_)


#: pg_type.typcategory → values that are likely to be another one.
_VALUES = {
    "N": ("coalesce({field} + 1, 1)", "{field} - 1", "'1'"),
    "S": ("coalesce({field}::text || '~', '~')", "overlay({field}::text placing '~' from 1 for 1)", "''"),
    "B": ("NOT coalesce({field}, false)",),
    "D": ("coalesce({field} + '1 day'::interval, '2000-01-01')", "'2000-01-01'", "'00:00:01'"),
    "T": ("coalesce({field} + '1 second'::interval, '1 second')",),
    "E": ("enum_last(NULL::{type})", "enum_first(NULL::{type})"),
    "A": ("'{{}}'::{type}", "array_append({field}, NULL)"),
    "U": ("gen_random_uuid()", "coalesce({field}::bytea || '\\x01', '\\x01')", "'{{\"pgfleet\": 1}}'"),
}
