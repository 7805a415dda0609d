"""The algorithm: values that print differently differ, on every major alike, whatever the type thinks is equal."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
from fingerprint_scratch import MakeScratch

from worker.core.fingerprint import NOTHING
from worker.postgres import inspect
from worker.postgres.inspect_columns import Column, row_expression
from worker.postgres.inspect_tables import plan

pytest_plugins = ["fingerprint_fixtures"]

#: Type → literals that print differently. Several are equal to their neighbour for the type's own hash.
VALUES: dict[str, list[str]] = {
    "int2": ["0", "1", "-1", "32767"],
    "int4": ["0", "1", "-1", "2147483647"],
    "int8": ["0", "1", "-1", "4294967296", "4294967297", "9223372036854775807", "-9223372036854775808"],
    "oid": ["0", "1", "4294967295"],
    "bool": ["true", "false"],
    '"char"': ["a", "A", "", "\\377"],
    "text": ["", " ", "a", "A", "a ", "ä", "a\u0308", "NULL", "\\N"],
    "varchar(20)": ["", "a", "a "],
    "bpchar": ["a", "a ", "b"],
    "char(5)": ["a", "b"],
    "name": ["a", "A"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"],
    "bytea": ["", "\\x00", "\\x0000", "\\x01", "\\xff"],
    "float8": ["0", "-0", "1", "-1", "1.0000000000000002", "NaN", "Infinity", "-Infinity", "5e-324"],
    "float4": ["0", "-0", "1", "1.0000001", "NaN", "Infinity", "-Infinity", "1e-45"],
    "numeric": ["1", "1.0", "1.00", "-1", "0", "0.0", "NaN", "Infinity", "123456789012345678901234567890.5"],
    "money": ["0", "1.00", "-1.00"],
    "date": ["2026-01-01", "infinity", "-infinity", "0001-01-01 BC"],
    "time": ["00:00", "24:00", "12:00:00.000001"],
    "timetz": ["12:00+00", "13:00+01", "12:00+01"],
    "timestamp": ["2000-01-01", "2000-01-01 00:00:00.000001", "2000-01-01 01:11:34.967296", "infinity"],
    "timestamptz": ["2000-01-01Z", "2000-01-01 01:11:34.967296Z", "-infinity", "294276-12-31Z"],
    "interval": ["1 day", "24 hours", "1 mon", "30 days", "-1 day", "0"],
    "inet": ["10.0.0.1", "10.0.0.1/8", "::1", "::1/64"],
    "cidr": ["10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/32"],
    "macaddr": ["08:00:2b:01:02:03", "08:00:2b:01:02:04"],
    "macaddr8": ["08:00:2b:ff:fe:01:02:03", "08:00:2b:ff:fe:01:02:04"],
    "bit(4)": ["0000", "0001"],
    "varbit": ["", "0", "00", "1"],
    "json": ['{"a":1}', '{"a": 1}', '{"a":1,"a":1}', "null"],
    "jsonb": ['{"a":1}', '{"a":1.0}', '{"a":1.00}', '{"a":"1"}', "{}", "[]", "null", '"null"'],
    "jsonpath": ["$.a", "$.b"],
    "xml": ["<a/>", "<a></a>"],
    "tsvector": ["'a'", "'a':1", "'a':1A", "'a' 'b'"],
    "tsquery": ["'a' & 'b'", "'a' | 'b'"],
    "point": ["(0,0)", "(-0,0)", "(0,-0)", "(1e-300,0)"],
    "box": ["(1,1),(0,0)", "(1,1),(0,-0)"],
    "lseg": ["[(0,0),(1,1)]", "[(1,1),(0,0)]"],
    "path": ["[(0,0),(1,1)]", "((0,0),(1,1))"],
    "polygon": ["((0,0),(1,1))", "((1,1),(0,0))"],
    "circle": ["<(0,0),1>", "<(1,0),1>"],
    "line": ["{1,-1,0}", "{-1,1,0}"],
    "pg_lsn": ["0/0", "0/1"],
    "xid8": ["0", "4294967296"],
    "txid_snapshot": ["1:1:", "1:2:1"],
    "regtype": ["int4", "int8"],
    "regclass": ["pg_class", "pg_type"],
    "int4[]": ["{1,2}", "[0:1]={1,2}", "[2:3]={1,2}", "{{1,2}}", "{}", "{NULL}", "{1,NULL}"],
    "int8[]": ["{1}", "{4294967296}"],
    "float8[]": ["{0}", "{-0}"],
    "text[]": ["{a}", "{A}", '{""}', "{NULL}", '{"NULL"}'],
    "numeric[]": ["{1}", "{1.0}"],
    "int4range": ["[1,5)", "[1,6)", "empty", "(,5)", "(,)"],
    "numrange": ["[1,2)", "[1.0,2)", "[1,2]"],
    "tstzrange": ["[2000-01-01Z,)", "[2000-01-02Z,)"],
    "int8multirange": ["{}", "{[1,2)}", "{[1,2),[4,5)}"],
    "fp.mood": ["sad", "happy"],
    "fp.pair": ["(1,a)", "(1,A)", "(,a)", "(1,)", '(1,"")', "(,)"],
    "fp.pair[]": ['{"(1,a)"}', '{"(1,b)"}'],
    "fp.grade": ["1", "2"],
    "fp.grades": ["{1}", "[0:0]={1}"],
    "fp.feeling": ["sad", "happy"],
    "fp.token": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"],
    "fp.blob": ["\\x00", "\\x01"],
    "fp.amount": ["0", "-0", "1"],
    "fp.longer": ["abc", "abc ", "ABC"],
    "fp.deep": ["1", "4294967296"],
    "fp.reals": ["[1,2)", "[1,2]"],
}
TYPES = """
CREATE SCHEMA fp;
CREATE TYPE fp.mood AS ENUM ('sad', 'happy');
CREATE TYPE fp.pair AS (a int, b text);
CREATE DOMAIN fp.grade AS int2;
CREATE DOMAIN fp.grades AS fp.grade[];
CREATE DOMAIN fp.feeling AS fp.mood;
CREATE DOMAIN fp.token AS uuid;
CREATE DOMAIN fp.blob AS bytea;
CREATE DOMAIN fp.amount AS float4;
CREATE DOMAIN fp.longer AS bpchar;
CREATE DOMAIN fp.shallow AS int8;
CREATE DOMAIN fp.deep AS fp.shallow;
CREATE TYPE fp.reals AS RANGE (subtype = float8);
"""
CONTRIB: dict[str, list[str]] = {
    "ext.citext": ["a", "A"],
    "ext.hstore": ["a=>1", "a=>2", 'a=>"NULL"', "a=>NULL", ""],
    "ext.ltree": ["a", "a.b"],
    "ext.cube": ["(1)", "(1,2)"],
    "ext.isbn": ["0-306-40615-2", "0-19-853453-1"],
    "ext.citext[]": ["{a}", "{A}"],
}


def numbers(connection: psycopg.Connection, values: dict[str, list[str]]) -> dict[tuple[str, str], int]:
    """(type, literal) → the number of a row that holds it, by a table for each type."""
    found = {}
    for number, (type_, literals) in enumerate(values.items()):
        connection.execute(f'CREATE TABLE "t{number}" (n serial, v {type_})'.encode())
        with connection.cursor() as cursor:
            for literal in literals:
                cursor.execute(f'INSERT INTO "t{number}" (v) VALUES (%s::text::{type_})'.encode(), [literal])
    connection.execute("SET search_path = ''")
    inspect.pin(connection)
    tables = {table.name: table for table in plan(connection, "full", 100, NOTHING).tables}
    for number, (type_, literals) in enumerate(values.items()):
        columns = [column for column in tables[f"t{number}"].columns if column.name == "v"]
        query = f'SELECT {row_expression(columns)} FROM public."t{number}" t ORDER BY n'
        rows = connection.execute(query.encode()).fetchall()
        found |= {(type_, literal): row[0] for literal, row in zip(literals, rows, strict=True)}
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


def assert_distinct(found: dict[tuple[str, str], int]) -> None:
    for type_ in {type_ for type_, _ in found}:
        mine = {literal: number for (t, literal), number in found.items() if t == type_}
        assert len(set(mine.values())) == len(mine), f"{type_}: {mine}"


def test_the_algorithm_is_what_backups_were_made_with(scratch: MakeScratch) -> None:
    """Stored fingerprints are compared years later: these numbers never change under the name pgfleet-1."""
    database = scratch(17)
    database.sql(
        "CREATE TABLE t (i int, b bigint, t text, u uuid, y bytea, f float8, n numeric, o oid)",
        "INSERT INTO t VALUES (1, 2, 'three', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '\\x05', 6.5, 7.00, 8), (NULL, NULL, "
        "NULL, NULL, NULL, NULL, NULL, NULL)",
    )

    (table,) = database.fingerprint().tables

    assert table.columns == {
        "b": "int8", "f": "float", "i": "int", "n": "output", "o": "oid", "t": "text", "u": "uuid", "y": "bytes",
    }  # fmt: skip
    assert (table.rows, table.checksum) == (2, "")


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
