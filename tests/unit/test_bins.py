"""Laws of sharing out: nothing lost, nothing twice, and no archive much longer than it must be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.core.bins import pack, split

SIZES = st.dictionaries(st.integers(0, 500), st.integers(0, 10**12), max_size=60)


@given(SIZES, st.integers(1, 16), st.integers(0, 10**12))
def test_pack_loses_nothing_and_is_balanced(sizes: dict[int, int], count: int, first: int) -> None:
    packed = pack(sizes, count, first)
    assert len(packed) == count
    assert sorted(key for keys in packed for key in keys) == sorted(sizes)
    loads = [sum(sizes[key] for key in keys) for keys in packed]
    loads[0] += first
    total = sum(loads)
    # Graham: the last table put into a bin found it no fuller than the average.
    assert max(loads) <= max(first, total / count + max(sizes.values(), default=0))


@given(SIZES, st.integers(1, 16))
def test_pack_depends_on_nothing_else(sizes: dict[int, int], count: int) -> None:
    assert pack(sizes, count) == pack(dict(sizes), count)


@given(SIZES, st.integers(1, 16), st.integers(0, 10**13))
def test_split(sizes: dict[int, int], jobs: int, threshold: int) -> None:
    archives = split(sizes, jobs, threshold)
    taken = [key for keys in archives for key in keys]
    total = sum(sizes.values())
    assert len(archives) <= jobs - 1
    assert all(archives)
    assert len(taken) == len(set(taken))
    assert set(taken) <= set(sizes)
    assert len(taken) <= jobs * 16
    if jobs == 1 or total < threshold:
        assert not archives


def test_small_databases_and_single_jobs_are_one_archive() -> None:
    sizes = {"a": 60, "b": 30, "c": 10}
    assert split(sizes, 1, 0) == []
    assert split(sizes, 4, 101) == []
    assert split({}, 4, 0) == []


def test_large_tables_leave_the_main_archive() -> None:
    sizes = {"huge": 600, "large": 300, "middle": 250, "crumb": 1}
    assert split(sizes, 3, 1000) == [["huge"], ["large"]]
    assert split(sizes, 2, 1000) == [["huge"]]


def test_one_table_that_is_nearly_everything_leaves_a_main_archive_with_the_rest() -> None:
    assert split({"huge": 10**12, "a": 5, "b": 7}, 4, 0) == [["huge"]]
