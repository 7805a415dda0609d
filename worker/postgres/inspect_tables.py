"""The rows of tables as checksums, cut into chunks that anybody may take.

A chunk is read in a (sub)transaction that is rolled back, so that the locks it took go with it: those of all
tables with all their indexes at once could fill the lock table that the whole server shares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import groupby

from psycopg.rows import dict_row

from worker.core.backup import Gap, Value
from worker.core.fingerprint import ChunkSum, Excluded, LargeObjects, Mode, TableFingerprint, TableKind
from worker.postgres.inspect_columns import Column, methods, quoted, row_expression
from worker.postgres.inspect_large_objects import checksums, ranges
from worker.postgres.queries import query
from worker.postgres.server import Connection

PAGE = 8192

_UNREAD = {
    "foreign": "a foreign table's rows are on another server; pg_dump leaves them out",
    "extension": "it belongs to an extension, which makes it anew; pg_dump leaves its rows out",
    "unlogged": "an unlogged table cannot be read on a standby",
}


class TablePlan(Value):
    """bytes: on disk with TOAST. pages: of the main fork, in the server's blocks. ctid_ranges: whether they can be
    read apart. condition: the only rows that a dump writes (WHERE …, of an extension's configuration table).
    """

    schema_name: str
    name: str
    kind: TableKind
    bytes: int
    pages: int
    ctid_ranges: bool
    condition: str = ""
    columns: tuple[Column, ...] = ()
    generated: tuple[Column, ...] = ()


class Chunk(Value):
    """Pages low ≤ page < high of table number `table`; without a table, large objects of OIDs low ≤ oid < high.

    high None: to the end. bytes: how much reading it is, roughly.
    """

    table: int | None
    low: int = 0
    high: int | None = None
    bytes: int = 0


class Plan(Value):
    """Everything to read, largest chunks first. JSON, so that chunks can be read by several workers."""

    mode: Mode
    tables: tuple[TablePlan, ...]
    chunks: tuple[Chunk, ...]
    notes: tuple[Gap, ...] = ()

    @property
    def bytes(self) -> int:
        return sum(chunk.bytes for chunk in self.chunks)

    @property
    def lists_objects(self) -> bool:
        """Whether large objects are few enough to be told one by one."""
        return sum(chunk.table is None for chunk in self.chunks) <= 1


def plan(connection: Connection, mode: Mode, chunk_pages: int, excluded: Excluded) -> Plan:
    """What to read. chunk_pages: how many 8 kB pages a chunk holds, TOAST included. Raises psycopg.Error."""
    with connection.transaction(force_rollback=True):
        tables, notes = _tables(connection, excluded)
        chunks = [
            chunk for number, table in enumerate(tables) for chunk in _chunks(number, table, chunk_pages)
        ]
        for low, high, size in ranges(connection):
            chunks.append(Chunk(table=None, low=low, high=high, bytes=size))
    chunks.sort(key=lambda chunk: chunk.bytes, reverse=True)
    return Plan(mode=mode, tables=tables, chunks=tuple(chunks), notes=notes)


def read_chunk(connection: Connection, plan: Plan, chunk: Chunk) -> ChunkSum:
    """Its rows and checksum. Needs `pin` before. Raises psycopg.Error."""
    with connection.transaction(force_rollback=True):
        if chunk.table is None:
            by_oid = checksums(connection, plan.mode, chunk.low, chunk.high)
            listed = by_oid if plan.lists_objects else {}
            return ChunkSum(rows=len(by_oid), checksum=sum(by_oid.values()), by_oid=listed)
        statement = _statement(plan.tables[chunk.table], plan.mode, chunk)
        row = connection.execute(statement.encode(connection.info.encoding)).fetchone()
    assert row is not None
    return ChunkSum(rows=row[0], checksum=int(row[1]), generated=int(row[2]))


def combine(
    plan: Plan, sums: Iterable[tuple[Chunk, ChunkSum]]
) -> tuple[tuple[TableFingerprint, ...], LargeObjects]:
    """The tables' fingerprints and the large objects' out of what `read_chunk` gave, in any order.

    Raises ValueError unless every chunk of the plan is there exactly once.
    """
    found = list(sums)
    if Counter(chunk for chunk, _ in found) != Counter(plan.chunks):
        raise ValueError("the chunks that were read are not those of the plan")
    total: dict[int | None, ChunkSum] = {}
    for chunk, part in found:
        total[chunk.table] = total.get(chunk.table, ChunkSum()) + part
    full = plan.mode == "full"
    objects = total.get(None, ChunkSum())
    return (
        tuple(_fingerprint(table, total[number], full) for number, table in enumerate(plan.tables)),
        LargeObjects(
            count=objects.rows,
            checksum=str(objects.checksum) if full else "",
            by_oid={str(oid): str(number) for oid, number in objects.by_oid.items()} if full else {},
        ),
    )


def _fingerprint(table: TablePlan, total: ChunkSum, full: bool) -> TableFingerprint:
    return TableFingerprint(
        schema_name=table.schema_name,
        name=table.name,
        kind=table.kind,
        rows=total.rows,
        checksum=str(total.checksum) if full else "",
        columns=methods(table.columns),
        generated=str(total.generated) if full and table.generated else "",
        generated_columns=methods(table.generated),
    )


def _tables(connection: Connection, excluded: Excluded) -> tuple[tuple[TablePlan, ...], tuple[Gap, ...]]:
    columns = _columns(connection)
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query("fingerprint_scope") + query("fingerprint_tables")).fetchall()
    tables, notes = [], []
    for row in rows:
        oid, unread = row.pop("oid"), row.pop("unread")
        if excluded.covers(row["schema_name"], row["name"]):
            continue
        if unread:
            notes.append(Gap(what=f"rows of {row['schema_name']}.{row['name']}", why=_UNREAD[unread]))
            continue
        own = columns.get(oid, [])
        tables.append(
            TablePlan(
                **row,
                columns=tuple(column for column, generated in own if not generated),
                generated=tuple(column for column, generated in own if generated),
            )
        )
    return tuple(tables), tuple(notes)


def _columns(connection: Connection) -> dict[int, list[tuple[Column, bool]]]:
    """Relation's OID → its columns, each with whether it is generated."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(query("fingerprint_columns")).fetchall()
    return {
        oid: [(Column.model_validate(row), row["generated"]) for row in group]
        for oid, group in groupby(rows, key=lambda row: row["attrelid"])
    }


def _chunks(number: int, table: TablePlan, chunk_pages: int) -> Iterator[Chunk]:
    count = -(-table.bytes // (chunk_pages * PAGE))
    if not table.ctid_ranges or count <= 1 or table.pages <= 1:
        yield Chunk(table=number, bytes=table.bytes)
        return
    step = -(-table.pages // count)
    lows = range(0, table.pages, step)
    for low in lows:
        # The last one is open: pages that were added since may hold rows that the snapshot sees.
        high = low + step if low != lows[-1] else None
        yield Chunk(table=number, low=low, high=high, bytes=table.bytes // len(lows))


def _statement(table: TablePlan, mode: Mode, chunk: Chunk) -> str:
    checksum = generated = "0"
    if mode == "full":
        checksum = f"coalesce(sum({row_expression(table.columns)}), 0)"
        if table.generated:
            generated = f"coalesce(sum({row_expression(table.generated)}), 0)"
    where = table.condition
    if chunk.low or chunk.high is not None:
        where = f"WHERE t.ctid >= '({chunk.low},0)'"
        if chunk.high is not None:
            where += f" AND t.ctid < '({chunk.high},0)'"
    # ONLY: the rows of inheritance children are their own. The sum of int8 is numeric, so it cannot overflow.
    name = f"{quoted(table.schema_name)}.{quoted(table.name)}"
    return f"SELECT count(*), ({checksum})::text, ({generated})::text FROM ONLY {name} AS t {where}"  # noqa: S608 - quoted
