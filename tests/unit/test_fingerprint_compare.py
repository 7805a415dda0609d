from __future__ import annotations

from typing import Any

import pytest

from worker.core.backup import Gap
from worker.core.compare import Comparison, compare, compare_table
from worker.core.expected import Change, Restored, reason_for_object
from worker.core.fingerprint import (
    Fingerprint,
    LargeObjects,
    Position,
    SequenceFingerprint,
    TableFingerprint,
)


def fingerprint(major: int = 17, **parts: Any) -> Fingerprint:
    return Fingerprint(server_version_num=major * 10000, encoding="UTF8", settings={}, probe="1", **parts)


def table(name: str = "t", rows: int = 3, checksum: str = "5", **more: Any) -> TableFingerprint:
    return TableFingerprint(schema_name="public", name=name, rows=rows, checksum=checksum, **more)


def sequence(before: tuple[int, bool], after: tuple[int, bool], **more: Any) -> SequenceFingerprint:
    return SequenceFingerprint(
        schema_name="public", name="s", before=Position(*before), after=Position(*after), **more
    )


def found(comparison: Comparison) -> list[tuple[str, str, str, str]]:
    return [(d.kind, d.what, d.expected, d.found) for d in comparison.differences]


def test_a_match_says_how_much_was_compared() -> None:
    one = fingerprint(
        tables=(table(), table("u", 4, "")),
        sequences=(sequence((1, True), (1, True)),),
        large_objects=LargeObjects(count=2, checksum="1"),
        objects={"view": {"a": "x", "b": "y"}, "owner": {"a": "z"}},
    )

    comparison = compare(one, one)

    assert comparison.matches
    assert comparison.compared.model_dump() == {
        "tables": 2, "rows": 7, "checksums": 1, "sequences": 1, "large_objects": 2, "objects": 3,
    }  # fmt: skip


def test_nothing_against_nothing_compares_nothing() -> None:
    assert set(compare(fingerprint(), fingerprint()).compared.model_dump().values()) == {0}


@pytest.mark.parametrize(
    ("field", "value"),
    [("algorithm", "other"), ("settings", {"a": "b"}), ("probe", "2"), ("encoding", "LATIN1")],
)
def test_what_cannot_be_compared_never_matches(field: str, value: object) -> None:
    comparison = compare(fingerprint(tables=(table(),)), fingerprint().model_copy(update={field: value}))

    assert not comparison.matches
    assert comparison.differences == ()
    assert len(comparison.incomparable) == 1


def test_tables() -> None:
    expected = fingerprint(tables=(table("same"), table("gone"), table("less"), table("other")))
    copy = fingerprint(tables=(table("same"), table("less", 2, "4"), table("other", 3, "6"), table("new")))

    assert found(compare(expected, copy)) == [
        ("table", "public.gone", "3 rows", "absent"),
        ("rows", "public.less", "3", "2"),
        ("content", "public.less", "checksum 5 over no columns", "checksum 4 over no columns"),
        ("content", "public.other", "checksum 5 over no columns", "checksum 6 over no columns"),
        ("table", "public.new", "absent", "3 rows"),
    ]


def test_dots_in_names_do_not_mix_tables_up() -> None:
    one = TableFingerprint(schema_name="a", name="b.c", rows=1)
    other = TableFingerprint(schema_name="a.b", name="c", rows=1)

    assert len(compare(fingerprint(tables=(one,)), fingerprint(tables=(other,))).differences) == 2


def test_equal_sums_over_other_columns_are_a_difference() -> None:
    assert compare_table(table(columns={"a": "int"}), table(columns={"a": "int8"}))
    assert compare_table(table(columns={"a": "int"}), table(columns={"b": "int"}))


def test_generated_columns_are_told_apart() -> None:
    (difference,) = compare_table(
        table(generated="1", generated_columns={"g": "int"}),
        table(generated="2", generated_columns={"g": "int"}),
    )
    assert (difference.kind, difference.expected) == ("generated columns", "checksum 1 over g")


