"""Each damage is found and named, and nothing else is; what does no harm is not flagged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from fingerprint_scratch import MakeScratch, PostgresOf, Scratch, make_roles, sink_statements

from worker.core.compare import compare
from worker.core.fingerprint import Fingerprint
from worker.postgres import inspect

pytest_plugins = ["fingerprint_fixtures"]

Found = set[tuple[str, str]]

#: name → (SQL on the restored copy, every difference that it makes)
DAMAGE: dict[str, tuple[str, Found]] = {
    "one byte of one value": (
        "UPDATE sink.person SET data = set_byte(data, 3, get_byte(data, 3) # 1) WHERE id = 20",
        {("content", "sink.person")},
    ),
    "a null becomes empty": (
        """UPDATE "Weird ""schema"" ünï"."täble %s {} 'x' "" é" SET "select" = '' WHERE "select" IS NULL""",
        {("content", """Weird "schema" ünï.täble %s {} 'x' " é""")},
    ),
    "a row deleted": ("DELETE FROM ONLY sink.parent", {("rows", "sink.parent"), ("content", "sink.parent")}),
    "a row doubled": (
        "INSERT INTO sink.child TABLE ONLY sink.child",
        {("rows", "sink.child"), ("content", "sink.child")},
    ),
    "a row of no columns doubled": ("INSERT INTO sink.nothing DEFAULT VALUES", {("rows", "sink.nothing")}),
    "a row replaced by a double of another": (
        "DELETE FROM left_hand WHERE a = 1; INSERT INTO left_hand VALUES (2, 'b')",
        {("content", "public.left_hand")},
    ),
    "two rows swapped between tables": (
        "UPDATE left_hand SET a = 101, b = 'A' WHERE a = 1; UPDATE right_hand SET a = 1, b = 'a' WHERE a = 101",
        {("content", "public.left_hand"), ("content", "public.right_hand")},
    ),
    "two values swapped between rows": (
        "UPDATE left_hand SET b = CASE a WHEN 1 THEN 'b' ELSE 'a' END WHERE a < 3",
        {("content", "public.left_hand")},
    ),
    "two values swapped between columns": (
        "UPDATE sink.hash_parent SET id = id WHERE false; UPDATE pairs SET a = b, b = a WHERE a = 1",
        {("content", "public.pairs")},
    ),
    "a table emptied": ("TRUNCATE left_hand", {("rows", "public.left_hand"), ("content", "public.left_hand")}),
    "an index dropped": (
        "DROP INDEX sink.person_name",
        {("index", "sink.person_name"), ("comment", "index sink.person_name")},
    ),
    "an index invalid": (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'sink.pet_abs'::regclass",
        {("index", "sink.pet_abs")},
    ),
    "a trigger dropped": (
        "DROP TRIGGER touched ON sink.person",
        {("trigger", "touched on sink.person"), ("comment", "trigger touched on sink.person")},
    ),
    "a trigger disabled": (
        "ALTER TABLE sink.person DISABLE TRIGGER touched",
        {("trigger", "touched on sink.person")},
    ),
    "a policy dropped": ("DROP POLICY mine ON sink.person", {("policy", "mine on sink.person")}),
    "a policy widened": (
        "ALTER POLICY mine ON sink.person TO sink_reader USING (true)",
        {("policy", "mine on sink.person")},
    ),
    "row security off": ("ALTER TABLE sink.person DISABLE ROW LEVEL SECURITY", {("table", "sink.person")}),
    "a large object altered": ("SELECT lo_put(4713, 2500000, '\\x00')", {("large object", "4713")}),
    "a large object longer by a zero": ("SELECT lo_put(4711, 3000, '\\x00')", {("large object", "4711")}),
    "a large object without its comment": (
        "COMMENT ON LARGE OBJECT 4711 IS NULL",
        {("comment", "large object 4711")},
    ),
    "an index of a partitioned table alone": (
        "DROP INDEX sink.event_alone",
        {("index", "sink.event_alone")},
    ),
    "a large object gone": (
        "SELECT lo_unlink(4714)",
        {("large object", "large objects"), ("large object", "4714"), ("owner", "large objects of pgfleet")},
    ),
    "a grant removed": (
        "REVOKE SELECT ON sink.event FROM sink_reader",
        {("grant", "partitioned table sink.event to sink_reader")},
    ),
    "a grant on a column removed": (
        "REVOKE UPDATE (name) ON sink.person FROM sink_writer",
        {("grant", "column sink.person.name to sink_writer")},
    ),
    "a grant to everybody": ("GRANT SELECT ON sink.pet TO PUBLIC", {("grant", "table sink.pet to PUBLIC")}),
    "a grant on the system's function removed": (
        "REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM sink_reader",
        {("grant", "function pg_catalog.pg_read_file(pg_catalog.text) to sink_reader")},
    ),
    "default privileges dropped": (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA sink REVOKE SELECT ON TABLES FROM sink_reader",
        {("default privileges", "of pgfleet in schema sink on tables to sink_reader")},
    ),
    "a function body changed": (
        "CREATE OR REPLACE FUNCTION sink.add(int, int DEFAULT 2) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE "
        "AS 'SELECT $1 - $2'",
        {("function", "sink.add(integer, integer)")},
    ),
    "a function's setting": (
        "ALTER FUNCTION sink.touch() RESET search_path",
        {("function", "sink.touch()")},
    ),
    "a constraint dropped": (
        "ALTER TABLE sink.person DROP CONSTRAINT person_name_check",
        {("check constraint", "person_name_check on sink.person")},
    ),
    "a foreign key dropped": (
        "ALTER TABLE sink.pet DROP CONSTRAINT pet_owner_id_fkey",
        {("foreign key", "pet_owner_id_fkey on sink.pet")},
    ),
    "a foreign key no longer deferrable": (
        "ALTER TABLE sink.pet ALTER CONSTRAINT pet_owner_id_fkey NOT DEFERRABLE",
        {("foreign key", "pet_owner_id_fkey on sink.pet")},
    ),
    "a constraint not validated": (
        "UPDATE pg_constraint SET convalidated = false WHERE conname = 'a_positive' AND conislocal",
        {("check constraint", "a_positive on sink.parent")},
    ),
    "not null dropped": (
        "ALTER TABLE sink.person ALTER email DROP NOT NULL",
        {("column", "sink.person.email")},
    ),
    "a default changed": (
        "ALTER TABLE sink.person ALTER name SET DEFAULT 'somebody'",
        {("column", "sink.person.name")},
    ),
    "a column added": (
        "ALTER TABLE left_hand ADD c int",
        {("column", "public.left_hand.c"), ("column order", "public.left_hand"), ("content", "public.left_hand")},
    ),
    "a column wider": (
        "ALTER TABLE left_hand ALTER a TYPE bigint",
        {("column", "public.left_hand.a"), ("content", "public.left_hand")},
    ),
    "a sequence owned by nothing": (
        "ALTER SEQUENCE sink.pet_id_seq OWNED BY NONE",
        {("sequence", "sink.pet_id_seq")},
    ),
    "a view changed": (
        "CREATE OR REPLACE VIEW sink.simple AS SELECT id, name, (age + 1) * 3 AS older FROM sink.person",
        {("view", "sink.simple")},
    ),
    "a matview not populated": (
        "REFRESH MATERIALIZED VIEW sink.moods_of_moods WITH NO DATA",
        {("materialized view", "sink.moods_of_moods")},
    ),
    "an enum with a further value": (
        "ALTER TYPE sink.mood ADD VALUE 'angry' BEFORE 'ok'",
        {("enum", "sink.mood")},
    ),
    "a domain without its check": (
        "ALTER DOMAIN sink.positive DROP CONSTRAINT above_zero",
        {("check constraint", "above_zero on domain sink.positive")},
    ),
    "a rule enabled": ("ALTER TABLE sink.pet ENABLE RULE sleeping", {("rule", "sleeping on sink.pet")}),
    "an event trigger enabled": ("ALTER EVENT TRIGGER sink_ddl ENABLE", {("event trigger", "sink_ddl")}),
    "a publication without a table": (
        "ALTER PUBLICATION sink_some DROP TABLE sink.pet",
        {("publication member", "sink_some: sink.pet")},
    ),
    "another owner": ("ALTER TABLE sink.event OWNER TO sink_owner", {("owner", "partitioned table sink.event")}),
    "a comment changed": (
        "COMMENT ON COLUMN sink.person.email IS NULL",
        {("comment", "table column sink.person.email")},
    ),
    "a storage parameter": ("ALTER TABLE sink.person RESET (fillfactor)", {("table", "sink.person")}),
    "a partition detached": (
        "ALTER TABLE sink.hash_parent DETACH PARTITION sink.hash_0",
        {("table", "sink.hash_0"), ("index", "sink.hash_0_pkey"), ("column order", "sink.hash_0")},
    ),
}  # fmt: skip
#: The roles' own differences in who holds what are told apart above; statements here may need several commands.
HARMLESS: dict[str, str] = {
    "rows moved": "UPDATE sink.parent SET a = a; UPDATE sink.person SET age = age",
    "rows in another order": (
        "CREATE TEMP TABLE kept AS TABLE left_hand; TRUNCATE left_hand; "
        "INSERT INTO left_hand SELECT * FROM kept ORDER BY a DESC"
    ),
    "a column added and dropped": "ALTER TABLE left_hand ADD c int DEFAULT 1; ALTER TABLE left_hand DROP c",
    "a rewrite": "CLUSTER sink.person",
    "indexes anew": "REINDEX TABLE sink.person",
    "statistics": "ANALYZE",
    "a grant and its end": "GRANT INSERT ON left_hand TO sink_reader; REVOKE INSERT ON left_hand FROM sink_reader",
    "an explicit default grant": "GRANT ALL ON left_hand TO pgfleet; GRANT EXECUTE ON FUNCTION sink.touch() TO PUBLIC",
    "a large object in other pages": "SELECT lo_put(4711, 100, lo_get(4711, 100, 50))",
}


