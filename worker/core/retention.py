"""Which copies may go: (copies, policy, now) → keep or remove, the rule that decided, and one sentence why.

One call judges the copies of one database in one destination. Ages are whole days from the UTC date in the
backup's name to today's UTC date, as the seed's cleanup script counts them: a daily backup stays while it is
at most 7 days old, a weekly one 4 × 7 = 28, a monthly one 6 × 30 = 180. A month is 30 days, not a calendar
month, so that the defaults keep what the seed's table says; time zones, DST and leap days play no part.
Years are calendar years, because what asks for them is usually the law.

Every rule only ever keeps. A copy goes when no rule keeps it, so a longer policy never removes more.
A damaged copy protects nothing: it is never the newest, the yearly one or part of a count. Its own age is
judged as any other's (it may still be repaired), and it stays while no good backup is newer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import chain, islice
from typing import Literal, NamedTuple, Protocol

from worker.core.backup import BackupType, backup_type, parse_id

Rule = Literal[
    "clock",
    "held",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "keep_within",
    "keep_last",
    "newest",
    "newest_proven",
    "minimum",
    "only_good_copy",
    "damaged",
    "locked",
    "expired",
]
DAYS_PER_MONTH = 30  # the seed's: 6 months are 180 days
#: Rules that keep every copy of a backup alike; by the others one may go where another stays.
_KEEPS_ALL_COPIES = frozenset(("daily", "weekly", "monthly", "yearly", "keep_within", "keep_last", "newest"))
CLOCK_TOLERANCE = timedelta(minutes=15)  # between hosts; S3's own
LARGE_PLAN = 3  # removing fewer than this is never a large plan


class Policy(Protocol):
    """Zero means that the rule keeps nothing; `minimum` is at least 1. `config.model.Retention` is one."""

    @property
    def daily_days(self) -> int: ...
    @property
    def weekly_weeks(self) -> int: ...
    @property
    def monthly_months(self) -> int: ...
    @property
    def yearly_years(self) -> int: ...
    @property
    def keep_last(self) -> int: ...
    @property
    def keep_within_days(self) -> int: ...
    @property
    def minimum(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody asked to keep it. No `until`: until it is released."""

    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One copy. Its time is the one in its name. Raises ValueError when `backup_id` is not a backup's id.

    good: nothing is known against it. A damaged or refuted copy is not good.
    refuted: it is not good because a drill refuted it.
    other_copies: copies of the same backup in other destinations, of which other_good_copies are good.
    managed: it has a manifest; else it is a file that the seed's scripts left.
    state: how tables show it; it decides nothing.
    """

    backup_id: str
    size: int
    state: str = ""
    good: bool = True
    refuted: bool = False
    managed: bool = True
    proven_at: datetime | None = None
    held: Hold | None = None
    locked_until: datetime | None = None
    other_copies: int = 0
    other_good_copies: int = 0
    database: str = field(init=False)
    at: datetime = field(init=False)

    def __post_init__(self) -> None:
        database, at = parse_id(self.backup_id)
        object.__setattr__(self, "database", database)
        object.__setattr__(self, "at", at)

    @property
    def day(self) -> date:
        return self.at.date()

    @property
    def type(self) -> BackupType:
        return backup_type(self.day)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`expires_at`: when its age alone lets it go, a midnight; counts, holds and locks may keep it longer."""

    candidate: Candidate
    keep: bool
    rule: Rule
    reason: str
    expires_at: datetime


