"""Months, what a schedule owes, and the longest time without a backup."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core import period
from worker.core.period import Span, Window
from worker.errors import ConfigError

SEPTEMBER = period.month("2026-09")
LATER = datetime(2027, 1, 1, tzinfo=UTC)
EARLIER = datetime(2026, 1, 1, tzinfo=UTC)


def at(day: int, hour: int = 2, month: int = 9) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def test_months() -> None:
    assert (SEPTEMBER.begin, SEPTEMBER.end) == (at(1, 0), at(1, 0, 10))
    assert period.month("2026-12").end == datetime(2027, 1, 1, tzinfo=UTC)
    assert len(list(period.month("2028-02").days())) == 29
    assert period.month_before(at(1, 0, 10)) == SEPTEMBER
    assert period.month_before(datetime(2026, 1, 31, tzinfo=UTC)).name == "2025-12"


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-9", "09-2026", "9999-12", "2026-09-01"])
def test_no_months(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a month"):
        period.month(text)


def test_a_slot_a_day() -> None:
    found = period.windows("0 2 * * *", SEPTEMBER, EARLIER, LATER)
    assert len(found) == 30
    assert found[0] == Window(at(1), at(2))
    assert found[-1] == Window(at(30), at(1, month=10))


def test_several_slots_a_day_are_one_window() -> None:
    found = period.windows("30 */4 * * *", SEPTEMBER, EARLIER, LATER)
    assert len(found) == 30
    assert found[0].begin == datetime(2026, 9, 1, 0, 30, tzinfo=UTC)


def test_a_slot_a_week() -> None:
    found = period.windows("0 2 * * 0", SEPTEMBER, EARLIER, LATER)
    assert [window.begin.day for window in found] == [6, 13, 20, 27]
    assert found[-1].end == at(4, month=10)


def test_nothing_is_owed_before_the_beginning_nor_while_it_may_still_come() -> None:
    assert [one.begin.day for one in period.windows("0 2 * * *", SEPTEMBER, at(28, 12), LATER)] == [29, 30]
    assert [one.begin.day for one in period.windows("0 2 * * *", SEPTEMBER, at(27, 12), at(29, 5))] == [28]
    assert [one.begin.day for one in period.windows("0 2 * * *", SEPTEMBER, at(27, 12), at(29, 9))] == [
        28,
        29,
    ]
    assert period.windows("", SEPTEMBER, EARLIER, LATER) == []
    assert period.windows("0 2 * * *", SEPTEMBER, LATER, LATER) == []


def test_the_target_follows_the_schedule() -> None:
    hour = 3600
    assert period.allowed("0 2 * * *", 0, at(1)) == 30 * hour
    assert period.allowed("0 2 * * 0", 0, at(1)) == (7 * 24 + 6) * hour
    assert period.allowed("", 0, at(1)) == 30 * hour
    assert period.allowed("0 2 * * *", 4 * hour, at(1)) == 4 * hour


def test_the_longest_time() -> None:
    found = period.longest([at(31, month=8), at(1), at(4), at(5), at(30)], SEPTEMBER, LATER)
    assert found is not None
    assert (found.begin, found.end) == (at(5), at(30))


def test_it_reaches_in_from_the_month_before_and_out_to_its_end() -> None:
    before = period.longest([at(20, month=8), at(2), at(29)], SEPTEMBER, at(30))
    assert before is not None
    assert before.begin == at(2), "27 days, against 13 from August on"
    only = period.longest([at(1, month=8)], SEPTEMBER, LATER)
    assert only is not None
    assert (only.begin, only.end) == (at(1, month=8), SEPTEMBER.end), "nothing since"
    running = period.longest([at(1)], SEPTEMBER, at(3))
    assert running is not None
    assert running.end == at(3), "a month that is not over ends now"
    assert period.longest([], SEPTEMBER, LATER) is None
    assert period.longest([at(5, month=10)], SEPTEMBER, LATER) is None


@given(st.lists(st.integers(0, 59), max_size=12))
def test_a_later_backup_never_makes_it_longer(days: list[int]) -> None:
    snapshots = [at(1, month=8) + timedelta(days=day) for day in (0, *days)]
    fewer = period.longest(snapshots[: max(1, len(days))], SEPTEMBER, LATER)
    more = period.longest(snapshots, SEPTEMBER, LATER)
    assert fewer is not None
    assert more is not None
    assert more.seconds <= fewer.seconds


def test_a_span_has_its_begin_and_not_its_end() -> None:
    span = Span("", at(1), at(2))
    assert span.has(at(1))
    assert not span.has(at(2))
