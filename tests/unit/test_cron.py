"""Schedules: what is a cron line, and which slot is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core import cron
from worker.errors import ConfigError

DAILY, SUNDAYS, LEAP_DAY = "0 2 * * *", "0 3 * * 0", "0 0 29 2 *"
NOW = datetime(2024, 3, 5, 14, 30, 12, 345678, tzinfo=UTC)  # a Tuesday


def utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    "line",
    [
        DAILY,
        SUNDAYS,
        LEAP_DAY,
        "*/15 8-18 * * mon-fri",
        "0 2 * * 7",
        "30 4 1,15 * 5",
        "@daily",
        "@weekly",
        "0 2 * mar *",
    ],
)
def test_cron_lines_are_accepted(line: str) -> None:
    cron.validate(line)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "2",
        "every day",
        "60 2 * * *",
        "0 24 * * *",
        "0 2 * *",
        "0 2 * * * *",  # seconds, or a year: most likely a mistake
        "0 2 * * * * 2030",
        "0 0 30 2 *",  # never comes
        "*/0 * * * *",
        "@reboot",
        "R R * * *",  # another slot at every look
        "H 2 * * *",
        "0 h(1-5) * * *",
        "0 2 1,R * *",
        "0 2 * * mon\x00",
        "0 2 * * \N{ARABIC-INDIC DIGIT ONE}",
    ],
)
def test_anything_else_is_refused_with_a_hint(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cron.validate(line)
    assert repr(line) in caught.value.message
    assert "0 2 * * *" in caught.value.hint
    with pytest.raises(ConfigError):
        cron.latest_slot(line, NOW)
    with pytest.raises(ConfigError):
        cron.next_slot(line, NOW)


@pytest.mark.parametrize(
    ("line", "now", "latest", "following"),
    [
        (DAILY, NOW, utc(2024, 3, 5, 2), utc(2024, 3, 6, 2)),
        (DAILY, utc(2024, 3, 5, 2), utc(2024, 3, 5, 2), utc(2024, 3, 6, 2)),  # on the slot itself
        (DAILY, utc(2024, 3, 5, 2, 0, 0, 1), utc(2024, 3, 5, 2), utc(2024, 3, 6, 2)),
        (DAILY, utc(2024, 3, 5, 1, 59, 59, 999999), utc(2024, 3, 4, 2), utc(2024, 3, 5, 2)),
        (SUNDAYS, NOW, utc(2024, 3, 3, 3), utc(2024, 3, 10, 3)),
        ("0 0 1 * *", utc(2024, 3, 31), utc(2024, 3, 1), utc(2024, 4, 1)),
        (LEAP_DAY, NOW, utc(2024, 2, 29), utc(2028, 2, 29)),
        (LEAP_DAY, utc(2024, 2, 28), utc(2020, 2, 29), utc(2024, 2, 29)),
        ("30 4 13 * 5", NOW, utc(2024, 3, 1, 4, 30), utc(2024, 3, 8, 4, 30)),  # cron: the 13th or a Friday
    ],
)
def test_slots(line: str, now: datetime, latest: datetime, following: datetime) -> None:
    assert cron.latest_slot(line, now) == latest
    assert cron.next_slot(line, now) == following


def test_missed_slots_are_owed_once_and_only_after_since() -> None:
    slot = utc(2024, 3, 5, 2)
    assert cron.latest_slot(DAILY, NOW, since=utc(2024, 2, 1)) == slot
    assert cron.latest_slot(DAILY, NOW, since=slot - timedelta(seconds=1)) == slot
    assert cron.latest_slot(DAILY, NOW, since=slot) is None
    assert cron.latest_slot(DAILY, NOW, since=NOW) is None


def test_lines_are_in_utc_whatever_the_zone_of_now() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=13)))
    latest = cron.latest_slot(DAILY, there)
    assert latest == utc(2024, 3, 5, 2)
    assert latest.utcoffset() == timedelta(0)
    assert cron.next_slot(DAILY, there).utcoffset() == timedelta(0)


@settings(max_examples=60, deadline=None)
@given(
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=3),
    hours=st.sets(st.integers(0, 23), min_size=1, max_size=3),
    weekday=st.none() | st.integers(0, 6),
    seconds=st.integers(0, 3 * 365 * 86400),
)
def test_slots_are_those_of_counting_minute_by_minute(
    minutes: set[int], hours: set[int], weekday: int | None, seconds: int
) -> None:
    def numbers(values: set[int]) -> str:
        return ",".join(map(str, sorted(values)))

    def fits(moment: datetime) -> bool:
        on_day = weekday is None or moment.isoweekday() % 7 == weekday
        return moment.minute in minutes and moment.hour in hours and on_day

    line = f"{numbers(minutes)} {numbers(hours)} * * {'*' if weekday is None else weekday}"
    now = utc(2023, 1, 1) + timedelta(seconds=seconds)
    minute = now.replace(second=0)
    earlier = next(m for n in range(8 * 1440) if fits(m := minute - timedelta(minutes=n)))
    later = next(m for n in range(1, 8 * 1440) if fits(m := minute + timedelta(minutes=n)))
    assert cron.latest_slot(line, now) == earlier
    assert cron.next_slot(line, now) == later