class _Span(NamedTuple):
    """How long one rule keeps a copy for its age: up to the midnight (UTC) that begins `until`."""

    rule: Rule
    until: date
    why: str


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is decided once for all copies: sets hold backup ids."""

    policy: Policy
    now: datetime
    alarm: str
    newest: frozenset[str]
    proven: frozenset[str]
    last: frozenset[str]
    floor: frozenset[str]
    yearly: frozenset[str]
    newest_good_at: datetime | None


def decide(
    copies: Sequence[Candidate], policy: Policy, now: datetime, *, clock_trouble: str = ""
) -> list[Verdict]:
    """The verdicts, newest copy first. `now` is aware; clock_trouble: why it may be wrong, if it may.

    Raises ValueError for a naive `now`, and for copies of several databases or destinations in one call: each
    would take the other's newest backup for its own.
    """
    if now.tzinfo is None:
        raise ValueError("now must be aware")
    if len({copy.database for copy in copies}) > 1:
        raise ValueError("copies of several databases cannot be judged together")
    if len({copy.backup_id for copy in copies}) < len(copies):
        raise ValueError("copies in several destinations cannot be judged together")
    ordered = sorted(copies, key=lambda copy: copy.at, reverse=True)
    scene = _scene(ordered, policy, now.astimezone(UTC), clock_trouble)
    return [_judge(copy, scene) for copy in ordered]


def owed(backups: Sequence[Candidate], policy: Policy, now: datetime) -> frozenset[str]:
    """Of the backups that there are anywhere, those that a destination with this policy is to have a copy of."""
    verdicts = decide(backups, policy, now)
    return frozenset(one.candidate.backup_id for one in verdicts if one.rule in _KEEPS_ALL_COPIES)


def too_large(verdicts: Sequence[Verdict], max_fraction: float) -> bool:
    """Whether the plan removes so much that somebody should look first: over `max_fraction` of all backups.

    verdicts: of every destination, or of one; not of the part that a request names. Fewer than 3 removals are
    never too many.
    """
    removed = sum(not verdict.keep for verdict in verdicts)
    return removed >= LARGE_PLAN and removed > max_fraction * len(verdicts)


def _scene(ordered: list[Candidate], policy: Policy, now: datetime, clock_trouble: str) -> _Scene:
    good = [copy for copy in ordered if copy.good]
    # What has a manifest is worth more than a file of unknown content: the floor counts it first.
    floor = sorted(good, key=lambda copy: not copy.managed)
    first_of_year = {copy.day.year: copy for copy in good}  # newest first: the earliest wins
    return _Scene(
        policy=policy,
        now=now,
        alarm=_alarm(ordered, now, clock_trouble),
        newest=_ids(good, 1),
        proven=_ids((copy for copy in good if copy.proven_at is not None), 1),
        last=_ids(good, policy.keep_last),
        floor=_ids(floor, policy.minimum),
        yearly=_ids(first_of_year.values(), len(first_of_year)) if policy.yearly_years else frozenset(),
        newest_good_at=good[0].at if good else None,
    )


def _ids(copies: Iterable[Candidate], count: int) -> frozenset[str]:
    return frozenset(copy.backup_id for copy in islice(copies, count))


def _alarm(ordered: list[Candidate], now: datetime, clock_trouble: str) -> str:
    if not clock_trouble and ordered and ordered[0].at > now + CLOCK_TOLERANCE:
        clock_trouble = f"{ordered[0].backup_id} is from the future"
    return clock_reason(clock_trouble) if clock_trouble else ""


def clock_reason(trouble: str) -> str:
    return f"Nothing is removed while the clock looks wrong: {trouble}."


def _judge(copy: Candidate, scene: _Scene) -> Verdict:
    span = max(_spans(copy, scene), key=lambda span: span.until)
    expires_at = datetime.combine(span.until, time(), UTC)
    kept = next(chain(_of_itself(copy, span, scene), _among_others(copy, scene)), None)
    if kept is not None:
        return Verdict(copy, True, *kept, expires_at)
    gone = f"No rule has kept this {copy.type} backup since {span.until} (UTC)."
    return Verdict(copy, False, "expired", gone, expires_at)


def _spans(copy: Candidate, scene: _Scene) -> list[_Span]:
    policy, kind = scene.policy, copy.type
    days = {
        "daily": policy.daily_days,
        "weekly": policy.weekly_weeks * 7,
        "monthly": policy.monthly_months * DAYS_PER_MONTH,
    }[kind]
    within, years = policy.keep_within_days, policy.yearly_years
    spans = [
        _Span(kind, _days_after(copy.day, days), f"A {kind} backup is kept for {days} days"),
        _Span("keep_within", _days_after(copy.day, within), f"Every backup is kept for {within} days"),
    ]
    if copy.backup_id in scene.yearly:
        why = f"The first backup of {copy.day.year} is kept for {years} years"
        spans.append(_Span("yearly", _years_after(copy.day, years), why))
    return spans


def _days_after(day: date, days: int) -> date:
    """The day that a copy of age `days` still sees the start of, and one of age `days` + 1 does not."""
    return day + timedelta(days=min(days + 1, (date.max - day).days)) if days else day


def _years_after(day: date, years: int) -> date:
    year = day.year + years
    if year >= date.max.year:
        return date.max
    leap_day = (day.month, day.day) == (2, 29)
    anniversary = date(year, 3, 1) if leap_day else day.replace(year=year)
    return anniversary + timedelta(days=1)


def _of_itself(copy: Candidate, span: _Span, scene: _Scene) -> Iterator[tuple[Rule, str]]:
    """Why a copy stays whatever else there is, the most telling reason first."""
    if scene.alarm:
        yield "clock", scene.alarm
    hold, lock = copy.held, copy.locked_until
    if hold is not None and (hold.until is None or hold.until > scene.now):
        until = _stamp(hold.until) if hold.until else "it is released"
        yield "held", f"It is held until {until}: {hold.reason}"
    if scene.now.date() < span.until:
        yield span.rule, f"{span.why}: until {span.until} (UTC)."
    if lock is not None and lock > scene.now:
        yield "locked", f"It is locked until {_stamp(lock)} by its destination."


def _among_others(copy: Candidate, scene: _Scene) -> Iterator[tuple[Rule, str]]:
    """Why an expired copy stays because of what else there is, or is not."""
    if copy.backup_id in scene.last:
        yield "keep_last", f"It is one of the last {scene.policy.keep_last} good backups."
    if copy.backup_id in scene.newest:
        yield "newest", "It is the newest good backup."
    if copy.backup_id in scene.proven:
        yield "newest_proven", "It is the newest backup that a drill proved."
    if copy.backup_id in scene.floor:
        yield "minimum", f"At least {scene.policy.minimum} good backups always stay."
    # Only where other copies exist: a backup's single copy may expire, or nothing ever would.
    if copy.good and copy.other_copies and not copy.other_good_copies:
        yield "only_good_copy", "It is the only good copy of this backup: no other one is good."
    if not copy.good and (scene.newest_good_at is None or scene.newest_good_at < copy.at):
        why = "A drill refuted it" if copy.refuted else "It is damaged"
        yield "damaged", f"{why}, but no good backup is newer."


def _stamp(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
