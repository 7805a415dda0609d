"""How a fingerprint is taken: in chunks, by several at once, gently, and never with less than all rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from fingerprint_scratch import MakeScratch, Scratch

from tests.services import wait_until
from worker.core.compare import compare
from worker.core.fingerprint import NOTHING, Excluded, Fingerprint
from worker.postgres import inspect
from worker.postgres.inspect_large_objects import OBJECTS_PER_RANGE, PIECE
from worker.postgres.inspect_tables import Chunk, Plan, plan, read_chunk

pytest_plugins = ["fingerprint_fixtures"]
FILL = (
    "CREATE TABLE big (id int PRIMARY KEY, body text)",
    "INSERT INTO big SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 5000) i",
    "CREATE TABLE toasted (id int, data bytea)",
    "ALTER TABLE toasted ALTER data SET STORAGE EXTERNAL",
    "INSERT INTO toasted SELECT i, decode(repeat(md5(i::text), 250), 'hex') FROM generate_series(1, 500) i",
    "CREATE TABLE small (a int)",
    "CREATE TABLE part (a int) PARTITION BY LIST (a)",
    "CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1)",
    "INSERT INTO part VALUES (1)",
    "CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM big",
)


@pytest.fixture
def filled(scratch: MakeScratch) -> Scratch:
    database = scratch(17)
    database.sql(*FILL)
    return database


def test_chunks_and_workers_play_no_part(filled: Scratch) -> None:
    whole = filled.fingerprint(workers=1)
    seen: list[tuple[int, int]] = []

    pieces = filled.fingerprint(
        workers=3, chunk_pages=10, progress=lambda done, total: seen.append((done, total))
    )

    assert pieces.tables == whole.tables
    assert [table.full_name for table in whole.tables] == [
        "public.big", "public.mv", "public.part_1", "public.small", "public.toasted",
    ]  # fmt: skip
    assert len(seen) > 20
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0
    assert compare(whole, pieces).matches


def test_chunks_follow_the_bytes_and_are_read_by_ctid(filled: Scratch) -> None:
    with filled.connect() as connection:
        inspect.pin(connection)
        work = plan(connection, "full", 10, NOTHING)
        number = next(n for n, table in enumerate(work.tables) if table.name == "toasted")
        mine = [chunk for chunk in work.chunks if chunk.table == number]
        steps = []

        class Explained:
            """What the checksum's query would do."""

            info = connection.info
            transaction = connection.transaction

            def execute(self, statement: bytes) -> Any:
                steps.extend(row[0] for row in connection.execute(b"EXPLAIN " + statement).fetchall())
                return connection.execute("SELECT 0, '0', '0'")

        for chunk in mine:
            read_chunk(Explained(), work, chunk)  # type: ignore[arg-type]

    assert len(mine) > 1  # although its own pages are few
    assert sum("Tid Range Scan" in step for step in steps) == len(mine)
    assert [chunk.bytes for chunk in work.chunks] == sorted(
        (chunk.bytes for chunk in work.chunks), reverse=True
    )


def test_a_fleet_reads_it_in_pieces(filled: Scratch) -> None:
    """Plan and chunks travel as JSON, each chunk may be read on another connection."""
    with filled.connect() as connection:
        header = Fingerprint.from_json(inspect.header(connection, "full").to_json())
        work = Plan.model_validate_json(plan(connection, "full", 10, NOTHING).model_dump_json())
    sums = []
    for chunk in reversed(work.chunks):
        with filled.server.connect(filled.name) as connection:
            inspect.pin(connection)
            sums.append(
                (Chunk.model_validate_json(chunk.model_dump_json()), read_chunk(connection, work, chunk))
            )

    found = inspect.finish(header, work, sums, 1.5)

    assert compare(filled.fingerprint(), found).matches
    assert found.seconds == 1.5
    for wrong in (sums[:-1], [*sums, sums[0]]):
        with pytest.raises(ValueError, match="not those of the plan"):
            inspect.finish(header, work, wrong, 1.5)


def test_counts_only(filled: Scratch) -> None:
    counts, full = filled.fingerprint(mode="counts"), filled.fingerprint()

    assert [(t.name, t.rows, t.checksum) for t in counts.tables] == [
        (t.name, t.rows, "") for t in full.tables
    ]
    filled.sql("UPDATE small SET a = 2", "UPDATE big SET body = '' WHERE id = 7")
    comparison = compare(counts, filled.fingerprint())
    assert comparison.matches
    assert (comparison.compared.tables, comparison.compared.checksums) == (5, 0)


