"""Which parts are read today: laws that hold for every store, and a year of daily shares."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from worker.core import scrub
from worker.core.backup import Artifact, Part

NOW = datetime(2026, 3, 29, 5, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def part(number: int, size: int = 10, days: float | None = None, backup: str = "b") -> scrub.StoredPart:
    at = None if days is None else NOW - timedelta(days=days)
    return scrub.StoredPart(backup, "o", number, 0, size, "", at)


def test_the_longest_unread_come_first_until_the_share_is_full() -> None:
    parts = [part(number, days=number) for number in range(1, 11)]
    assert [one.number for one in scrub.pick(parts, NOW, 30)] == [10]
    assert [one.number for one in scrub.pick(parts, NOW, 5)] == [10, 9, 8, 7, 6, 5, 4]


def test_what_would_be_late_is_read_whatever_the_share() -> None:
    parts = [part(number, days=29.5) for number in range(5)] + [
        part(number, days=2) for number in range(5, 200)
    ]
    assert {one.number for one in scrub.pick(parts, NOW, 30)} >= set(range(5))


def test_a_store_that_was_never_read_is_not_read_at_once() -> None:
    parts = [part(number) for number in range(300)]
    assert len(scrub.pick(parts, NOW, 30)) == 20
    late = part(999, days=40)
    assert late in scrub.pick([*parts, late], NOW, 30), "and what is late does not wait for it"


def test_what_was_read_just_now_is_left_alone() -> None:
    assert scrub.pick([part(number, days=0.1) for number in range(9)], NOW, 30) == []
    assert scrub.pick([], NOW, 30) == []


@given(
    st.lists(st.tuples(st.integers(1, 1000), st.integers(0, 28)), min_size=1, max_size=40), st.integers(2, 30)
)
def test_run_daily_every_byte_is_read_in_time(sizes: list[tuple[int, int]], days: int) -> None:
    read = {number: NOW - min(age, days - 1) * DAY for number, (_, age) in enumerate(sizes)}
    for day in range(3 * days):
        now = NOW + day * DAY
        parts = [
            scrub.StoredPart("b", "o", number, 0, size, "", read[number])
            for number, (size, _) in enumerate(sizes)
        ]
        for one in scrub.pick(parts, now, days):
            read[one.number] = now
        assert all(now - at < days * DAY for at in read.values())


def test_the_read_map_remembers() -> None:
    first = scrub.merged({}, {"a": [1, 2, 3, 7], "b": [1]}, NOW - DAY)
    assert first["a"] == [[1, 3, (NOW - DAY).isoformat()], [7, 7, (NOW - DAY).isoformat()]]
    second = scrub.merged(first, {"a": [2]}, NOW)
    assert scrub.times(second, "a") == {1: NOW - DAY, 2: NOW, 3: NOW - DAY, 7: NOW - DAY}
    assert scrub.times(second, "b") == {1: NOW - DAY}


def test_a_read_map_that_somebody_broke_was_never_read() -> None:
    for broken in (
        [["x", 2, "2026-01-01"]],
        [[1]],
        [[1, 2, "today"]],
        [[1, 2, "2026-01-01T00:00:00"]],
        [None],
    ):
        assert scrub.times({"a": broken}, "a") == {}  # type: ignore[dict-item]
    assert len(scrub.times({"a": [[1, 10**12, NOW.isoformat()]]}, "a")) == 10_000


def artifact(name: str, *sizes: int) -> Artifact:
    return Artifact(
        name=name, kind="dump", size=sum(sizes), sha256="0" * 64, plain_size=1, plain_sha256="0" * 64,
        part_size=sizes[0],
        parts=tuple(Part(number=at, size=size, sha256="0" * 64) for at, size in enumerate(sizes, 1)),
    )  # fmt: skip


def test_how_much_is_covered() -> None:
    one = artifact("a", 10, 10, 5)
    assert scrub.covered({}, [one], NOW, 30) == 0.0
    assert scrub.covered({}, [one], NOW, 30, everything_at=NOW - DAY) == 1.0
    read = scrub.merged({}, {"a": [3]}, NOW - DAY)
    assert scrub.covered(read, [one], NOW, 30) == 0.2
    assert scrub.covered(read, [one], NOW + 40 * DAY, 30) == 0.0
    assert scrub.covered({}, [], NOW, 30) == 1.0
