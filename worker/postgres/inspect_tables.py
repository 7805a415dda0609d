"""The rows of tables and the contents of large objects as checksums, cut into chunks that anybody may take.

A chunk is read in a (sub)transaction that is rolled back, so that the locks it took go with it: those of all
tables with all their indexes at once could fill the lock table that the whole server shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from worker.core.backup import Gap, Value
from worker.core.fingerprint import ChunkSum, Excluded, LargeObjects, Mode, TableFingerprint, TableKind
from worker.postgres.inspect_columns import Column, methods, quoted, row_expression
from worker.postgres.queries import query
from worker.postgres.server import Connection

PAGE = 8192
OBJECTS_PER_CHUNK = 5000
#: Part of the algorithm: a large object is hashed in pieces of this size.
PIECE = 1024 * 1024
PIECES_PER_QUERY = 64

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
    notes: tuple[Gap, ...]

    @property
    def bytes(self) -> int:
        return sum(chunk.bytes for chunk in self.chunks)


def plan(connection: Connection, mode: Mode, chunk_pages: int, excluded: Excluded) -> Plan:
    """What to read. chunk_pages: how many 8 kB pages a chunk holds, TOAST included. Raises psycopg.Error."""
    with connection.transaction(force_rollback=True):
        columns = _columns(connection)
        tables: list[TablePlan] = []
        notes: list[Gap] = []
        rows = connection.execute(query("fingerprint_scope") + query("fingerprint_tables")).fetchall()
        for oid, schema, name, kind, size, pages, ctid_ranges, unread, condition in rows:
            if excluded.covers(schema, name):
                continue
            why = _UNREAD.get((unread or "").partition(" ")[0])
            if why is not None:
                notes.append(Gap(what=f"rows of {schema}.{name}", why=why))
                continue
            own = columns.get(oid, [])
            table = TablePlan(
                schema_name=schema,
                name=name,
                kind=kind,
                bytes=0 if unread else size or 0,
                pages=0 if unread else pages or 0,
                ctid_ranges=bool(ctid_ranges) and not condition,
                condition="WHERE false" if unread else condition,
                columns=tuple(column for column, generated in own if not generated),
                generated=tuple(column for column, generated in own if generated),
            )
            tables.append(table)
        chunks = [chunk for number, table in enumerate(tables) for chunk in _chunks(number, table, chunk_pages)]
        chunks += _object_chunks(connection)
    chunks.sort(key=lambda chunk: chunk.bytes, reverse=True)
    return Plan(mode=mode, tables=tuple(tables), chunks=tuple(chunks), notes=tuple(notes))


def read_chunk(connection: Connection, plan: Plan, chunk: Chunk) -> ChunkSum:
    """Its rows and checksum. Needs `pin` before. Raises psycopg.Error."""
    with connection.transaction(force_rollback=True):
        if chunk.table is None:
            return _read_objects(connection, plan.mode, chunk)
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
    if sorted(found_chunk.model_dump_json() for found_chunk, _ in found) != sorted(
        chunk.model_dump_json() for chunk in plan.chunks
    ):
        raise ValueError("the chunks that were read are not those of the plan")
    total: dict[int | None, ChunkSum] = {}
    for chunk, part in found:
        total[chunk.table] = total.get(chunk.table, ChunkSum()) + part
    full = plan.mode == "full"
    objects = total.get(None, ChunkSum())
    return (
        tuple(_fingerprint(table, total[number], full) for number, table in enumerate(plan.tables)),
        LargeObjects(count=objects.rows, checksum=str(objects.checksum) if full else ""),
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


def _columns(connection: Connection) -> dict[int, list[tuple[Column, bool]]]:
    rows = connection.execute(query("fingerprint_columns")).fetchall()
    return {
        oid: [
            (Column(name=name, type=type_, is_builtin=builtin, is_domain=domain, output=output), bool(generated))
            for _, name, type_, builtin, domain, output, generated in group
        ]
        for oid, group in groupby(rows, key=lambda row: row[0])
    }


def _chunks(number: int, table: TablePlan, chunk_pages: int) -> Iterator[Chunk]:
    count = -(-table.bytes // (chunk_pages * PAGE))
    if not table.ctid_ranges or count <= 1 or table.pages <= 1:
        yield Chunk(table=number, bytes=table.bytes)
        return
    step = -(-table.pages // count)
    lows = range(0, table.pages, step)
    for low in lows:
        # Rows that the snapshot sees may lie behind what was the last page a moment ago.
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
    # ONLY: the rows of inheritance children are their own. Within int8 the sum is of type numeric: exact.
    name = f"{quoted(table.schema_name)}.{quoted(table.name)}"
    return f"SELECT count(*), ({checksum})::text, ({generated})::text FROM ONLY {name} AS t {where}"


def _object_chunks(connection: Connection) -> list[Chunk]:
    rows = connection.execute(query("fingerprint_large_objects"), {"each": OBJECTS_PER_CHUNK}).fetchall()
    if not rows:
        return []
    size = connection.execute(query("fingerprint_large_object_bytes")).fetchone()
    assert size is not None
    each = size[0] // len(rows)
    lows = [row[0] for row in rows]
    return [
        Chunk(table=None, low=low, high=high, bytes=each)
        for low, high in zip(lows, [*lows[1:], None], strict=True)
    ]


def _read_objects(connection: Connection, mode: Mode, chunk: Chunk) -> ChunkSum:
    bounds = {"low": chunk.low, "high": chunk.high}
    oids = [row[0] for row in connection.execute(query("fingerprint_large_object_oids"), bounds).fetchall()]
    if mode == "counts":
        return ChunkSum(rows=len(oids))
    checksum, going_on, first, pieces = 0, oids, 0, 1
    while going_on:
        last = first + (pieces - 1) * PIECE
        parameters: dict[str, Any] = {"oids": going_on, "first": first, "last": last, "size": PIECE}
        row = connection.execute(query("fingerprint_large_object_pieces"), parameters).fetchone()
        assert row is not None
        checksum += int(row[0])
        going_on, first, pieces = row[1], last + PIECE, PIECES_PER_QUERY
    return ChunkSum(rows=len(oids), checksum=checksum)