def test_locks_are_given_back(filled: Scratch) -> None:
    with filled.connect() as connection:
        work = plan(connection, "full", 10, NOTHING)
        for chunk in work.chunks:
            read_chunk(connection, work, chunk)
        inspect.header(connection, "full")
        held = connection.execute(
            "SELECT relation::regclass::text FROM pg_locks WHERE pid = pg_backend_pid() AND relation >= 16384::oid"
        ).fetchall()

    assert held == []


def test_what_is_excluded_is_not_read(filled: Scratch) -> None:
    filled.sql(
        "CREATE SCHEMA hidden", "CREATE FUNCTION hidden.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE hidden.t (a serial)", "CREATE TABLE owns (a serial PRIMARY KEY CHECK (a > 0))",
        "COMMENT ON TABLE owns IS 'x'", "COMMENT ON COLUMN owns.a IS 'x'", "COMMENT ON SEQUENCE owns_a_seq IS 'x'",
        "COMMENT ON CONSTRAINT owns_pkey ON owns IS 'x'",
        "COMMENT ON FUNCTION hidden.f() IS 'x'", "COMMENT ON SCHEMA hidden IS 'x'", "GRANT SELECT ON owns TO PUBLIC",
        "GRANT SELECT (a) ON hidden.t TO PUBLIC", "CREATE INDEX ON owns (a)", "COMMENT ON INDEX owns_a_idx IS 'x'",
    )  # fmt: skip

    found = filled.fingerprint(excluded=Excluded(frozenset({"hidden"}), frozenset({("public", "owns")})))

    identities = {identity for kind in found.objects.values() for identity in kind}
    assert not {identity for identity in identities if "hidden" in identity or "owns" in identity}
    assert not [t for t in found.tables if t.schema_name == "hidden" or t.name == "owns"]
    assert found.sequences == ()


def test_rows_hidden_by_row_security_are_an_error(filled: Scratch) -> None:
    filled.sql(
        "ALTER TABLE small ENABLE ROW LEVEL SECURITY", "CREATE POLICY none ON small USING (false)",
        f"CREATE ROLE r_{filled.name} LOGIN PASSWORD 'r' IN ROLE pg_read_all_data",
    )  # fmt: skip
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        inspect.fingerprint(as_role(filled, f"r_{filled.name}"))


def test_a_role_that_may_only_read(filled: Scratch) -> None:
    """All that pg_dump needs is enough, and the result is the superuser's."""
    role = f"r_{filled.name}"
    filled.sql(
        f"CREATE ROLE {role} LOGIN PASSWORD 'r' IN ROLE pg_read_all_data",
        "SELECT lo_from_bytea(1, 'x')", f"GRANT SELECT ON LARGE OBJECT 1 TO {role}",
    )  # fmt: skip

    assert inspect.fingerprint(as_role(filled, role)).model_copy(update={"seconds": 0}) == (
        filled.fingerprint().model_copy(update={"seconds": 0})
    )


def as_role(database: Scratch, role: str) -> Callable[[], AbstractContextManager[psycopg.Connection[Any]]]:
    return lambda: closing(psycopg.connect(database.server.dsn(database.name), user=role, password="r"))


def test_progress_may_stop_it_while_a_query_waits(filled: Scratch) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    pids: list[int] = []

    @contextmanager
    def reader() -> Iterator[psycopg.Connection[Any]]:
        with closing(filled.connect()) as connection:
            pids.append(connection.info.backend_pid)
            yield connection

    filled.sql(  # an extension's configuration table, the largest of all, with a condition that takes a minute
        "CREATE EXTENSION citext", "CREATE TABLE slow AS SELECT i FROM generate_series(1, 100000) i",
        "ALTER EXTENSION citext ADD TABLE slow",
        "UPDATE pg_extension SET extconfig = ARRAY['slow'::regclass::oid], "
        "extcondition = ARRAY['WHERE pg_sleep(60) IS NOT NULL'] WHERE extname = 'citext'",
    )  # fmt: skip
    started = time.monotonic()
    with pytest.raises(Stop):
        inspect.fingerprint(reader, workers=2, progress=stop)

    assert time.monotonic() - started < 20
    with filled.server.connect(filled.name) as other:
        query = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY (%s) AND state = 'active'"
        assert other.execute(query, [pids]).fetchone() == (0,)