@dataclass(frozen=True)
class Restored:
    """A restored database that stays as it is, and the fingerprint of its source."""

    database: Scratch
    expected: Fingerprint
    archive: Path


@pytest.fixture(scope="module")
def restored(postgres_of: PostgresOf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restored]:
    server = postgres_of(17)
    make_roles(server)
    source, target = Scratch(server), Scratch(server)
    source.sql(
        *sink_statements(),
        "CREATE TABLE left_hand (a int, b text)",
        "CREATE TABLE right_hand (a int, b text)",
        "INSERT INTO left_hand VALUES (1, 'a'), (2, 'b'), (3, NULL)",
        "INSERT INTO right_hand VALUES (101, 'A'), (102, 'B')",
        "CREATE TABLE pairs (a int, b int)",
        "INSERT INTO pairs VALUES (1, 2), (3, 3)",
    )
    archive = source.dump(tmp_path_factory.mktemp("dump") / "source.dump")
    target.restore(archive, "-j2")
    yield Restored(target, source.fingerprint(), archive)
    for database in (source, target):
        server.dropdb(database.name)


def differences(expected: Fingerprint, connection: psycopg.Connection[tuple[object, ...]]) -> Found:
    found = inspect.fingerprint(lambda: nullcontext(connection), workers=1)
    return {(difference.kind, difference.what) for difference in compare(expected, found).differences}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_found_and_named(name: str, restored: Restored) -> None:
    statements, wanted = DAMAGE[name]
    with (
        restored.database.server.connect(restored.database.name) as connection,
        connection.transaction(force_rollback=True),
    ):
        connection.execute(statements.encode())
        assert differences(restored.expected, connection) == wanted


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_change_is_not_flagged(name: str, restored: Restored) -> None:
    with (
        restored.database.server.connect(restored.database.name) as connection,
        connection.transaction(force_rollback=True),
    ):
        connection.execute(HARMLESS[name].encode())
        assert differences(restored.expected, connection) == set()


