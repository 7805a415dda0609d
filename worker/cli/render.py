"""Values as people read them: times in UTC, sizes and rates human, states with a colour."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from worker.core import human

MARKS = {
    "waiting": "·",
    "running": "▸",
    "done": "[green]✓[/]",
    "failed": "[red]✗[/]",
    "skipped": "[yellow]-[/]",
}
COLOURS = {
    "verified": "green",
    "proven": "bold green",
    "succeeded": "green",
    "running": "cyan",
    "queued": "cyan",
    "unmanaged": "yellow",
    "unverified": "yellow",
    "incomplete": "yellow",
    "cancelled": "yellow",
    "damaged": "bold red",
    "missing": "bold red",
    "failed": "bold red",
    "refuted": "bold red",
    "could_not_run": "bold red",
}


def moment(at: float | datetime | None) -> str:
    """``2026-11-23 02:00:05`` UTC, or a dash."""
    if at is None:
        return "-"
    when = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def age(at: datetime | None, now: datetime | None = None) -> str:
    """``3 min ago``, or a dash."""
    if at is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - at).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit} ago"
    return "just now"


def console() -> Console:
    """A pipe has no width: nothing is folded there."""
    return Console() if sys.stdout.isatty() else Console(width=200)


def clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%SZ}"


def state(word: str) -> str:
    return f"[{COLOURS.get(word, 'white')}]{word}[/]"


def state_of(row: Mapping[str, Any]) -> str:
    """The state of an aggregate of steps."""
    if row["failed"]:
        return "failed"
    if row["done"] == row["total"]:
        return "done"
    if row["skipped"] and row["done"] + row["skipped"] == row["total"]:
        return "skipped"
    return "running" if row["running"] or row["done"] else "waiting"


def where_of(branch: str) -> str:
    """The destination that a branch of steps is about; a drill's own branch is about none."""
    return "" if branch == "drill" else branch


def progress_rows(rows: Sequence[Mapping[str, Any]], now: float) -> Iterator[tuple[str, ...]]:
    """mark, step, where, parts, bytes, rate, time (elapsed, and about what is left) of each aggregate."""
    shown = [row for row in rows if not row["name"].endswith(".sweep")]
    for row in sorted(shown, key=lambda row: row["started_at"] or math.inf):
        began, ended = row["started_at"], row["ended_at"] if row["done"] == row["total"] else None
        seconds = ((ended or now) - began) if began else 0.0
        done, total = row["bytes_done"], row["bytes_total"]
        yield (
            MARKS[state_of(row)],
            row["name"],
            where_of(row["branch"]),
            f"{row['done']}/{row['total']}" if row["total"] > 1 else "",
            (
                f"{human.size(done)} of {human.size(total)}"
                if ended is None and total > done
                else human.size(done)
            )
            if done or total
            else "",
            human.rate(done, seconds) if done and seconds > 0 else "",
            _time(seconds, done, total, ended is not None) if began else "",
        )


def _time(seconds: float, done: int, total: int, ended: bool) -> str:
    text = human.duration(seconds)
    if ended or not done or total <= done or seconds < 2:
        return text
    return f"{text}, ~{human.duration(seconds * (total - done) / done)} left"


def progress_line(row: Mapping[str, Any], state: str) -> str:
    where = f" ({where_of(row['branch'])})" if where_of(row["branch"]) else ""
    if state == "running":
        return f"{row['name']}{where}: begun"
    seconds = (row["ended_at"] or 0) - (row["started_at"] or 0)
    size = f", {human.size(row['bytes_done'])}" if row["bytes_done"] else ""
    parts = f", {row['done']} of {row['total']} parts" if row["total"] > 1 else ""
    return f"{row['name']}{where}: {state}{parts}{size}, {human.duration(seconds)}"
