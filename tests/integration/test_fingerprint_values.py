"""The algorithm: values that print differently differ, on every major alike, whatever the type thinks is equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from fingerprint_scratch import MakeScratch
from fingerprint_values import CONTRIB, TYPES, VALUES

from worker.core.fingerprint import NOTHING
from worker.postgres import inspect
from worker.postgres.inspect_columns import Column, row_expression
from worker.postgres.inspect_tables import plan

pytest_plugins = ["fingerprint_fixtures"]


def numbers(connection: psycopg.Connection[Any], values: dict[str, list[str]]) -> dict[tuple[str, str], int]:
    """(type, literal) → the number of a row that holds it, by a table for each type."""
    found = {}
    for number, (type_, literals) in enumerate(values.items()):
        rows = ", ".join(f"(%s::text::{type_})" for _ in literals)
        connection.execute(f"CREATE TABLE t{number} (n serial, v {type_})".encode())
        connection.execute(f"INSERT INTO t{number} (v) VALUES {rows}".encode(), literals)
    inspect.pin(connection)
    tables = {table.name: table for table in plan(connection, "full", 100, NOTHING).tables}
    for number, (type_, literals) in enumerate(values.items()):
        columns = [column for column in tables[f"t{number}"].columns if column.name == "v"]
        query = f"SELECT {row_expression(columns)} FROM public.t{number} t ORDER BY n"
        rows_found = connection.execute(query.encode()).fetchall()
        found |= {(type_, literal): row[0] for literal, row in zip(literals, rows_found, strict=True)}
    return found


@pytest.fixture
def numbers_on(scratch: MakeScratch) -> Callable[[int], dict[tuple[str, str], int]]:
    def numbers_(major: int) -> dict[tuple[str, str], int]:
        database = scratch(major)
        database.sql(TYPES)
        with database.server.connect(database.name) as connection:
            return numbers(connection, VALUES)

    return numbers_


def test_what_prints_differently_hashes_differently_and_alike_on_every_major(
    numbers_on: Callable[[int], dict[tuple[str, str], int]],
) -> None:
    by_major = {major: numbers_on(major) for major in (15, 16, 17, 18)}

    assert_distinct(by_major[15])
    assert by_major[15] == by_major[16] == by_major[17] == by_major[18]


def test_types_of_extensions(scratch: MakeScratch) -> None:
    by_major = {}
    for major in (15, 17):
        database = scratch(major)
        database.sql("CREATE SCHEMA ext")
        for extension in ("citext", "hstore", "ltree", "cube", "isn"):
            database.sql(f"CREATE EXTENSION {extension} SCHEMA ext")
        with database.server.connect(database.name) as connection:
            by_major[major] = numbers(connection, CONTRIB)

    assert_distinct(by_major[15])
    assert by_major[15] == by_major[17]


def test_xml(scratch: MakeScratch) -> None:
    database = scratch(15)  # the one that is built with libxml
    with database.server.connect(database.name) as connection:
        assert_distinct(numbers(connection, {"xml": ["<a/>", "<a></a>", "<a b='1'/>", "a<b/>"]}))


def assert_distinct(found: dict[tuple[str, str], int]) -> None:
    for type_ in {type_ for type_, _ in found}:
        mine = {literal: number for (t, literal), number in found.items() if t == type_}
        assert len(set(mine.values())) == len(mine), f"{type_}: {mine}"


def test_the_algorithm_is_what_backups_were_made_with(scratch: MakeScratch) -> None:
    """Stored fingerprints are compared years later: these numbers never change under the name pgfleet-1."""
    database = scratch(17)
    database.sql(
        "CREATE TABLE t (i int, b bigint, t text, u uuid, y bytea, f float8, n numeric, o oid)",
        "INSERT INTO t VALUES (1, 2, 'three', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\\x05', 6.5, 7.00, 8), "
        "(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )

    (table,) = database.fingerprint().tables

    assert table.columns == {
        "b": "int8", "f": "float", "i": "int", "n": "output", "o": "oid", "t": "text", "u": "uuid", "y": "bytes",
    }  # fmt: skip
    assert (table.rows, table.checksum) == (2, "-7331243457552878055")


def test_nulls_and_values_keep_their_column(scratch: MakeScratch) -> None:
    """Each row differs from the others only by which columns hold the NULLs, or by two values that swapped."""
    database = scratch(17)
    columns = [
        f"{type_}_{n} {type_}"
        for type_ in ("int", "int8", "text", "bytea", "float8", "numeric")
        for n in (1, 2)
    ]
    values = ["NULL", "1", "2", "3"]
    rows = [
        "("
        + ", ".join(f"'{a}'" if n % 2 else f"'{b}'" for n in range(len(columns))).replace("'NULL'", "NULL")
        + ")"
        for a in values
        for b in values
    ]
    one_null = [
        "(" + ", ".join("NULL" if n == m else "'1'" for n in range(len(columns))) + ")"
        for m in range(len(columns))
    ]
    database.sql(
        f"CREATE TABLE t ({', '.join(columns)})", f"INSERT INTO t VALUES {', '.join(rows + one_null)}"
    )
    with database.connect() as connection:
        inspect.pin(connection)
        (table,) = plan(connection, "full", 100, NOTHING).tables
        query = f"SELECT {row_expression(table.columns)} FROM public.t t"
        numbers = [row[0] for row in connection.execute(query.encode()).fetchall()]

    assert len(set(numbers)) == len(numbers) == len(rows) + len(one_null)


def test_any_number_of_columns(scratch: MakeScratch) -> None:
    database = scratch(17)
    database.sql(
        f"CREATE TABLE wide ({', '.join(f'c{n} int' for n in range(1600))})",
        "CREATE TABLE none ()",
        "INSERT INTO wide (c7, c1599) VALUES (1, 2), (2, 1)",
        "INSERT INTO none DEFAULT VALUES",
    )

    none, wide = database.fingerprint().tables

    assert (none.rows, none.checksum) == (1, "0")
    assert (wide.rows, len(wide.columns)) == (2, 1600)


def test_names_cannot_break_the_expression() -> None:
    column = Column(name='a"b', type="text", is_builtin=True, is_domain=False, output="textout")
    assert 't."a""b"' in row_expression([column])
