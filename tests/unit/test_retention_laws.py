"""Laws of retention that hold for every store, policy and time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.config.model import Retention
from worker.core.backup import backup_id
from worker.core.retention import Candidate, Hold, Verdict, decide

BEGIN, END = datetime(2021, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
small = st.integers(0, 40)
policies = st.builds(
    Retention,
    daily_days=small,
    weekly_weeks=st.integers(0, 8),
    monthly_months=st.integers(0, 14),
    yearly_years=st.integers(0, 3),
    keep_last=st.integers(0, 5),
    keep_within_days=small,
    minimum=st.integers(1, 5),
)
moments = st.integers(0, 4 * 365 * 24).map(lambda hours: BEGIN + timedelta(hours=hours))
afterwards = st.integers(0, 60 * 24).map(lambda hours: END + timedelta(hours=hours))
anytime = moments | afterwards | afterwards
# Half of them on the first of a month.
backup_times = st.one_of(moments, moments.map(lambda moment: moment.replace(day=1)))
maybe_times = st.none() | moments
law = settings(max_examples=100, deadline=None)


def removed(verdicts: Sequence[Verdict]) -> set[str]:
    return {verdict.candidate.backup_id for verdict in verdicts if not verdict.keep}


def kept(verdicts: Sequence[Verdict]) -> set[str]:
    return {verdict.candidate.backup_id for verdict in verdicts if verdict.keep}


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    others = draw(st.integers(0, 2))
    return Candidate(
        backup_id("goimg", draw(backup_times)),
        size=1,
        good=draw(st.booleans() | st.just(True)),
        managed=draw(st.booleans()),
        proven_at=draw(maybe_times),
        held=draw(st.none() | st.none() | st.builds(Hold, st.just("audit"), maybe_times)),
        locked_until=draw(st.none() | maybe_times),
        other_copies=others,
        other_good_copies=draw(st.integers(0, others)),
    )


stores = st.lists(candidates(), max_size=16, unique_by=lambda one: one.backup_id)


@law
@given(stores, policies, anytime)
def test_law_it_never_empties_a_store_and_judges_every_copy_once(
    copies: list[Candidate], policy: Retention, now: datetime
) -> None:
    verdicts = decide(copies, policy, now)
    assert len(verdicts) == len(copies)
    assert kept(verdicts) | removed(verdicts) == {one.backup_id for one in copies}
    assert bool(kept(verdicts)) == bool(copies)
    assert len([one for one in copies if one.good and one.backup_id in kept(verdicts)]) >= min(
        policy.minimum, sum(one.good for one in copies)
    )
    assert all(verdict.reason and (verdict.rule == "expired") != verdict.keep for verdict in verdicts)


@law
@given(stores, policies, policies, anytime)
def test_law_a_more_generous_policy_keeps_a_superset(
    copies: list[Candidate], policy: Retention, other: Retention, now: datetime
) -> None:
    generous = Retention(
        **{name: max(getattr(policy, name), getattr(other, name)) for name in Retention.model_fields}
    )
    assert kept(decide(copies, policy, now)) <= kept(decide(copies, generous, now))


@law
@given(st.data(), stores, policies, anytime)
def test_law_order_does_not_matter(
    data: st.DataObject, copies: list[Candidate], policy: Retention, now: datetime
) -> None:
    assert decide(data.draw(st.permutations(copies)), policy, now) == decide(copies, policy, now)


@law
@given(stores, policies, anytime)
def test_law_what_is_left_is_left_alone(copies: list[Candidate], policy: Retention, now: datetime) -> None:
    left = [verdict.candidate for verdict in decide(copies, policy, now) if verdict.keep]
    assert not removed(decide(left, policy, now))


@law
@given(stores, policies, anytime, st.data())
def test_law_a_plan_cut_short_ends_in_the_same_set(
    copies: list[Candidate], policy: Retention, now: datetime, data: st.DataObject
) -> None:
    """Killed after any part of the removals, the next cleanup finishes the same plan, but for one promotion.

    With the first backup of a year gone, the next one of that year takes its place: more is kept, never less.
    """
    going = sorted(removed(decide(copies, policy, now)))
    done = set(going[: data.draw(st.integers(0, len(going)))])
    left = [one for one in copies if one.backup_id not in done]
    again = removed(decide(left, policy, now))
    assert again <= set(going)
    if not policy.yearly_years:
        assert again == set(going) - done


@law
@given(stores, policies, afterwards, st.timedeltas(timedelta(0), timedelta(days=900)))
def test_law_time_only_takes_away(
    copies: list[Candidate], policy: Retention, now: datetime, passed: timedelta
) -> None:
    assert removed(decide(copies, policy, now)) <= removed(decide(copies, policy, now + passed))


@law
@given(
    stores, policies, anytime, st.sampled_from(["America/New_York", "Pacific/Apia", "Europe/Berlin", "UTC"])
)
def test_law_the_time_zone_of_now_does_not_matter(
    copies: list[Candidate], policy: Retention, now: datetime, zone: str
) -> None:
    expected = decide(copies, policy, now)
    assert decide(copies, policy, now.astimezone(ZoneInfo(zone))) == expected
    assert decide(copies, policy, now.astimezone(timezone(timedelta(hours=-11)))) == expected


@law
@given(stores, policies, anytime)
def test_law_the_newest_the_proven_the_held_and_the_locked_are_never_removed(
    copies: list[Candidate], policy: Retention, now: datetime
) -> None:
    gone = removed(decide(copies, policy, now))
    good = sorted((one for one in copies if one.good), key=lambda one: one.at)
    proven = [one for one in good if one.proven_at]
    managed = [one for one in good if one.managed]
    protected = {one.backup_id for group in (good, proven, managed) for one in group[-1:]}
    protected |= {
        one.backup_id for one in copies if one.held and (one.held.until is None or one.held.until > now)
    }
    protected |= {one.backup_id for one in copies if one.locked_until and one.locked_until > now}
    protected |= {one.backup_id for one in good if one.other_copies and not one.other_good_copies}
    protected |= {one.backup_id for one in sorted(copies, key=lambda one: one.at)[-1:]}
    assert not gone & protected


@law
@given(st.dates(date(2020, 1, 1), date(2028, 12, 31)), st.integers(0, 60), st.integers(0, 23))
def test_law_an_age_is_days_of_the_calendar_and_nothing_else(day: date, age: int, hour: int) -> None:
    """Over leap days and every DST change there is: only the difference of two UTC dates decides."""
    today = day + timedelta(days=age)
    one = Candidate(backup_id("goimg", datetime.combine(day, time(2), UTC)), 1)
    newer = Candidate(backup_id("goimg", datetime.combine(today, time(hour), UTC)), 1)
    now = datetime.combine(today, time(max(hour, 2)), UTC)
    verdicts = decide([one, newer] if age else [one], Retention(), now)
    limit = {"daily": 7, "weekly": 28, "monthly": 180}[one.type]
    assert (one.backup_id in kept(verdicts)) is (age <= limit)