def test_many_and_large_and_sparse_objects(scratch: MakeScratch, tmp_path: Path) -> None:
    before, after = scratch(17), scratch(17)
    before.sql(
        f"SELECT lo_from_bytea(0, i::text::bytea) FROM generate_series(1, {OBJECTS_PER_RANGE + 5}) i",
        f"SELECT lo_from_bytea(2, decode(repeat('ab', {PIECE}), 'hex'))",  # exactly one piece
        f"SELECT lo_from_bytea(3, decode(repeat('cd', {18 * PIECE} + 1), 'hex'))",  # further than one query
        "SELECT lo_create(4)",
        f"SELECT lo_put(4, {3 * PIECE} + 5, 'behind holes')",
        "SELECT lo_create(5)",
    )
    expected = before.fingerprint()
    after.restore(before.dump(tmp_path / "objects.dump"))
    assert compare(expected, after.fingerprint()).matches
    assert expected.large_objects.count == OBJECTS_PER_RANGE + 9
    assert expected.large_objects.by_oid == {}  # too many to be listed

    for change in (
        f"SELECT lo_put(3, {18 * PIECE}, '\\xce')",
        f"SELECT lo_put(4, {PIECE}, '\\x01')",
        "SELECT lo_put(5, 0, '\\x00')",
        f"SELECT lo_truncate64(lo_open(2, x'60000'::int), {PIECE} - 1)",
    ):
        with after.server.connect(after.name) as connection, connection.transaction(force_rollback=True):
            connection.execute(change.encode())
            with contextless(connection) as same:
                found = compare(expected, inspect.fingerprint(same, workers=1)).differences
            assert [(d.kind, d.what) for d in found] == [("large object", "large objects")], change


@contextmanager
def contextless(
    connection: psycopg.Connection[Any],
) -> Iterator[Callable[[], AbstractContextManager[psycopg.Connection[Any]]]]:
    """As a reader, a connection that stays open."""

    @contextmanager
    def reader() -> Iterator[psycopg.Connection[Any]]:
        yield connection

    yield reader


def test_bytes_that_are_no_characters(scratch: MakeScratch, tmp_path: Path) -> None:
    """A database in SQL_ASCII holds any bytes, in names and definitions too."""
    before, after = scratch(15, encoding="SQL_ASCII"), scratch(15, encoding="SQL_ASCII")
    with before.server.connect(before.name) as connection:
        connection.execute("SET client_encoding = 'SQL_ASCII'")
        connection.execute(b'CREATE TABLE "t\xe9\xff" ("c\xe4" text)')
        connection.execute(b"INSERT INTO \"t\xe9\xff\" VALUES ('\xe9'), ('\xc3\xa9'), (E'\\xff')")
        connection.execute(b"CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''\xe9'''")
    after.restore(before.dump(tmp_path / "bytes.dump"))

    comparison = compare(before.fingerprint(), after.fingerprint())

    assert comparison.matches, comparison.differences
    assert (comparison.compared.tables, comparison.compared.rows) == (1, 3)
    utf8 = scratch(15)
    assert "SQL_ASCII" in compare(before.fingerprint(), utf8.fingerprint()).incomparable[0]


def test_a_database_that_is_written_to_all_the_time(scratch: MakeScratch, tmp_path: Path) -> None:
    """Dump and fingerprint under one snapshot agree; so do sequences, which follow none."""
    before, after = scratch(17), scratch(17)
    before.sql(
        "CREATE TABLE account (id bigserial PRIMARY KEY, balance int NOT NULL, note text)",
        "INSERT INTO account (balance, note) SELECT i, repeat('x', 300) FROM generate_series(1, 3000) i",
        "CREATE SEQUENCE down INCREMENT -1 MAXVALUE 1000000 START 1000000",
    )
    done = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with before.server.connect(before.name) as connection:
            while not done.is_set():
                connection.execute("INSERT INTO account (balance, note) VALUES (nextval('down'), 'new')")
                connection.execute("UPDATE account SET balance = balance + 1 WHERE id % 500 = 3")
                connection.execute("DELETE FROM account WHERE id = (SELECT min(id) FROM account)")
                written += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with before.server.connect(before.name) as exporter:
            exporter.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            (snapshot,) = exporter.execute("SELECT pg_export_snapshot()").fetchone() or ("",)

            def reader() -> AbstractContextManager[psycopg.Connection[Any]]:
                connection = before.connect()
                connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'".encode())
                return closing(connection)

            assert wait_until(lambda: written >= 20)
            with ThreadPoolExecutor(1) as threads, reader() as connection:
                earlier = inspect.sequences(connection, NOTHING)
                dump = threads.submit(before.dump, tmp_path / "live.dump", 0, f"--snapshot={snapshot}")
                first = inspect.fingerprint(reader, chunk_pages=5)
                archive = dump.result()
                expected = first.with_sequences(earlier, inspect.sequences(connection, NOTHING))
            assert wait_until(lambda: written >= 40)
            again = inspect.fingerprint(reader, chunk_pages=500)
    finally:
        done.set()
        writer.join()

    assert again.tables == first.tables
    assert compare(expected, before.fingerprint()).differences  # it did change
    after.restore(archive)
    comparison = compare(expected, after.fingerprint())
    assert comparison.matches, comparison.differences
    assert {change.kind for change in comparison.expected_changes} <= {"sequence value"}