def test_rows_of_a_materialized_view_are_no_part_of_a_backup() -> None:
    stale = table(kind="materialized view")

    comparison = compare(
        fingerprint(tables=(stale,), objects={"materialized view": {"public.t": "as SELECT 1"}}),
        fingerprint(tables=(table(rows=9, checksum="9", kind="materialized view"),)),
    )

    assert found(comparison) == [("materialized view", "public.t", "as SELECT 1", "absent")]
    assert [change.kind for change in comparison.expected_changes] == ["rows", "content"]


@pytest.mark.parametrize(
    ("low", "high", "here", "more", "matches"),
    [
        ((5, True), (5, True), (5, True), {}, True),
        ((5, True), (5, True), (6, True), {}, False),
        ((5, True), (5, True), (4, True), {}, False),
        ((5, False), (5, False), (5, True), {}, False),
        ((5, True), (9, True), (5, True), {}, True),
        ((5, True), (9, True), (7, True), {}, True),
        ((5, True), (9, True), (9, True), {}, True),
        ((5, True), (9, True), (4, True), {}, False),
        ((5, True), (9, True), (10, True), {}, False),
        ((1, False), (1, True), (1, True), {}, True),
        ((1, False), (9, True), (1, True), {}, True),
        ((-5, True), (-9, True), (-7, True), {"ascending": False}, True),
        ((-5, True), (-9, True), (-4, True), {"ascending": False}, False),
        ((-5, True), (-9, True), (-10, True), {"ascending": False}, False),
        ((98, True), (3, True), (1, True), {"cycles": True}, True),  # wrapped
        ((98, True), (3, True), (1, True), {}, True),  # set back meanwhile
    ],
)
def test_sequences(
    low: tuple[int, bool],
    high: tuple[int, bool],
    here: tuple[int, bool],
    more: dict[str, bool],
    matches: bool,
) -> None:
    comparison = compare(
        fingerprint(sequences=(sequence(low, high, **more),)),
        fingerprint(sequences=(sequence(here, here, **more),)),
    )
    assert comparison.matches == matches
    assert bool(comparison.expected_changes) == (matches and low != here)


def test_a_sequence_gone_or_new() -> None:
    some, none = fingerprint(sequences=(sequence((5, True), (9, False)),)), fingerprint()

    assert found(compare(some, none)) == [("sequence value", "public.s", "5 to 9 (not called)", "absent")]
    assert found(compare(none, some)) == [("sequence value", "public.s", "absent", "5")]


def test_large_objects() -> None:
    listed = LargeObjects(count=2, checksum="3", by_oid={"9": "1", "10": "2"})
    other = LargeObjects(count=2, checksum="4", by_oid={"9": "1", "11": "3"})
    many = LargeObjects(count=3000, checksum="7")

    assert found(compare(fingerprint(large_objects=listed), fingerprint(large_objects=other))) == [
        ("large object", "10", "checksum 2", "absent"),
        ("large object", "11", "absent", "checksum 3"),
    ]
    assert found(compare(fingerprint(large_objects=many), fingerprint(large_objects=listed))) == [
        ("large object", "large objects", "3000", "2"),
        ("large object", "large objects", "checksum 7", "checksum 3"),
    ]


def test_counts_against_a_full_one() -> None:
    counts, full = table(checksum=""), table(generated="1", generated_columns={"g": "int"})

    assert compare_table(counts, full) == ()
    assert [d.kind for d in compare_table(counts, table(rows=4))] == ["rows"]


