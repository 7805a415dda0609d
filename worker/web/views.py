"""What each page shows, as values for its template. Nothing is read here but a run, whose rows change by the second."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from urllib.parse import quote, urlencode

from worker import __version__
from worker.ledger.model import OPEN_STATES, Run
from worker.metrics.activity import BAD
from worker.metrics.holdings import USABLE
from worker.status import Status, headline, status
from worker.status.problems import Problem
from worker.web import calendar, flow, gantt, plots
from worker.web.sources import Sources, Steps, down
from worker.web.templating import render

#: How often a page that is looked at renews itself: where something runs, and where nothing does.
_RUNNING_SECONDS, _IDLE_SECONDS = 5, 30
_RECENT = 8
_STEPS = 2000  # of one run, in its picture and its table
_TABLE = 400
_LISTED, _MOST_LISTED = 100, 1600
KINDS = ("backup", "restore", "drill", "cleanup", "verify", "scrub", "copy")
#: What somebody looks for → states.
STATES: Mapping[str, tuple[str, ...]] = {
    "running": OPEN_STATES,
    "well": ("succeeded", "verified", "proven"),
    "failed": tuple(sorted(BAD)),
    "cancelled": ("cancelled",),
}


class Missing(Exception):
    """There is no such page."""


def overview(sources: Sources, now: datetime) -> str:
    found = status(sources.readings, now)
    activity, history = sources.activity, sources.history.value
    return _page(
        "overview",
        sources,
        now,
        found=found,
        headline=headline(found),
        cards=[
            (one, calendar.strip(sources.holding(one.database), now), _about(one.database, found))
            for one in found.databases
        ],
        running=[_running(sources, run, rows, now) for run, rows in found.runs],
        pending=history.pending if history is not None else [],
        recent=[run for run in activity.recent if not run.open][:_RECENT] if activity is not None else [],
        ledger_down=sources.readings.ledger.error,
        refresh=_RUNNING_SECONDS if found.runs else _IDLE_SECONDS,
    )


def _about(alias: str, found: Status) -> list[Problem]:
    return [problem for problem in found.problems if problem.database == alias]


def database(sources: Sources, alias: str, now: datetime) -> str:
    """Raises Missing."""
    configured = sources.settings.databases.get(alias)
    if configured is None:
        raise Missing(f"No database is called {alias}.")
    found = status(sources.readings, now)
    holding, history = sources.holding(alias), sources.history.value
    fates = calendar.fates(holding, configured, now) if holding is not None else {}
    removals = calendar.removals(holding, configured, now) if holding is not None else []
    drills = (sources.drills.value or {}).get(alias, [])
    made = history.backups.get(alias, []) if history is not None else []
    running = [(run, rows) for run, rows in found.runs if run.database == alias]
    return _page(
        "database",
        sources,
        now,
        one=next(one for one in found.databases if one.database == alias),
        configured=configured,
        holding=holding,
        problems=_about(alias, found),
        running=[_running(sources, run, rows, now) for run, rows in running],
        months=calendar.months(holding, configured, removals, now),
        removals=removals,
        policies={one: sources.settings.retention(alias, one) for one in configured.destinations},
        kept_beyond=_kept_beyond(holding, fates),
        fates=fates,
        made_by=history.of_backup if history is not None else {},
        plots=plots.of_database(holding, made, drills, configured.rto_seconds),
        numbers=plots.table(holding, made),
        drills=list(reversed(drills)),
        usable=USABLE,
        scrub_days=sources.settings.scrub_days,
        runs=[run for run in (sources.activity.recent if sources.activity else []) if run.database == alias][
            :_RECENT
        ],
        pending=[
            one for one in (history.pending if history is not None else []) if one.run.database == alias
        ],
        refresh=_RUNNING_SECONDS if running else _IDLE_SECONDS,
    )


def _kept_beyond(holding: Any, fates: Mapping[str, calendar.Fate]) -> list[tuple[Any, calendar.Fate]]:
    """Backups that stay for another reason than their age."""
    found = [(item, fates.get(item.backup_id)) for item in (holding.backups if holding is not None else ())]
    return [
        (item, fate) for item, fate in found if fate is not None and fate.keep and fate.expires_at is None
    ]


def backup(sources: Sources, backup_id: str, now: datetime) -> str:
    """Raises Missing."""
    item = sources.backup(backup_id)
    if item is None:
        lost = ", ".join(down(sources))
        why = f" (of {lost} nothing is known now)" if lost else ""
        raise Missing(f"No destination has a backup {backup_id}{why}.")
    configured = sources.settings.databases[item.database]
    holding, history = sources.holding(item.database), sources.history.value
    manifest = next((copy.manifest for copy in item.copies.values() if copy.manifest is not None), None)
    judged = [one for one in (holding.judged if holding else ()) if one.entry.backup_id == backup_id]
    order = [one.backup_id for one in holding.backups] if holding else [backup_id]
    at = order.index(backup_id)
    return _page(
        "backup",
        sources,
        now,
        item=item,
        at=calendar.taken_at(item),
        state=calendar.state_of(item),
        type=next(iter(item.copies.values())).type,
        manifest=manifest,
        source_bytes=sum(table.bytes for table in manifest.tables) if manifest is not None else 0,
        verdicts={one.destination: one for one in judged},
        fate=calendar.fates(holding, configured, now).get(backup_id) if holding is not None else None,
        records=sources.records(item),
        run=history.of_backup.get(backup_id) if history is not None else None,
        missing=[alias for alias in configured.destinations if alias not in item.copies],
        owed=holding.owed if holding is not None else {},
        newer=order[at - 1] if at else None,
        older=order[at + 1] if at + 1 < len(order) else None,
        refresh=0,
    )


def run(sources: Sources, run_id: str, now: datetime) -> str:
    """Raises RunNotFound, LedgerUnavailable."""
    ledger = sources.readings.adapters.ledger
    found = sources.run(run_id)
    steps = list(islice(ledger.steps(found.id, all_generations=True), _STEPS + 1))
    more, steps = len(steps) > _STEPS, steps[:_STEPS]
    rows = ledger.progress(found.id)
    return _page(
        "run",
        sources,
        now,
        run=found,
        graph=_running(sources, found, rows, now)["graph"],
        picture=gantt.picture(steps, now.timestamp(), found.ended_at),
        workers=gantt.workers(steps),
        steps=steps[:_TABLE],
        more=more or len(steps) > _TABLE,
        troubles=[step for step in steps if step.error or step.attempts > 1],
        events=ledger.told(found.id),
        listed=sources.backup(found.backup_id) is not None if found.backup_id else False,
        flower=_flower(sources, f"{found.id} OR kwargs:{found.id}"),
        request={key: value for key, value in found.request.items() if value not in (None, "", [], {})},
        refresh=_RUNNING_SECONDS if found.open else 0,
    )


def runs(sources: Sources, query: Mapping[str, str], now: datetime) -> str:
    """Raises LedgerUnavailable, Missing."""
    kind, wanted, alias = (query.get(name, "") for name in ("kind", "state", "database"))
    if (kind and kind not in KINDS) or (wanted and wanted not in STATES):
        raise Missing("Runs cannot be chosen by that.")
    if alias and alias not in sources.settings.databases:
        raise Missing(f"No database is called {alias}.")
    try:
        limit = min(_MOST_LISTED, max(1, int(query.get("limit", _LISTED))))
    except ValueError:
        raise Missing("That is not a number of runs.") from None
    found = sources.readings.adapters.ledger.runs(
        kind=kind or None, database=alias or None, states=STATES.get(wanted), limit=limit + 1
    )
    chosen = {"kind": kind, "state": wanted, "database": alias}
    more = min(_MOST_LISTED, limit * 2)
    return _page(
        "runs",
        sources,
        now,
        runs=found[:limit],
        filters=[
            (
                label,
                name,
                chosen[name],
                [(value, _address(chosen | {name: value})) for value in ("", *values)],
            )
            for label, name, values in (
                ("State", "state", STATES),
                ("Kind", "kind", KINDS),
                ("Database", "database", sources.settings.databases),
            )
        ],
        chosen=any(chosen.values()),
        more=_address({**chosen, "limit": str(more)}) if len(found) > limit and more > limit else None,
        refresh=_IDLE_SECONDS,
    )


def _address(chosen: Mapping[str, str]) -> str:
    query = urlencode({key: value for key, value in chosen.items() if value})
    return f"/runs?{query}" if query else "/runs"


def trouble(sources: Sources, now: datetime, title: str, what: str, hint: str) -> str:
    """A page about a page that cannot be shown."""
    return _page("trouble", sources, now, title=title, what=what, hint=hint, refresh=0)


def _page(name: str, sources: Sources, now: datetime, **values: Any) -> str:
    parts = {part.name: part for part in (*sources.readings.parts, sources.history)}
    return render(
        name,
        now,
        version=__version__,
        databases=list(sources.settings.databases),
        down=down(sources),
        flower_home=sources.settings.flower_url,
        flower_of=lambda search: _flower(sources, search),
        parts=parts,
        late={
            part.name
            for part in parts.values()
            if part.at is not None and now.timestamp() - part.at > 2 * part.max_age + 60
        },
        **values,
    )


def _flower(sources: Sources, search: str) -> str | None:
    """Flower's page of tasks, with ``name:`` and this in its search field: that is the way to it by an address.

    A task's kwargs show its run (worker/flower/shown.py).
    """
    home = sources.settings.flower_url
    return f"{home.rstrip('/')}/tasks?name={quote(search)}" if home else None


def _running(sources: Sources, found: Run, rows: Steps, now: datetime) -> dict[str, Any]:
    configured = sources.settings.databases.get(found.database)
    destinations = configured.destinations if configured is not None else ()
    began = found.started_at or found.created_at
    return {
        "run": found,
        "graph": flow.graph(found, rows, destinations, now.timestamp()),
        "seconds": max(0.0, (found.ended_at or now.timestamp()) - began),
    }
