"""The page: what `worker.status` knows, the backups with what retention will do, the last runs. HTML in one piece."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from worker.core import human
from worker.core.backup import BackupType
from worker.ledger.model import Run
from worker.metrics.activity import BAD
from worker.metrics.holdings import USABLE, Holding
from worker.metrics.readings import Readings
from worker.status import status
from worker.steps.inventory import Listed

_BACKUPS = 60  # in the table of each database
_RUNS = 20
_DAYS = 28  # in the calendar
_BARS = 40  # in the chart of sizes
_VERDICTS = ("All is well", "Needs attention", "Critical", "Unknown")


def render(readings: Readings, now: datetime | None = None) -> str:
    """Of what was read last."""
    now = now or datetime.now(UTC)
    found = status(readings, now)
    held, activity = readings.destinations.value, readings.ledger.value
    holdings = held.databases if held is not None else {}
    return (
        _environment(now)
        .get_template("page.html.j2")
        .render(
            now=now,
            verdict=_VERDICTS[found.exit_code],
            level=found.exit_code,
            found=found,
            running=[_running(run, rows, now) for run, rows in found.runs],
            databases=[(one, _backups(holdings.get(one.database))) for one in found.databases],
            calendars={alias: _calendar(holding, now.date()) for alias, holding in holdings.items()},
            charts={alias: _sizes(holding) for alias, holding in holdings.items()},
            runs=activity.recent[:_RUNS] if activity is not None else [],
        )
    )


def _environment(now: datetime) -> Environment:
    made = Environment(
        loader=PackageLoader("worker.web", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "size": human.size,
        "duration": human.duration,
        "moment": _moment,
        "age": lambda at: _age(at, now),
    }
    made.tests["bad"] = lambda run: run.state in BAD
    return made


def _moment(at: datetime | float | None) -> str:
    if at is None:
        return "–"
    when = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def _age(at: datetime | None, now: datetime) -> str:
    return f"{human.duration(max(0.0, (now - at).total_seconds()))} ago" if at is not None else "never"


def _running(run: Run, rows: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    """Each aggregate of steps with the share of it that is done, from 0 to 1."""
    steps = [
        {
            "name": row["name"],
            "where": row["branch"],
            "done": row["done"],
            "total": row["total"],
            "share": row["bytes_done"] / row["bytes_total"]
            if row["bytes_total"]
            else row["done"] / row["total"],
            "state": "failed"
            if row["failed"]
            else "done"
            if row["done"] == row["total"]
            else "running"
            if row["running"]
            else "waiting",
        }
        for row in rows
        if not row["name"].endswith(".sweep")
    ]
    seconds = max(0.0, now.timestamp() - (run.started_at or run.created_at))
    return {"run": run, "steps": steps, "seconds": seconds}


def _backups(holding: Holding | None) -> list[dict[str, Any]]:
    """Newest first, with what the next cleanups will do to each."""
    if holding is None:
        return []
    verdicts = {(one.destination, one.entry.backup_id): one.verdict for one in holding.judged}
    return [_backup(item, verdicts) for item in holding.backups[:_BACKUPS]]


def _backup(item: Listed, verdicts: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    first = next(iter(item.copies.values()))
    own = [verdicts[alias, item.backup_id] for alias in item.copies if (alias, item.backup_id) in verdicts]
    keep = next((verdict for verdict in own if verdict.keep), None)
    return {
        "id": item.backup_id,
        "at": first.at,
        "type": first.type,
        "size": max(copy.size for copy in item.copies.values()),
        "copies": {
            alias: "proven" if copy.proven_at and copy.state == "verified" else copy.state
            for alias, copy in item.copies.items()
        },
        "held": any(copy.held for copy in item.copies.values()),
        "kept": keep is not None or not own,
        "until": keep.expires_at if keep is not None else None,
        "why": keep.reason if keep is not None else own[0].reason if own else "",
    }


def _calendar(holding: Holding, today: date) -> list[dict[str, Any]]:
    """The last 28 days, oldest first: the best state of that day's backups, "" without any."""
    days = [today - timedelta(days=back) for back in range(_DAYS - 1, -1, -1)]
    found = []
    for day in days:
        items = [item for item in holding.backups if next(iter(item.copies.values())).at.date() == day]
        usable = any(copy.state in USABLE for item in items for copy in item.copies.values())
        type_: BackupType | str = next(iter(items[0].copies.values())).type if items else ""
        found.append(
            {
                "day": day,
                "count": len(items),
                "state": "good" if usable else "bad" if items else "",
                "type": type_,
            }
        )
    return found


def _sizes(holding: Holding) -> list[dict[str, Any]]:
    """Bars of the newest usable backups, oldest first; `share` of the largest."""
    usable = [
        (item.backup_id, [copy for copy in item.copies.values() if copy.state in USABLE])
        for item in reversed(holding.backups[:_BARS])
    ]
    bars = [
        (backup, copies[0].type, max(copy.size for copy in copies)) for backup, copies in usable if copies
    ]
    largest = max((size for _, _, size in bars), default=0) or 1
    return [
        {"id": backup, "type": type_, "size": size, "share": size / largest} for backup, type_, size in bars
    ]
