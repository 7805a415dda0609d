"""``pgfleet status``: one screen for the person on duty."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from worker import notify
from worker.cli import place, render
from worker.config.model import Settings
from worker.core import human
from worker.errors import ConfigError
from worker.ledger.model import Run
from worker.metrics.readings import Readings
from worker.status import CRITICAL, OK, UNKNOWN, WARNING, OfDatabase, Status, headline, status, verdict
from worker.status.problems import Problem
from worker.web import flow

#: How long somebody waits for a destination that does not answer; then it is told that it does not.
_PATIENCE_SECONDS = 20.0
_LISTING_SECONDS = 12.0
_WATCH_SECONDS = 2.0
_LIST_SECONDS = 30.0
#: Up to so many databases get a block each; more of them a line each.
_BLOCKS = 4
_VERDICTS = {
    OK: Text("● all is well", "bold green"),
    WARNING: Text("● needs attention", "bold yellow"),
    CRITICAL: Text("● critical", "bold red"),
    UNKNOWN: Text("● unknown", "bold magenta"),
}
_RESTORABLE = {True: ("✓", "bold green"), False: ("✗", "bold red"), None: ("?", "bold magenta")}
_COPY_STYLES = {
    "proven": "bold green",
    "verified": "green",
    **dict.fromkeys(("damaged", "refuted", "down"), "bold red"),
}


@click.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--watch", is_flag=True, help="Keep it on the screen and up to date (ctrl-C ends it).")
@click.option(
    "--send", is_flag=True, help="Send it to PGFLEET_NOTIFY_URLS: a digest, daily or weekly by cron."
)
def show_status(as_json: bool, watch: bool, send: bool) -> int:
    """Can I restore right now? How long would it take? What is wrong, and what to do?

    Exit codes: 0 all is well, 1 something needs attention, 2 a database cannot be restored, is overdue or has
    damaged copies, or nothing is scheduled, 3 unknown: no destination answers.
    """
    settings = place.settings()
    if watch:
        return _watch(
            Readings(settings, max_age=_LIST_SECONDS, near_age=_WATCH_SECONDS, patience=_LISTING_SECONDS)
        )
    readings = Readings(settings, max_age=_LIST_SECONDS, patience=_LISTING_SECONDS)
    readings.read(_PATIENCE_SECONDS)
    found = status(readings)
    if send:
        _send(settings, found)
    if as_json:
        click.echo(json.dumps(_as_json(found)))
    else:
        render.console().print(_picture(found), crop=False)
    return found.exit_code


def _send(settings: Settings, found: Status) -> None:
    if not settings.notify_urls:
        raise ConfigError(
            "Nobody is named to send it to.", "Set PGFLEET_NOTIFY_URLS to one or more Apprise URLs."
        )
    console = Console(width=100, no_color=True, file=io.StringIO())
    console.print(_picture(found), crop=False)
    assert isinstance(console.file, io.StringIO)
    text = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())
    notify.send(settings, f"pgfleet: {_VERDICTS[found.exit_code].plain.removeprefix('● ')}", text)


def _watch(readings: Readings) -> int:
    readings.read(_PATIENCE_SECONDS)
    console = Console()
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_fitting(console, status(readings)), refresh=True)
            time.sleep(_WATCH_SECONDS)
            readings.read(_WATCH_SECONDS)


def _as_json(found: Status) -> dict[str, Any]:
    return {
        "exit_code": found.exit_code,
        "at": found.at.isoformat(timespec="seconds"),
        "databases": [_database_json(one, found.at) for one in found.databases],
        "runs": [_run_json(run, rows) for run, rows in found.runs],
        "problems": [
            {
                "severity": problem.severity,
                "database": problem.database or None,
                "what": problem.what,
                "since": _iso(problem.since),
                "do": problem.do,
                "command": problem.command,
            }
            for problem in found.problems
        ],
    }


def _database_json(one: OfDatabase, now: datetime) -> dict[str, Any]:
    return {
        "database": one.database,
        "restorable": one.restorable,
        "backup_id": one.backup_id,
        "taken_at": _iso(one.at),
        "age_seconds": round((now - one.at).total_seconds()) if one.at else None,
        "overdue": one.overdue,
        "bytes": one.size,
        "copies": dict(one.copies),
        "restore_seconds": round(one.restore_seconds, 1) if one.restore_seconds is not None else None,
        "target_seconds": one.target_seconds,
        "proven_at": _iso(one.proven_at),
        "proven_backup_id": one.proven_id,
        "backups": one.backups,
        "stored_bytes": one.bytes,
        "next_at": _iso(one.next_at),
    }


def _run_json(run: Run, rows: list[dict[str, Any]]) -> dict[str, Any]:
    done, total = _bytes(rows)
    return {
        "run_id": run.id,
        "kind": run.kind,
        "database": run.database,
        "state": run.state,
        "step": _current(rows),
        "steps_done": sum(row["done"] for row in rows),
        "steps": sum(row["total"] for row in rows),
        "bytes_done": done,
        "bytes_total": total,
    }


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at is not None else None


def _picture(found: Status, *, compact: bool = False) -> RenderableType:
    """What is wrong comes before what is running: on a small screen the end is not seen."""
    style = _VERDICTS[found.exit_code].style
    head = Text.assemble(("● ", style), (headline(found), style))
    parts: list[RenderableType] = [head, Text(f"  as of {render.moment(found.at)} UTC", "dim"), Text()]
    if compact or len(found.databases) > _BLOCKS:
        parts += [_lines(found), Text()]
    else:
        for one in found.databases:
            parts += [*_block(one, found.at), Text()]
    if found.problems:
        title = f"{len(found.problems)} thing{'s' if len(found.problems) > 1 else ''} to look at"
        parts.append(Text(title, "bold underline"))
        for problem in found.problems:
            parts += _told(problem, found.at)
        parts.append(Text())
    if found.runs:
        parts += [Text("Running", "bold underline"), *_runs(found), Text()]
    return Group(*parts[:-1])


def _fitting(console: Console, found: Status) -> RenderableType:
    """What a screen that cannot be scrolled has room for; what it has not is counted."""
    for compact in (False, True):
        lines = console.render_lines(_picture(found, compact=compact), pad=False)
        if len(lines) <= console.height:
            return _picture(found, compact=compact)
    shown = lines[: console.height - 1]
    more = Text(f"… {len(lines) - len(shown)} more lines: pgfleet status", "dim")
    return Group(Segments(segment for line in shown for segment in (*line, Segment.line())), more)


def _block(one: OfDatabase, now: datetime) -> Iterator[RenderableType]:
    mark, style = _mark(one)
    why = (
        ": a destination does not answer, and no other has a backup"
        if one.restorable is None and one.down
        else ""
    )
    yield Text.assemble((f"{mark} {one.database}", style), f" {verdict(one)}{why}")
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim", width=9)
    table.add_column(overflow="fold")
    if one.restorable:
        taken = (render.age(one.at, now), "red" if one.overdue else "")
        table.add_row(
            "  from", Text.assemble(f"{one.backup_id}, {human.size(one.size)}, ", taken, _next(one, now))
        )
        table.add_row("  takes", _takes(one))
        table.add_row("  proven", _proven(one, now))
    if one.restorable or one.down:
        table.add_row("  copies", _copies(one))
    if table.row_count:
        yield table


def _mark(one: OfDatabase) -> tuple[str, str]:
    return ("!", "bold red") if one.overdue else _RESTORABLE[one.restorable]


def _next(one: OfDatabase, now: datetime) -> str:
    return f", next in {_rough((one.next_at - now).total_seconds())}" if one.next_at else ""


def _rough(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 3600:.0f} h" if seconds > 5400 else f"{seconds / 60:.0f} min"


def _takes(one: OfDatabase) -> Text:
    if one.restore_seconds is None:
        return Text("not known: no drill has measured it", "yellow")
    late = one.restore_seconds > one.target_seconds
    target = human.duration(one.target_seconds)
    return Text.assemble(
        (f"about {human.duration(one.restore_seconds)}", "yellow" if late else "green"),
        f", more than its target of {target}" if late else f" (target {target})",
    )


def _short(seconds: float, target: float) -> Text:
    return Text(_rough(seconds), "yellow" if seconds > target else "green")


def _proven(one: OfDatabase, now: datetime) -> Text:
    if one.proven_at is None:
        return Text("not known: a destination does not answer" if one.down else "never", "yellow")
    which = "this backup" if one.proven_id == one.backup_id else str(one.proven_id)
    return Text(f"{render.age(one.proven_at, now)} ({which})")


def _copies(one: OfDatabase) -> Text:
    found = Text()
    for alias, state in one.copies.items():
        style = _COPY_STYLES.get(state, "yellow")
        found.append("● ", style).append(f"{alias} ").append(f"{state}   ", style)
    count = f"{one.backups} backup{'s' if one.backups != 1 else ''}"
    return found.append(f"{count}, {human.size(one.bytes)} in all", "dim") if one.backups else found


def _lines(found: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "database", "newest", "takes", "proven", "copies"):
        table.add_column(heading, no_wrap=heading in ("", "database"))
    for one in found.databases:
        mark, style = _mark(one)
        table.add_row(
            Text(mark, style),
            Text(one.database, style),
            Text(render.age(one.at, found.at), "red" if one.overdue else ""),
            Text("?", "yellow")
            if one.restore_seconds is None
            else _short(one.restore_seconds, one.target_seconds),
            render.age(one.proven_at, found.at),
            Text.assemble(
                *(
                    (f"{alias} {state}  ", _COPY_STYLES.get(state, "yellow"))
                    for alias, state in one.copies.items()
                )
            ),
        )
    return table


def _runs(found: Status) -> Iterator[RenderableType]:
    """Each with what somebody works on, a line each."""
    for run, rows in found.runs:
        took = human.duration(max(0.0, found.at.timestamp() - (run.started_at or run.created_at)))
        by = f", asked for by {run.requested_by}" if run.requested_by else ""
        told = f"  {run.state} for {took}{by}"
        yield Text.assemble(
            ("▸ ", "cyan"), f"{run.kind} of {run.database}  ", (run.id, "cyan"), (told, "dim")
        )
        graph = flow.graph(run, rows, [], found.at.timestamp())
        trunk = [("", [*graph.before, *graph.after])]
        for where, nodes in [*trunk, *graph.lanes]:
            for node in nodes:
                if node.state == "running":
                    yield Padding(_at_work(node, where), (0, 0, 0, 2))


def _at_work(node: flow.Node, where: str) -> Text:
    done = f"{node.done} of {node.total}" if node.total > 1 else f"{node.share:.0%}" if node.share else ""
    rate = f"{human.rate(node.bytes, node.seconds)}" if node.bytes and node.seconds else ""
    told = "  ".join(part for part in (_bar(node.share), done, rate) if part)
    return Text.assemble(f"{f'{node.label} {where}' if where else node.label:<20}", ("  " + told, "cyan"))


def _bar(share: float, width: int = 20) -> str:
    full = round(share * width)
    return "━" * full + "─" * (width - full)


def _current(rows: list[dict[str, Any]]) -> str:
    """The steps that somebody works on."""
    return ", ".join(dict.fromkeys(row["name"] for row in rows if row["running"]))


def _bytes(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """Of the steps that somebody works on: (done, total)."""
    running = [row for row in rows if row["running"]]
    return sum(row["bytes_done"] for row in running), sum(row["bytes_total"] for row in running)


def _told(problem: Problem, now: datetime) -> Iterator[RenderableType]:
    """The command has a line of its own that is not folded, to be copied."""
    style, mark = ("bold red", "✗") if problem.severity == "critical" else ("yellow", "!")
    since = f"  since {render.moment(problem.since)} UTC" if problem.since and problem.since <= now else ""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(Text(mark, style), Text.assemble((problem.what, style), (since, "dim")))
    table.add_row("", Text(problem.do))
    yield table
    if problem.command:
        yield Text.assemble(("  $ ", "dim"), (problem.command, "cyan"), no_wrap=True, overflow="ignore")
