"""A database that was dumped and restored has the fingerprint that it had; one that was changed has not."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from fingerprint_scratch import MakeScratch, Scratch
from fingerprint_values import TYPES, VALUES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.core.compare import compare
from worker.core.fingerprint import NOTHING
from worker.local.postgres import Postgres
from worker.postgres import inspect
from worker.postgres.inspect_objects import schema_objects
from worker.postgres.queries import query

pytest_plugins = ["fingerprint_fixtures"]
PostgresOf = Callable[[int], Postgres]

#: (the source's major, the target's); the client is always the newer of the two.
PAIRS = [(15, 15), (15, 17), (16, 18)]


def copy(source: Scratch, target: Scratch, directory: Path, *options: str) -> None:
    major = max(source.server.major, target.server.major)
    target.restore(source.dump(directory / f"{source.name}.dump", major), *options)


@pytest.mark.parametrize(("source", "target"), [*PAIRS, (15, 16), (17, 18)])
def test_every_kind_of_object(
    source: int,
    target: int,
    sink: Callable[..., Scratch],
    sink_roles: Callable[[int], None],
    scratch: MakeScratch,
    tmp_path: Path,
) -> None:
    before = sink(source, icu=(source, target) == (15, 15))
    sink_roles(target)
    after = scratch(target)
    copy(before, after, tmp_path)

    comparison = compare(before.fingerprint(), after.fingerprint())

    assert comparison.matches, comparison.differences
    assert {
        (change.kind, change.reason.split(";")[0].split(":")[0]) for change in comparison.expected_changes
    } <= {
        ("grant", "PostgreSQL 17 added the privilege MAINTAIN"),
        ("not null constraint", "Since PostgreSQL 17 NOT NULL is a constraint with a name"),
        ("not null constraint", "Since PostgreSQL 18 NOT NULL is a constraint with a name"),
        ("view", f"PostgreSQL {source} and {target} print it differently"),
        ("materialized view", f"PostgreSQL {source} and {target} print it differently"),
    }
    if source == target:
        assert comparison.expected_changes == ()
    assert comparison.compared.tables == comparison.compared.checksums == 18
    assert comparison.compared.objects > 320
    assert "not to be seen" not in before.fingerprint().to_json().decode()


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_value_of_every_type(source: int, target: int, scratch: MakeScratch, tmp_path: Path) -> None:
    before, after = scratch(source), scratch(target)
    before.sql(TYPES + "".join(_one_table(number, type_) for number, type_ in enumerate(VALUES)))
    copy(before, after, tmp_path)

    comparison = compare(before.fingerprint(), after.fingerprint())

    assert comparison.matches, comparison.differences
    assert comparison.compared.tables == len(VALUES)


def _one_table(number: int, type_: str) -> str:
    rows = ", ".join(f"({_literal(text)}::text::{type_})" for text in VALUES[type_])
    return f"CREATE TABLE t{number} (v {type_});\nINSERT INTO t{number} VALUES {rows}, (NULL);\n"


def _literal(text: str | None) -> str:
    return "NULL" if text is None else "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Table:
    """rows: for each column the index of a value, None for NULL. `spot`: the row and column to change."""

    types: tuple[str, ...]
    rows: tuple[tuple[int | None, ...], ...]
    spot: tuple[int, int]
    dropped: bool
    generated: bool
    partitioned: bool

    def values(self, row: int) -> list[str]:
        return [
            f"{_literal(None if index is None else _text(type_, index))}::text::{type_}"
            for type_, index in zip(self.types, self.rows[row], strict=True)
        ]

    def script(self, name: str) -> str:
        columns = [f"c{number} {type_}" for number, type_ in enumerate(self.types)]
        if self.dropped:
            columns.insert(len(columns) // 2, "gone text DEFAULT 'gone'")
        if self.generated:
            columns.append("made int GENERATED ALWAYS AS (n * 2) STORED")
        lines = [
            f"CREATE TABLE {name} (n int, {', '.join(columns)})"
            + " PARTITION BY RANGE (n)" * self.partitioned
        ]
        if self.partitioned:
            lines.append(f"CREATE TABLE {name}_low PARTITION OF {name} FOR VALUES FROM (MINVALUE) TO (3)")
            lines.append(f"CREATE TABLE {name}_rest PARTITION OF {name} DEFAULT")
        if self.dropped:
            lines.append(f"ALTER TABLE {name} DROP COLUMN gone")
        names = ", ".join(f"c{number}" for number in range(len(self.types)))
        lines += [
            f"INSERT INTO {name} (n, {names}) VALUES ({row}, {', '.join(self.values(row))})"
            for row in range(len(self.rows))
        ]
        lines.append(f"UPDATE {name} SET n = n WHERE n % 2 = 0")  # these rows move
        return ";\n".join(lines) + ";\n"

    def change(self, name: str) -> str:
        """One value of one row becomes another one."""
        row, column = self.spot
        type_, index = self.types[column], self.rows[row][column]
        other = 0 if index is None else None if index + 1 == len(VALUES[type_]) else index + 1
        text = _literal(None if other is None else _text(type_, other))
        return f"UPDATE {name} SET c{column} = {text}::text::{type_} WHERE n = {row}"

    def home(self, name: str) -> str:
        """The table that holds the changed row."""
        if not self.partitioned:
            return f"public.{name}"
        return f"public.{name}_low" if self.spot[0] < 3 else f"public.{name}_rest"


def _text(type_: str, index: int) -> str:
    return VALUES[type_][index]


@st.composite
def tables(draw: st.DrawFn) -> Table:
    types = tuple(draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=20)))
    cells = [st.one_of(st.none(), st.integers(0, len(VALUES[type_]) - 1)) for type_ in types]
    rows = tuple(draw(st.lists(st.tuples(*cells), min_size=1, max_size=8)))
    spot = (draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(types) - 1)))
    return Table(types, rows, spot, *(draw(st.booleans()) for _ in range(3)))


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_random_tables(source: int, target: int, postgres_of: PostgresOf, tmp_path: Path) -> None:
    @settings(max_examples=4, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(tables(), min_size=3, max_size=8))
    def holds(some: list[Table]) -> None:
        before, after = Scratch(postgres_of(source)), Scratch(postgres_of(target))
        try:
            _check(before, after, some, tmp_path)
        finally:
            for database in (before, after):
                with suppress(Exception):
                    database.server.dropdb(database.name)

    holds()


def _check(before: Scratch, after: Scratch, some: list[Table], directory: Path) -> None:
    named = [(f"t{number}", table) for number, table in enumerate(some)]
    before.sql(TYPES + "".join(table.script(name) for name, table in named))
    copy(before, after, directory)
    expected = before.fingerprint(chunk_pages=1)

    comparison = compare(expected, after.fingerprint())
    assert comparison.matches, comparison.differences

    after.sql(*(table.change(name) for name, table in named))
    changed = compare(expected, after.fingerprint())
    assert sorted((difference.kind, difference.what) for difference in changed.differences) == sorted(
        ("content", table.home(name)) for name, table in named
    )


def test_a_restore_under_other_settings(scratch: MakeScratch, tmp_path: Path) -> None:
    """The database's own settings show in nothing that is compared."""
    before, after = scratch(15), scratch(15)
    before.sql(TYPES + "".join(_one_table(number, type_) for number, type_ in enumerate(VALUES)))
    copy(before, after, tmp_path)
    before.sql(
        *(
            f"ALTER DATABASE {before.name} SET {name} = {value}"
            for name, value in {
                "TimeZone": "'Asia/Kathmandu'", "DateStyle": "'SQL, DMY'", "IntervalStyle": "'iso_8601'", "jit": "on",
                "extra_float_digits": "0", "bytea_output": "'escape'", "search_path": "fp, public, pg_catalog",
                "quote_all_identifiers": "on", "client_encoding": "'LATIN1'", "xmlbinary": "'hex'",
                "standard_conforming_strings": "off",
                "statement_timeout": "200", "max_parallel_workers_per_gather": "4", "row_security": "on",
            }.items()
        )
    )  # fmt: skip

    comparison = compare(before.fingerprint(), after.fingerprint())

    assert [(difference.kind, difference.what) for difference in comparison.differences] == [
        ("database", "settings")
    ]


