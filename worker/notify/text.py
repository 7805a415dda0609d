"""What a message says: what happened, where, since when, what to do, and the command that shows more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from worker.core import human
from worker.core.audit import ANY
from worker.ledger.model import Run
from worker.notify.story import BAD, Story


def worth_telling(known: Story) -> bool:
    """Only what needs a person, or ends a worry, or was asked for: a good end like the one before is worth no mail."""
    return known.run.state in BAD or known.too_slow or known.recovered or _written(known.run)


def _written(run: Run) -> bool:
    """A report that is there to be read."""
    return run.kind == "report" and bool(run.result.get("stored"))


def message(known: Story) -> tuple[str, str]:
    """(title, body)"""
    return _title(known), "\n".join(f"{label + ':':<7}{text}" for label, text in _lines(known) if text)


def _title(known: Story) -> str:
    run = known.run
    how = run.state.replace("_", " ")
    if known.too_slow:
        how = "proven, but too slow"
    elif _written(run):
        return f"pgfleet: report of {run.result['month']}"
    elif known.recovered:
        how = "works again"
    whose = "" if run.database == ANY else f" of {run.database}"
    return f"pgfleet: {run.kind}{whose} {how}"


def _lines(known: Story) -> Iterator[tuple[str, str]]:
    run = known.run
    error = run.error or {}
    yield "What", str(error.get("message") or run.result.get("summary") or _good_news(run))
    yield "Where", _where(run)
    yield "Since", _since(known) if not _written(run) else ""
    yield "Do", str(error.get("hint", ""))
    yield (
        "See",
        f"pgfleet report --month {run.result['month']}" if _written(run) else f"pgfleet run show {run.id}",
    )
    yield "Report", str(run.result.get("report", ""))


def _good_news(run: Run) -> str:
    took = (
        f" after {human.duration(run.ended_at - run.started_at)}" if run.ended_at and run.started_at else ""
    )
    return f"It ended {run.state.replace('_', ' ')}{took}."


def _where(run: Run) -> str:
    copies = [f"{copy['destination']} {copy['state']}" for copy in run.result.get("copies", ())]
    copies += [
        f"{alias} {', '.join(found['damaged'])} damaged"
        for alias, found in _of_scrub(run).items()
        if found.get("damaged")
    ]
    copies += [f"{alias} {', '.join(keys)}" for alias, keys in run.result.get("stored", {}).items()]
    places = ", ".join(copies) or str(run.result.get("destination") or "")
    step = f"step {run.error['step']}" if run.error and run.error.get("step") else ""
    return "; ".join(part for part in (run.backup_id or "", places, step) if part)


def _of_scrub(run: Run) -> Mapping[str, Any]:
    return run.result.get("destinations", {}) if run.kind == "scrub" else {}


def _since(known: Story) -> str:
    if known.run.state not in BAD:
        return (
            f"{moment(known.run)}; {_times(len(known.bad_before))} before that, from {moment(known.first_bad)} on"
            if known.recovered
            else moment(known.run)
        )
    count = len(known.bad_before) + 1
    in_a_row = f" ({count} in a row)" if count > 1 else ""
    good = (
        f"the last good one: {moment(known.last_good)}"
        if known.last_good
        else "there is no good one on record"
    )
    return f"{moment(known.first_bad)}{in_a_row}; {good}"


def _times(count: int) -> str:
    return "it had failed once" if count == 1 else f"it had failed {count} times"


def moment(run: Run) -> str:
    """When the run ended: ``2026-11-23 02:00 UTC``."""
    return f"{datetime.fromtimestamp(run.ended_at or run.created_at, UTC):%Y-%m-%d %H:%M} UTC"
