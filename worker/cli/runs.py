"""``pgfleet runs``, ``run show`` and ``cancel``: what is going on, and what went on."""

from __future__ import annotations

import json
import sys
import time

import click
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from worker.cli import place, render
from worker.cli.follow import Lines
from worker.cli.picture import Picture, runs_table, steps_table
from worker.cli.show_run import describe, say_end
from worker.cli.troubles import troubles
from worker.ledger.model import OPEN_STATES, Run
from worker.steps import audit
from worker.steps.context import Adapters

_LOOK_SECONDS = 1.0
_OPEN = 1000


@click.command()
@click.option(
    "--follow", is_flag=True, help="Keep showing, with live progress, until nothing is open (ctrl-C ends it)."
)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="At most so many runs."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def runs(follow: bool, limit: int, as_json: bool) -> int:
    """Show the newest runs: backups, restores, drills and cleanups."""
    found = place.adapters()
    if as_json:
        click.echo(json.dumps([describe(found, run) for run in found.ledger.runs(limit=limit)]))
        return 0
    if not follow:
        shown = found.ledger.runs(limit=limit)
        render.console().print(Group(runs_table(shown), *_waiting(found, shown)))
        return 0
    (_follow_on_screen if sys.stdout.isatty() else _follow_in_lines)(found, limit)
    return 0


def _follow_on_screen(found: Adapters, limit: int) -> None:
    with Live(console=Console(), refresh_per_second=4) as live:
        while True:
            shown = _newest(found, limit)
            live.update(Picture(found, shown))
            if not any(run.open for run in shown):
                return
            time.sleep(_LOOK_SECONDS)


def _follow_in_lines(found: Adapters, limit: int) -> None:
    """For a file or a pipe: what is there, and then a line for each thing that happens."""
    render.console().print(runs_table(_newest(found, limit)))
    lines = Lines(found, named=True)
    open_: dict[str, Run] = {}
    while True:
        open_ |= {run.id: run for run in found.ledger.runs(states=OPEN_STATES, limit=_OPEN)}
        now = [found.ledger.run(run_id) for run_id in open_]
        lines.show(now)
        for run in now:
            if not run.open:
                say_end(run)
                del open_[run.id]
        if not open_:
            return
        time.sleep(_LOOK_SECONDS)


def _newest(found: Adapters, limit: int) -> list[Run]:
    """The newest runs, and every open one."""
    newest = found.ledger.runs(limit=limit)
    older = [run for run in found.ledger.runs(states=OPEN_STATES, limit=_OPEN) if run not in newest]
    return [*newest, *older]


def _waiting(found: Adapters, shown: list[Run]) -> list[Text]:
    """What the open runs wait for, and until about when where that is known."""
    lines = [f"{run.id} {line}" for run in shown for line in troubles(found, run)]
    return [Text(line, style="yellow") for line in lines]


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
    console.print(runs_table([shown]))
    console.print(f"backup: {shown.backup_id or 'not named yet'}\n")
    console.print(
        Group(steps_table(f"run {shown.id}", found.ledger.progress(shown.id)), *_waiting(found, [shown]))
    )
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
