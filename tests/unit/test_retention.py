"""The seed's policy against a golden file, and each rule with its cause and without."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from worker.config.model import Retention
from worker.core.backup import backup_id
from worker.core.retention import Candidate, Hold, Policy, Verdict, decide, too_large

DATA = Path(__file__).parent.parent / "data" / "retention"
GOLDEN = DATA / "seed-400-days.txt"
SEED: Policy = Retention()
NOTHING = Retention(daily_days=0, weekly_weeks=0, monthly_months=0)
NOW = datetime(2024, 6, 19, 3, tzinfo=UTC)  # a Wednesday


def at(day: date | str, hour: int = 2) -> datetime:
    return datetime.combine(date.fromisoformat(str(day)), time(hour), UTC)


def copy(day: date | str, hour: int = 2, **fields: Any) -> Candidate:
    return Candidate(backup_id("goimg", at(day, hour)), fields.pop("size", 1), **fields)


def removed(verdicts: Sequence[Verdict]) -> set[str]:
    return {verdict.candidate.backup_id for verdict in verdicts if not verdict.keep}


def kept(verdicts: Sequence[Verdict]) -> set[str]:
    return {verdict.candidate.backup_id for verdict in verdicts if verdict.keep}


def verdict_of(one: Candidate, verdicts: Sequence[Verdict]) -> Verdict:
    return next(verdict for verdict in verdicts if verdict.candidate == one)


# The seed's policy ----------------------------------------------------------------------------------------


def golden() -> Iterator[tuple[date, list[str], list[str]]]:
    for line in GOLDEN.read_text().splitlines():
        day, rest = line.split(" kept:")
        stay, go = rest.split(" removed:")
        yield date.fromisoformat(day), stay.split(), go.split()


def simulated(policy: Policy) -> Iterator[tuple[date, list[Verdict]]]:
    """A backup every day at 02:00, a cleanup on Sundays at 03:00, for 400 days from 2023-12-15."""
    store: list[Candidate] = []
    for number in range(400):
        today = date(2023, 12, 15) + timedelta(days=number)
        store.append(copy(today))
        if today.isoweekday() == 7:
            verdicts = decide(store, policy, at(today, 3))
            yield today, verdicts
            store = [verdict.candidate for verdict in verdicts if verdict.keep]


def days(verdicts: Sequence[Verdict], keep: bool) -> list[str]:
    return sorted(f"{verdict.candidate.day:%Y%m%d}" for verdict in verdicts if verdict.keep is keep)


def test_400_days_under_the_seed_policy_keep_the_golden_set() -> None:
    ours = [(today, days(verdicts, True), days(verdicts, False)) for today, verdicts in simulated(SEED)]
    assert ours == list(golden())
    assert len(ours) == 57
    after_the_last_cleanup = 5
    assert sum(len(go) for _, _, go in ours) + len(ours[-1][1]) == 400 - after_the_last_cleanup


def test_the_golden_file_is_what_the_seed_rules_give() -> None:
    done = subprocess.run(["bash", DATA / "seed_rules.sh"], capture_output=True, text=True, check=True)
    assert done.stdout == GOLDEN.read_text()


@pytest.mark.parametrize(
    ("sunday", "stays", "goes"),
    [
        # Reviewed by hand. A Sunday of 28 days ago stays, of 35 goes; no daily one of the week before stays.
        ("2024-01-21", ["20231224", "20240101", "20240121"], ["20231217", "20240108", "20240113"]),
        # The 1st that is a Sunday is monthly. 184 days from 1 March of a leap year, 153 from 1 April.
        ("2024-09-01", ["20240401", "20240804", "20240901"], ["20240301", "20240728", "20240824"]),
        ("2024-07-28", ["20240201", "20240630"], ["20240623"]),  # 178 days from 1 February
        ("2024-08-04", ["20240301"], ["20240201"]),  # 185
    ],
)
def test_dates_worked_out_by_hand(sunday: str, stays: list[str], goes: list[str]) -> None:
    found = {day: (stay, go) for day, stay, go in golden()}[date.fromisoformat(sunday)]
    assert set(stays) <= set(found[0])
    assert set(goes) <= set(found[1])


@pytest.mark.parametrize(
    ("day", "days_kept", "rule"),
    [
        ("2024-05-08", 7, "daily"),
        ("2024-05-05", 28, "weekly"),
        ("2024-05-01", 180, "monthly"),
        ("2024-09-01", 180, "monthly"),
    ],
)
def test_a_backup_stays_to_the_end_of_its_last_day(day: str, days_kept: int, rule: str) -> None:
    one = copy(day)
    last = date.fromisoformat(day) + timedelta(days=days_kept)
    midnight = at(last + timedelta(days=1), 0)
    newer = copy(last, 0)
    before = verdict_of(one, decide([one, newer], SEED, midnight - timedelta(microseconds=1)))
    after = verdict_of(one, decide([one, newer], SEED, midnight))
    assert (before.keep, before.rule, before.expires_at) == (True, rule, midnight)
    assert (after.keep, after.rule, after.expires_at) == (False, "expired", midnight)
    assert str(midnight.date()) in before.reason
    assert str(midnight.date()) in after.reason


def test_the_weekly_cleanup_of_a_healthy_database_is_never_a_large_plan() -> None:
    assert not any(too_large(verdicts, 0.5) for _, verdicts in simulated(SEED))


# Each rule, with its cause and without --------------------------------------------------------------------

OLD = "2022-03-09"  # a Wednesday, expired under every default
NEWEST = copy("2024-06-19")


def judged(one: Candidate, policy: Policy = SEED, *others: Candidate, now: datetime = NOW) -> Verdict:
    return verdict_of(one, decide([one, NEWEST, *others], policy, now))


def test_an_old_backup_that_nothing_keeps_goes() -> None:
    verdict = judged(copy(OLD))
    assert (verdict.keep, verdict.rule) == (False, "expired")
    assert verdict.reason == "No rule has kept this daily backup since 2022-03-17 (UTC)."


def test_a_rule_of_zero_keeps_not_even_the_backup_of_today() -> None:
    earlier = copy("2024-06-19", 1)  # the first of its year, too
    assert removed(decide([earlier, NEWEST], NOTHING, NOW)) == {earlier.backup_id}
    assert not removed(decide([earlier, NEWEST], SEED, NOW))


def test_the_day_of_now_is_the_one_in_utc() -> None:
    one = copy("2024-05-08")
    now = at("2024-05-16", 0)
    west, east = now.astimezone(timezone(timedelta(hours=-11))), now.astimezone(timezone(timedelta(hours=14)))
    for moment in (now, west, east):
        assert removed(decide([one, copy("2024-05-09")], SEED, moment)) == {one.backup_id}
        assert not removed(decide([one, copy("2024-05-09")], SEED, moment - timedelta(seconds=1)))


def test_the_newest_backup_stays_however_old() -> None:
    old, older = copy(OLD), copy("2022-03-08")
    first, second = decide([older, old], NOTHING, NOW)
    assert (first.candidate, first.keep, first.rule) == (old, True, "newest")
    assert not second.keep


def test_the_newest_proven_backup_stays() -> None:
    proven, earlier = copy(OLD, proven_at=NOW), copy("2022-03-08", proven_at=NOW)
    verdicts = decide([proven, earlier, NEWEST], SEED, NOW)
    assert verdict_of(proven, verdicts).rule == "newest_proven"
    assert not verdict_of(earlier, verdicts).keep


def test_the_latest_backup_among_the_proven_counts_and_not_the_latest_drill() -> None:
    newer, older = copy("2022-03-09", proven_at=at("2022-03-10")), copy("2022-03-08", proven_at=NOW)
    assert removed(decide([newer, older, NEWEST], SEED, NOW)) == {older.backup_id}


def test_a_held_backup_stays_until_it_is_released() -> None:
    verdict = judged(copy(OLD, held=Hold("lawsuit 12")))
    assert (verdict.keep, verdict.rule) == (True, "held")
    assert verdict.reason == "It is held until it is released: lawsuit 12"


def test_a_hold_ends_when_its_time_has_come() -> None:
    held = copy(OLD, held=Hold("audit", NOW))
    assert judged(held, now=NOW - timedelta(seconds=1)).rule == "held"
    assert judged(held, now=NOW).rule == "expired"


def test_a_locked_backup_stays_and_says_until_when() -> None:
    locked = copy(OLD, locked_until=NOW + timedelta(hours=1))
    verdict = judged(locked)
    assert (verdict.keep, verdict.rule) == (True, "locked")
    assert "locked until 2024-06-19 04:00 UTC" in verdict.reason
    assert judged(locked, now=NOW + timedelta(hours=1)).rule == "expired"


def test_a_lock_is_not_named_while_the_policy_keeps_the_backup_anyway() -> None:
    assert judged(copy("2024-06-18", locked_until=NOW + timedelta(days=90))).rule == "daily"


def test_keep_last_counts_good_backups_from_the_newest() -> None:
    ages = [copy(f"2022-03-{day:02d}") for day in (7, 8, 9, 10, 11)]
    broken = copy("2022-03-12", good=False)
    verdicts = decide([*ages, broken, NEWEST], Retention(keep_last=3), NOW)
    assert kept(verdicts) == {one.backup_id for one in (ages[-1], ages[-2], NEWEST)}
    assert verdict_of(ages[-1], verdicts).reason == "It is one of the last 3 good backups."


def test_minimum_never_goes_below_its_count() -> None:
    ages = [copy(f"2022-03-{day:02d}") for day in (7, 8, 9, 10, 11)]
    verdicts = decide(ages, Retention(minimum=3), NOW)
    assert kept(verdicts) == {one.backup_id for one in ages[-3:]}
    assert verdict_of(ages[-3], verdicts).rule == "minimum"


def test_minimum_counts_what_has_a_manifest_first() -> None:
    ours = [copy(f"2022-03-{day:02d}") for day in (8, 9)]
    strays = [copy(f"2022-03-{day:02d}", managed=False) for day in (10, 11)]
    verdicts = decide([*ours, *strays], Retention(minimum=2), NOW)
    assert removed(verdicts) == {strays[0].backup_id}
    assert verdict_of(strays[1], verdicts).rule == "newest"


def test_files_of_the_seed_fall_under_the_same_policy() -> None:
    one, managed = copy("2024-06-01", managed=False), copy(OLD, managed=False)
    assert judged(one).rule == "monthly"
    assert judged(managed).rule == "expired"


def test_keep_within_keeps_every_type() -> None:
    policy = Retention(daily_days=0, weekly_weeks=0, monthly_months=0, keep_within_days=30)
    ages = [copy(date(2024, 6, 18) - timedelta(days=n)) for n in range(40)]
    verdicts = decide([*ages, NEWEST], policy, NOW)
    assert len(removed(verdicts)) == 40 - 30
    assert {verdict.rule for verdict in verdicts if verdict.keep} == {"keep_within"}


def test_the_longest_rule_is_the_one_that_is_named() -> None:
    assert judged(copy("2024-06-18"), Retention(keep_within_days=6)).rule == "daily"
    assert judged(copy("2024-06-18"), Retention(keep_within_days=8)).rule == "keep_within"


def test_yearly_keeps_the_first_good_backup_of_each_year() -> None:
    policy = Retention(yearly_years=2)
    broken, first, second = copy("2022-01-01", good=False), copy("2022-01-02"), copy("2022-01-03")
    verdicts = decide([second, first, broken, NEWEST], policy, NOW - timedelta(days=200))
    assert {verdict.rule for verdict in verdicts} == {"clock"}
    verdicts = decide([second, first, broken], policy, at("2024-01-02"))
    assert verdict_of(first, verdicts).rule == "yearly"
    assert verdict_of(first, verdicts).expires_at == at("2024-01-03", 0)
    assert removed(verdicts) == {broken.backup_id}  # the second is the newest good one here
    assert removed(decide([second, first, broken, NEWEST], policy, NOW)) == {
        one.backup_id for one in (broken, first, second)
    }


def test_a_yearly_backup_of_a_leap_day_stays_its_whole_years() -> None:
    leap = copy("2020-02-29")
    assert judged(leap, Retention(yearly_years=3), now=NOW).expires_at == at("2023-03-02", 0)


def test_the_only_good_copy_stays_where_others_are_damaged() -> None:
    assert judged(copy(OLD, other_copies=1, other_good_copies=0)).rule == "only_good_copy"
    assert judged(copy(OLD, other_copies=2, other_good_copies=1)).rule == "expired"
    assert judged(copy(OLD, other_copies=0)).rule == "expired"
    assert judged(copy(OLD, good=False, other_copies=1)).rule == "expired"


def test_a_damaged_copy_is_never_the_newest_nor_the_newest_proven() -> None:
    good = copy("2022-03-08", proven_at=at("2022-03-10"))
    broken = copy(OLD, good=False, proven_at=at("2022-03-11"))
    verdicts = decide([good, broken], NOTHING, NOW)
    assert verdict_of(good, verdicts).rule == "newest"
    assert verdict_of(broken, verdicts).rule == "damaged"
    assert verdict_of(broken, verdicts).keep
    verdicts = decide([good, broken, NEWEST], NOTHING, NOW)
    assert verdict_of(good, verdicts).rule == "newest_proven"
    assert not verdict_of(broken, verdicts).keep


def test_a_refuted_copy_is_not_called_damaged() -> None:
    refuted, damaged = copy(OLD, good=False, refuted=True), copy("2022-03-02", good=False)
    verdicts = decide([refuted, damaged], NOTHING, NOW)
    assert verdict_of(refuted, verdicts).reason == "A drill refuted it, but no good backup is newer."
    assert verdict_of(damaged, verdicts).reason == "It is damaged, but no good backup is newer."


def test_a_damaged_copy_of_an_age_to_be_kept_is_kept_for_repair() -> None:
    assert judged(copy("2024-06-18", good=False)).rule == "daily"


def test_nothing_goes_when_nothing_good_is_left() -> None:
    verdicts = decide([copy(f"2022-03-{day:02d}", good=False) for day in range(2, 9)], SEED, NOW)
    assert {verdict.rule for verdict in verdicts} == {"damaged"}
    assert not removed(verdicts)


@pytest.mark.parametrize("jumped", [True, False])
def test_nothing_goes_while_the_clock_looks_wrong(jumped: bool) -> None:
    future = copy("2024-06-19", 4, managed=False, good=False)
    copies = [copy(OLD), NEWEST, *([] if jumped else [future])]
    verdicts = decide(copies, NOTHING, NOW, clock_trouble="it has jumped" if jumped else "")
    assert {verdict.rule for verdict in verdicts} == {"clock"}
    assert not removed(verdicts)
    assert ("jumped" if jumped else future.backup_id) in verdicts[0].reason
    assert removed(decide(copies[:2], NOTHING, NOW))


def test_a_backup_of_this_very_second_is_not_from_the_future() -> None:
    """Nor is that of a host whose clock is a little ahead."""
    newest = copy("2024-06-19", 3)
    assert removed(decide([copy(OLD), newest], SEED, newest.at))
    assert removed(decide([copy(OLD), newest], SEED, newest.at - timedelta(minutes=15)))
    assert not removed(decide([copy(OLD), newest], SEED, newest.at - timedelta(minutes=16)))


@pytest.mark.parametrize("endless", [10**6, 10**12])
def test_for_ever_may_be_written_as_a_very_large_number(endless: int) -> None:
    policy = Retention(daily_days=endless, yearly_years=endless, keep_within_days=endless)
    assert not removed(decide([copy(OLD), copy("1000-01-01"), NEWEST], policy, at("9000-01-01")))
    assert decide([copy("9999-12-31")], policy, at("9999-12-31"))[0].keep
    assert decide([copy("9998-12-31")], Retention(yearly_years=1), at("9999-01-01"))[0].keep


def test_mixed_lists_and_naive_times_are_refused() -> None:
    other = Candidate(backup_id("other", NOW), 1)
    with pytest.raises(ValueError, match="several databases"):
        decide([other, NEWEST], SEED, NOW)
    with pytest.raises(ValueError, match="several destinations"):
        decide([NEWEST, NEWEST], SEED, NOW)
    with pytest.raises(ValueError, match="aware"):
        decide([NEWEST], SEED, NOW.replace(tzinfo=None))
    with pytest.raises(ValueError, match="not a backup id"):
        Candidate("goimg-backup.dump.gpg", 1)


def test_no_backups_no_verdicts() -> None:
    assert decide([], SEED, NOW, clock_trouble="it has jumped") == []


@pytest.mark.parametrize(
    ("going", "total", "fraction", "expected"),
    [
        (6, 10, 0.5, True),
        (5, 10, 0.5, False),  # over half, not half
        (2, 3, 0.5, False),  # fewer than three
        (3, 4, 0.5, True),
        (3, 30, 0.05, True),
        (9, 10, 1.0, False),
        (0, 0, 0.5, False),
    ],
)
def test_a_large_plan(going: int, total: int, fraction: float, expected: bool) -> None:
    verdicts = [
        Verdict(NEWEST, keep=number >= going, rule="expired", reason="", expires_at=NOW)
        for number in range(total)
    ]
    assert too_large(verdicts, fraction) is expected