SOURCE_15, SOURCE_16, SOURCE_17 = (15, 18), (16, 17), (17, 17)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            Change("extension", "citext", "1.6 in schema public", "1.10 in schema public", SOURCE_17),
            "1.10, newer than 1.6",
        ),
        (
            Change("extension", "plpgsql", None, "1.0 in schema pg_catalog", SOURCE_17),
            "does not say that it was dropped",
        ),
        (
            Change("index", "a.i", "CREATE INDEX i ON a.t (x) (invalid)", None, SOURCE_17),
            "an index that is invalid",
        ),
        (Change("not null constraint", "n on a.t", None, "NOT NULL x", SOURCE_15), "Since PostgreSQL 18"),
        (
            Change("not null constraint", "n on domain a.d", None, "NOT NULL", SOURCE_16),
            "Since PostgreSQL 17",
        ),
        (
            Change(
                "grant",
                "table a.t to x",
                "all*",
                "delete*, insert*, references*, select*, trigger*, truncate*, update*",
                SOURCE_16,
            ),
            "MAINTAIN",
        ),
        (
            Change("grant", "table a.t to x", "delete, insert", "delete, insert, maintain", SOURCE_16),
            "MAINTAIN",
        ),
        (
            Change(
                "collation",
                "a.c",
                "provider i locale de_DE nondeterministic",
                "provider i locale de-DE nondeterministic",
                (15, 16),
            ),
            "language tag",
        ),
        (
            Change(
                "view",
                "a.v",
                "as  SELECT t.x,\n    t.y\n   FROM a.t;",
                "as  SELECT x,\n y FROM a.t;",
                SOURCE_15,
            ),
            "15 and 18",
        ),
        (
            Change("check constraint", "c on a.t", "CHECK ((x > 1))", "CHECK (x > 1)", SOURCE_15),
            "parentheses",
        ),
        (
            Change(
                "function",
                "a.f()",
                "() returns int as BEGIN ATOMIC SELECT t.x; END",
                "() returns int as BEGIN ATOMIC SELECT x; END",
                SOURCE_15,
            ),
            "15 and 18",
        ),
    ],
)
def test_expected_changes_have_a_reason(change: Change, part: str) -> None:
    assert part in reason_for_object(change, Restored())


@pytest.mark.parametrize(
    "change",
    [
        Change("extension", "citext", "1.6 in schema public", "1.5 in schema public", SOURCE_15),
        Change("extension", "citext", "1.6 in schema public", "1.7 in schema other", SOURCE_15),
        Change("extension", "citext", "1.6 in schema public", None, SOURCE_15),
        Change("extension", "citext", None, "1.6 in schema public", SOURCE_15),
        Change("index", "a.i", "CREATE INDEX i ON a.t (x)", None, SOURCE_15),
        Change("index", "a.i", "CREATE INDEX i ON a.t (x)", "CREATE INDEX i ON a.t (x) (invalid)", SOURCE_15),
        Change("index", "a.i", 'CREATE UNIQUE INDEX "i ""j" ON ONLY a.t (x) (invalid)', None, SOURCE_15),
        Change("not null constraint", "n on a.t", None, "NOT NULL x", SOURCE_16),
        Change("not null constraint", "n on a.t", None, "NOT NULL x", (18, 18)),
        Change("not null constraint", "n on a.t", "NOT NULL x", None, SOURCE_15),
        Change("column", "a.t.x", "integer not null", "integer", SOURCE_15),
        Change("grant", "table a.t to x", "all", "delete, insert", SOURCE_16),
        Change("grant", "table a.t to x", "delete, insert", "delete, insert, maintain", SOURCE_17),
        Change("grant", "table a.t to x", "insert", "insert*", SOURCE_16),
        Change("grant", "table a.t to x", None, "maintain", SOURCE_16),
        Change(
            "collation",
            "a.c",
            "provider i locale de_DE nondeterministic",
            "provider i locale de-DE",
            (15, 16),
        ),
        Change("view", "a.v", "as  SELECT t.x FROM a.t;", "as SELECT x FROM a.t;", SOURCE_17),
        Change("view", "a.v", "as SELECT t.x FROM a.t;", "as SELECT y FROM a.t;", SOURCE_15),
        Change("view", "a.v", "as SELECT 'a.b' FROM a.t;", "as SELECT 'b' FROM a.t;", SOURCE_15),
        Change("view", "a.v", "as SELECT '(x)' FROM a.t;", "as SELECT 'x' FROM a.t;", SOURCE_15),
        Change("view", "a.v", "as SELECT 1.5 FROM a.t;", "as SELECT 5 FROM a.t;", SOURCE_15),
        Change("function", "a.f()", "() returns int as SELECT (x)", "() returns int as SELECT x", SOURCE_15),
        Change("owner", "table a.t", "me", "you", SOURCE_15),
    ],
)
def test_nothing_else_is_excused(change: Change) -> None:
    assert reason_for_object(change, Restored()) == ""


