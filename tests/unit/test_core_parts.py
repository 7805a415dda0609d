"""Part plans: every byte exactly once, within S3's limits, at no cost."""

from __future__ import annotations

import tracemalloc
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.parts import MAX_PART, MAX_PARTS, MIB, MIN_PART, PartPlan, plan

GIB = 1024 * MIB
LARGEST = MAX_PARTS * MAX_PART  # 48.8 TiB
sizes = st.one_of(
    st.integers(0, 200 * MIB),
    st.integers(0, LARGEST),
    st.integers(0, 100).map(lambda n: n * MIN_PART),  # exact multiples
    st.integers(1, 100).map(lambda n: n * MIN_PART - 1),
    st.integers(0, 100).map(lambda n: n * MIN_PART + 1),
)
part_sizes = st.one_of(st.integers(1, 600 * MIB), st.sampled_from([MIN_PART, 64 * MIB, MAX_PART]))


def cover(part_plan: PartPlan) -> None:
    """Every part follows the one before it, all are equal but the last, and they end where the file ends."""
    offset = 0
    for number in part_plan.numbers():
        start, length = part_plan.range(number)
        assert start == offset
        if number < len(part_plan):
            assert length == part_plan.part_size
        offset += length
    assert offset == part_plan.size


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400 * MIB), part_sizes)
def test_parts_cover_every_byte_exactly_once(size: int, part_size: int) -> None:
    cover(plan(size, part_size))


@settings(max_examples=300, deadline=None)
@given(sizes, part_sizes)
def test_parts_keep_the_limits_of_s3(size: int, part_size: int) -> None:
    made = plan(size, part_size)
    assert 1 <= len(made) <= MAX_PARTS
    assert MIN_PART <= made.part_size <= MAX_PART
    assert made.part_size >= part_size
    assert made.range(1)[0] == 0
    for number in {1, len(made) // 2 or 1, len(made)}:
        offset, length = made.range(number)
        assert offset == (number - 1) * made.part_size
        assert length == made.part_size or number == len(made)
    offset, length = made.range(len(made))
    assert offset + length == size
    assert length > 0 or size == 0


@settings(max_examples=200, deadline=None)
@given(sizes, part_sizes)
def test_parts_grow_only_when_they_must(size: int, part_size: int) -> None:
    wanted = max(part_size, MIN_PART)
    made = plan(size, part_size)
    if -(-size // wanted) <= MAX_PARTS:
        assert made.part_size == wanted
    else:
        assert made.part_size % MIB == 0
        assert -(-size // (made.part_size - MIB)) > MAX_PARTS


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 60), st.integers(1, 9))
def test_any_cut_covers_every_byte(size: int, part_size: int) -> None:
    made = PartPlan(size, part_size)
    cover(made)
    data = bytes(range(size))
    ranges = (made.range(number) for number in made.numbers())
    assert b"".join(data[offset : offset + length] for offset, length in ranges) == data


@pytest.mark.parametrize(
    ("size", "part_size", "parts", "last"),
    [
        (0, 64 * MIB, 1, 0),  # an empty object is one empty part
        (1, 64 * MIB, 1, 1),
        (64 * MIB, 64 * MIB, 1, 64 * MIB),
        (64 * MIB + 1, 64 * MIB, 2, 1),
        (640 * MIB, 64 * MIB, 10, 64 * MIB),
        (10 * MIB, MIB, 2, 5 * MIB),  # smaller than S3 takes
        (MAX_PARTS * 64 * MIB, 64 * MIB, MAX_PARTS, 64 * MIB),
        (LARGEST, 64 * MIB, MAX_PARTS, MAX_PART),
    ],
)
def test_edges(size: int, part_size: int, parts: int, last: int) -> None:
    made = plan(size, part_size)
    assert len(made) == parts
    assert made.range(parts)[1] == last


def test_one_byte_too_many_grows_the_parts() -> None:
    made = plan(MAX_PARTS * 64 * MIB + 1, 64 * MIB)
    assert made.part_size == 65 * MIB
    assert len(made) <= MAX_PARTS


def test_more_than_s3_holds_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit in 10000 parts"):
        plan(LARGEST + 1, 64 * MIB)
    with pytest.raises(ValueError, match="do not fit in 3 parts"):
        plan(3 * MAX_PART + 1, MIN_PART, max_parts=3)


@pytest.mark.parametrize("number", [0, -1, 11, 10**9])
def test_a_part_outside_the_plan_is_refused(number: int) -> None:
    with pytest.raises(IndexError, match=f"part {number} of 10"):
        plan(640 * MIB, 64 * MIB).range(number)


def test_a_plan_of_100_000_parts_costs_no_memory() -> None:
    tracemalloc.start()
    try:
        made = plan(100_000 * 64 * MIB, 64 * MIB, max_parts=100_000)
        total = sum(made.range(number)[1] for number in made.numbers())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made) == 100_000
    assert total == made.size
    assert peak < 20_000


def test_numbers_start_at_one_and_can_be_taken_again() -> None:
    made = plan(640 * MIB, 64 * MIB)
    assert list(made.numbers()) == list(range(1, 11))
    assert list(islice(made.numbers(), 3)) == [1, 2, 3]