def test_vacuum_full(restored: Restored, scratch: MakeScratch) -> None:
    copy = scratch(17, restored.database.name)
    copy.sql("VACUUM FULL")

    comparison = compare(restored.expected, copy.fingerprint())

    assert comparison.matches, comparison.differences
    assert comparison.expected_changes == ()


def test_a_sequence_set_back(restored: Restored, scratch: MakeScratch) -> None:
    copy = scratch(17, restored.database.name)
    copy.sql("SELECT setval('sink.pet_id_seq', 4)", "SELECT setval('sink.untouched', 1, true)")

    found = compare(restored.expected, copy.fingerprint()).differences

    assert [(d.kind, d.what, d.expected, d.found) for d in found] == [
        ("sequence value", "sink.pet_id_seq", "5", "4"),
        ("sequence value", "sink.untouched", "1 (not called)", "1"),
    ]


def test_a_backup_taken_without_one_table(restored: Restored, scratch: MakeScratch, tmp_path: Path) -> None:
    copy = scratch(17)
    archive = restored.database.dump(tmp_path / "less.dump", 0, "--exclude-table=left_hand")
    copy.restore(archive)

    found = compare(restored.expected, copy.fingerprint()).differences

    assert {(d.kind, d.what) for d in found} == {
        ("table", "public.left_hand"),
        ("column", "public.left_hand.a"),
        ("column", "public.left_hand.b"),
        ("column order", "public.left_hand"),
        ("owner", "table public.left_hand"),
    }
    assert next(d for d in found if d.expected == "3 rows").found == "absent"


def test_restored_without_owners_and_grants(restored: Restored, scratch: MakeScratch) -> None:
    from worker.core.expected import Restored as How

    copy = scratch(17)
    copy.restore(restored.archive, "--no-owner", "--no-acl")
    found = copy.fingerprint()

    assert not compare(restored.expected, found).matches
    comparison = compare(restored.expected, found, How(owners=False, grants=False))
    assert comparison.matches, comparison.differences
    assert {change.kind for change in comparison.expected_changes} == {"owner", "grant", "default privileges"}