def test_extensions(scratch: MakeScratch, tmp_path: Path) -> None:
    """Their members are left out but for configuration tables, of which a dump carries the user's rows."""
    before, after = scratch(15), scratch(17)
    before.sql(
        "CREATE SCHEMA ext",
        "CREATE EXTENSION citext SCHEMA ext",
        "CREATE EXTENSION hstore SCHEMA ext",
        "CREATE EXTENSION pg_stat_statements SCHEMA ext VERSION '1.9'",
        "CREATE TABLE t (c ext.citext PRIMARY KEY, h ext.hstore)",
        "INSERT INTO t VALUES ('a', 'k=>v'), ('B', NULL)",
        "REVOKE EXECUTE ON FUNCTION ext.hstore_to_json(ext.hstore) FROM PUBLIC",
        "CREATE TABLE lost (a int)",
        "ALTER EXTENSION hstore ADD TABLE lost",
    )
    copy(before, after, tmp_path)
    expected = before.fingerprint()

    comparison = compare(expected, after.fingerprint())

    assert comparison.matches, comparison.differences
    reasons = {(change.kind, change.what): change.reason for change in comparison.expected_changes}
    assert "newer than 1.9" in reasons["extension", "pg_stat_statements"]
    assert [gap.what for gap in expected.notes] == ["rows of public.lost"]
    assert [table.full_name for table in expected.tables] == ["public.t"]


def test_publications_as_postgresql_14_has_them(sink: Callable[..., Scratch]) -> None:
    """No server of that major at hand; its query runs on the later ones too."""
    database = sink(15)
    with database.connect() as connection:
        inspect.pin(connection)
        statement = query("fingerprint_scope") + query("fingerprint_objects_publications_14")
        rows = connection.execute(statement).fetchall()
        known = schema_objects(connection, NOTHING)

    found: dict[str, dict[str, str]] = {}
    for kind, identity, definition, *_ in rows:
        found.setdefault(kind, {})[identity] = definition
    assert found == {kind: known[kind] for kind in ("publication", "publication member")}
