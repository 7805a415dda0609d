from __future__ import annotations

import json

import pytest

from worker.core.fingerprint import (
    ChunkSum,
    Excluded,
    Fingerprint,
    LargeObjects,
    Position,
    SequenceFingerprint,
    TableFingerprint,
)
from worker.errors import StorageError
from worker.postgres.inspect_columns import Column, row_expression
from worker.postgres.inspect_tables import Chunk, Plan, TablePlan, combine

COUNTER = SequenceFingerprint(schema_name="a", name="s", before=Position(1, False), after=Position(1, False))
WHOLE = Fingerprint(
    server_version_num=170010,
    encoding="UTF8",
    settings={"TimeZone": "UTC"},
    probe="1 2 3",
    tables=(
        TableFingerprint(
            schema_name="a", name="t", rows=2, checksum=str(2**70), columns={"b": "int", "a": "text"}
        ),
    ),
    sequences=(COUNTER,),
    large_objects=LargeObjects(count=1, checksum="-5", by_oid={"4711": "-5"}),
    objects={"view": {"a.v": "as SELECT 1;"}},
    seconds=0.25,
)


def test_json_gives_the_same_fingerprint_back() -> None:
    again = Fingerprint.from_json(WHOLE.to_json())

    assert again == WHOLE
    assert list(again.tables[0].columns) == ["b", "a"]  # in hashing order
    assert json.loads(WHOLE.to_json())["format"] == 1


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert Fingerprint.from_json(json.dumps({**json.loads(WHOLE.to_json()), "later": 1})) == WHOLE


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format": 2}'])
def test_what_is_no_fingerprint(text: str) -> None:
    with pytest.raises(StorageError, match="not a fingerprint that this version can read"):
        Fingerprint.from_json(text)


def test_sequences_read_before_and_after_the_dump() -> None:
    def reading(number: int) -> SequenceFingerprint:
        at = Position(number, True)
        return COUNTER.model_copy(update={"before": at, "after": at})

    (sequence,) = WHOLE.with_sequences([reading(5)], [reading(7)]).sequences

    assert (sequence.before, sequence.after) == (Position(5, True), Position(7, True))
    assert WHOLE.with_sequences([], []) == WHOLE


def test_excluded() -> None:
    excluded = Excluded(frozenset({"s"}), frozenset({("a", "b.c")}))

    assert excluded.covers("s", None)
    assert excluded.covers("s", "anything")
    assert excluded.covers("a", "b.c")
    assert not excluded.covers("a", "b")
    assert not excluded.covers("a.b", "c")
    assert not excluded.covers(None, None)


def test_sums_are_exact() -> None:
    top = ChunkSum(rows=1, checksum=2**63 - 1, generated=-(2**63))
    total = sum((top for _ in range(1000)), ChunkSum())
    assert total == ChunkSum(rows=1000, checksum=1000 * (2**63 - 1), generated=-1000 * 2**63)


def test_chunks_add_up_in_any_order_but_each_once() -> None:
    table = TablePlan(schema_name="a", name="t", kind="table", bytes=9, pages=2, ctid_ranges=True)
    chunks = (Chunk(table=0, high=1), Chunk(table=0, low=1), Chunk(table=None))
    plan = Plan(mode="full", tables=(table,), chunks=chunks)
    sums = [(chunk, ChunkSum(rows=n, checksum=10 * n)) for n, chunk in enumerate(chunks, start=1)]

    tables, objects = combine(plan, reversed(sums))

    assert [(t.rows, t.checksum) for t in tables] == [(3, "30")]
    assert (objects.count, objects.checksum) == (3, "30")
    for wrong in (sums[:2], [*sums, sums[0]], [(chunks[0], ChunkSum())] * 3, []):
        with pytest.raises(ValueError, match="not those of the plan"):
            combine(plan, wrong)


def column(name: str, type_: str, **changes: object) -> Column:
    known = {"is_builtin": True, "is_domain": False, "output": f"{type_}out"}
    return Column.model_validate({"name": name, "type": type_, **known, **changes})


def test_types_of_the_same_name_elsewhere_are_not_the_builtin_ones() -> None:
    assert column("a", "uuid").method == "uuid"
    assert column("a", "uuid", is_builtin=False).method == "output"


def test_the_expression_of_a_row() -> None:
    """Frozen: stored fingerprints were made with it."""
    columns = [
        column("a", "integer"),
        column("b", "bigint", is_domain=True),
        column("c", "own.mood", is_builtin=False, is_domain=True, output="enum_out"),
        column("d", "bytea"),
    ]
    assert row_expression(columns).split(" # ") == [
        "hashint4extended(4, coalesce(hashint4extended(t.\"a\"::int4, '5179864839504959602'::int8), "
        "'-1725118122576999727'::int8)",
        "coalesce(hashint4extended('-1005265567'::int4, t.\"b\"::int8), '-5016083705835758342'::int8)",
        'coalesce(hashtextextended(textin(enum_out(t."c"::own.mood)) COLLATE "C", \'-5365828716823690573\'::int8), '
        "'-124358495587786078'::int8)",
        "hash_record_extended(ROW(t.\"d\"::bytea), '4112578809909862667'::int8))",
    ]
    assert row_expression([]) == "0::int8"
