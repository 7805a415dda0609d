"""``pgfleet runs``, ``run show`` and ``cancel``: what is going on, and what went on."""

from __future__ import annotations

import json
import time

import click
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from worker.cli import place, render
from worker.cli.follow import troubles
from worker.cli.show_run import describe
from worker.core import human
from worker.ledger.model import OPEN_STATES, Run
from worker.steps import audit
from worker.steps.context import Adapters


@click.command()
@click.option(
    "--follow", is_flag=True, help="Keep showing, with live progress, until nothing is open (ctrl-C ends it)."
)
@click.option("--limit", default=20, show_default=True, help="At most so many runs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def runs(follow: bool, limit: int, as_json: bool) -> int:
    """Show the newest runs: backups, restores, drills and cleanups."""
    found = place.adapters()
    if as_json:
        click.echo(json.dumps([describe(found, run) for run in found.ledger.runs(limit=limit)]))
        return 0
    if not follow:
        shown = found.ledger.runs(limit=limit)
        render.console().print(Group(_table(shown), *_waiting(found, shown)))
        return 0
    with Live(console=Console(), refresh_per_second=4) as live:
        while True:
            shown = found.ledger.runs(limit=limit)
            live.update(_picture(found, shown))
            if not any(run.open for run in shown):
                return 0
            time.sleep(1.0)


def _picture(found: Adapters, shown: list[Run]) -> Group:
    """All runs, and under them the steps of those that are open."""
    open_ = [_steps(found, run) for run in shown if run.open]
    return Group(_table(shown), *open_, *_waiting(found, shown))


def _waiting(found: Adapters, shown: list[Run]) -> list[Text]:
    """What the open runs wait for, and until about when where that is known."""
    lines = [f"{run.id} {line}" for run in shown for line in troubles(found, run)]
    return [Text(line, style="yellow") for line in lines]


def _table(shown: list[Run]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "kind", "database", "state", "began (UTC)", "took", "asked by"):
        table.add_column(heading, no_wrap=heading != "asked by")
    for run in shown:
        took = human.duration((run.ended_at or time.time()) - run.started_at) if run.started_at else "-"
        table.add_row(
            run.id,
            run.kind,
            run.database,
            render.state(run.state),
            render.moment(run.started_at),
            took,
            escape(run.requested_by),
        )
    return table


def _steps(found: Adapters, run: Run) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=f"run {run.id}", title_justify="left")
    for heading in ("", "step", "where", "parts", "bytes", "rate", "time"):
        table.add_column(heading)
    for row in render.progress_rows(found.ledger.progress(run.id), time.time()):
        table.add_row(*row)
    return table


@click.group()
def run() -> None:
    """Look at one run."""


@run.command("show")
@click.argument("run_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(run_id: str, as_json: bool) -> int:
    """Show a run with its steps; a prefix of the id is enough."""
    found = place.adapters()
    shown = found.ledger.run(run_id)
    if as_json:
        click.echo(json.dumps(describe(found, shown)))
        return 0
    console = render.console()
    console.print(_table([shown]))
    console.print(f"backup: {shown.backup_id or 'not named yet'}\n")
    console.print(Group(_steps(found, shown), *_waiting(found, [shown])))
    if shown.error is not None:
        message, hint = escape(shown.error["message"]), escape(shown.error.get("hint", ""))
        console.print(f"\n[red]Error:[/] {message}\n[yellow]Hint:[/]  {hint}")
    return 0


@click.command()
@click.argument("run_id")
def cancel(run_id: str) -> int:
    """Stop a run: its work ends within seconds, and what it left is cleaned up."""
    found = place.adapters()
    run = found.ledger.run(run_id)
    who = place.requester(found)
    if found.ledger.cancel(run.id, who):
        click.echo(f"Run {run.id} is cancelled; its spool and open uploads are being cleared.")
        # By the fleet: a destination that is away must not keep somebody waiting who stops something.
        audit.note(
            found,
            "cancel",
            by=who,
            database=run.database,
            backup_id=run.backup_id,
            result="cancelled",
            run_id=run.id,
            detail={"kind": run.kind, "asked_by": run.requested_by},
            at_once=False,
        )
        place.send_due(found.settings, found, run.id)
        return 0
    click.echo(f"Run {run.id} has ended already: {found.ledger.run(run.id).state}.")
    return 0 if run.state not in OPEN_STATES else 1