def test_what_the_restore_was_told_to_leave_out() -> None:
    owner = Change("owner", "table a.t", "me", "you", SOURCE_17)
    grant = Change("grant", "table a.t to x", "select", None, SOURCE_17)
    space = Change("tablespace", "table a.t", "fast", None, SOURCE_17)
    settings = Change("database", "settings", "jit=off", None, SOURCE_17)
    how = Restored(owners=False, grants=False, tablespaces=False, database=False)

    assert all(reason_for_object(change, how) for change in (owner, grant, space, settings))
    assert not any(reason_for_object(change, Restored()) for change in (owner, grant, space, settings))
    assert not reason_for_object(space._replace(found="slow"), how)
    assert not reason_for_object(settings._replace(identity="collate"), how)


def test_a_restore_of_some_tables() -> None:
    expected = fingerprint(
        tables=(table("t"), table("u"), table("v")),
        sequences=(sequence((5, True), (5, True)),),
        objects={"view": {"a.v": "x"}, "column": {"public.u.x": "int"}},
    )
    copy = fingerprint(tables=(table("u", 3, "6"),), objects={"column": {"public.u.x": "text"}})

    comparison = compare(expected, copy, Restored(tables=frozenset({("public", "u"), ("public", "v")})))

    assert [(d.kind, d.what) for d in comparison.differences] == [
        ("content", "public.u"),
        ("table", "public.v"),
        ("column", "public.u.x"),
    ]
    assert [d.what for d in comparison.expected_changes] == ["public.t", "public.s", "a.v"]


def test_values_of_settings_and_options_are_not_told() -> None:
    before = {
        "database": {"settings": "app.key=hunter2, jit=off"},
        "foreign server": {"far": "wrapper w options host=a, passfile=hunter2"},
    }
    after = {
        "database": {"settings": "app.key=hunter3, jit=off"},
        "foreign server": {"far": "wrapper w options host=b, passfile=hunter2"},
    }
    comparison = compare(fingerprint(objects=before), fingerprint(objects=after))
    told = found(comparison)
    assert len(told) == 2
    assert all(there != here and "hunter" not in there + here for _, _, there, here in told)
    assert told[1][2].startswith("wrapper w options host (sha256 ")


def test_what_a_standby_cannot_read() -> None:
    """An unlogged table and its sequence: nothing of them in the dump, and empty in the copy."""
    objects = {"sequence": {"public.s": "unlogged as integer"}}
    gap = Gap(what="rows of public.t", why="an unlogged table cannot be read on a standby")
    source = fingerprint(notes=(gap,), objects=objects)
    copy = fingerprint(
        tables=(table(rows=0),), sequences=(sequence((1, False), (1, False)),), objects=objects
    )
    assert compare(source, copy).matches
    assert len(compare(source, copy).expected_changes) == 2
    filled = copy.model_copy(update={"tables": (table(rows=1),)})
    assert [one.what for one in compare(source, filled).differences] == ["public.t"]
    logged = source.model_copy(update={"notes": (), "objects": {"sequence": {"public.s": "as integer"}}})
    assert {one.kind for one in compare(logged, copy).differences} == {"table", "sequence value", "sequence"}
