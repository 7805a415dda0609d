"""When a schedule is due: cron lines of five fields in UTC, computed by croniter.

croniter reads more than cron does. Its random and hashed fields would give another slot at every look, and a
sixth field (seconds) is most likely a mistake: both are refused.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from croniter import CroniterError, croniter

from worker.errors import ConfigError

ALIASES = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_NOT_FIXED = re.compile(r"(^|[\s,])[hr]([\s,/(]|$)", re.IGNORECASE)
_ANY_START = datetime(2024, 1, 1, tzinfo=UTC)


def validate(line: str) -> None:
    """Raises ConfigError for a line that is not cron's, or whose time never comes (30 February)."""
    try:
        _next(line, _ANY_START)
    except (CroniterError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"{line!r} is not a schedule: {_one_line(error)}.",
            "Write five fields, in UTC: minute, hour, day of month, month, day of week (0 2 * * *).",
        ) from error


def latest_slot(line: str, now: datetime, since: datetime | None = None) -> datetime | None:
    """The newest slot up to and including `now`, in UTC; None when it is not after `since`.

    So a schedule that missed several slots owes one run, the newest. Raises ConfigError as `validate` does.
    """
    validate(line)
    # croniter looks strictly before its start.
    start = now.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
    slot = croniter(line, start).get_prev(datetime)
    return slot if since is None or slot > since else None


def next_slot(line: str, after: datetime) -> datetime:
    """The first slot strictly after `after`, in UTC. Raises ConfigError as `validate` does."""
    validate(line)
    return _next(line, after.astimezone(UTC))


def _next(line: str, after: datetime) -> datetime:
    if line not in ALIASES and len(line.split()) != 5:
        raise ValueError(f"it has {len(line.split())} of the five fields")
    if _NOT_FIXED.search(line):
        raise ValueError("it has a random or hashed field")
    return croniter(line, after).get_next(datetime)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text or type(error).__name__
