"""The tables of a database: which a dump reads, and how many rows they have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from psycopg.rows import class_row
from psycopg.sql import SQL, Composed, Identifier

from worker.core.backup import TableCount
from worker.postgres.queries import query
from worker.postgres.server import Connection

_COUNT = SQL("SELECT count(*) FROM ONLY {}")


@dataclass(frozen=True, slots=True)
class TableInfo:
    """bytes: on disk with TOAST data, without indexes; of ordinary tables and partitions only.

    kind: `partitioned` tables have no rows of their own. readable: may the connected role read it?
    filtered: would row-level security hide rows from that role?
    """

    oid: int
    schema: str
    name: str
    kind: Literal["table", "partitioned", "matview", "foreign"]
    unlogged: bool
    readable: bool
    filtered: bool
    bytes: int = 0

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def identifier(self) -> Identifier:
        return Identifier(self.schema, self.name)

    @property
    def locked(self) -> bool:
        """As in pg_dump. LOCK TABLE takes neither materialized views nor foreign tables."""
        return self.kind in ("table", "partitioned")


def list_tables(connection: Connection, excluded: Sequence[int] = ()) -> list[TableInfo]:
    """All tables of user schemas but those `excluded` (oids), by name, without sizes.

    Like all functions here it needs a session pinned by `session.sql`.
    """
    with connection.cursor(row_factory=class_row(TableInfo)) as cursor:
        return cursor.execute(query("tables"), {"excluded": list(excluded)}).fetchall()


def with_sizes(connection: Connection, tables: Sequence[TableInfo]) -> list[TableInfo]:
    """The same with `bytes`. It waits for locks: lock them before."""
    oids = [table.oid for table in tables if table.kind == "table"]
    sizes: dict[int, int | None] = dict(connection.execute(query("sizes"), {"oids": oids}).fetchall())
    return [replace(table, bytes=sizes.get(table.oid) or 0) for table in tables]


def lock_statement(tables: Sequence[TableInfo]) -> Composed:
    """ONLY, because partitions and children are tables of the list themselves."""
    names = SQL(", ").join(SQL("ONLY {}").format(table.identifier) for table in tables)
    return SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names)


def count_rows(
    connection: Connection,
    tables: Sequence[TableInfo],
    progress: Callable[[TableCount], None] | None = None,
) -> list[TableCount]:
    """Exact rows of every ordinary table and partition, a statement each; a parent's children are not its own.

    Left out: foreign tables (their rows are elsewhere, see `gaps`), unlogged ones on a standby (it has no rows
    of them), and materialized views: an archive has their definition only, a restore fills them anew, and to
    count them would be to wait for any REFRESH that is running. `progress` is called after each table.
    """
    row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
    standby = row is not None and row[0]
    counts = []
    for table in tables:
        if table.kind != "table" or (table.unlogged and standby):
            continue
        counted = connection.execute(_COUNT.format(table.identifier)).fetchone()
        assert counted is not None
        count = TableCount(schema_name=table.schema, name=table.name, rows=counted[0], bytes=table.bytes)
        counts.append(count)
        if progress is not None:
            progress(count)
    return counts
