"""``pgfleet cleanup``: apply the retention, and say of every copy why it stays or goes."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from worker.cli import place, render
from worker.cli.follow import follow
from worker.cli.pushing import push_at_end
from worker.cli.see_through import interruptible
from worker.cli.show_run import describe, exit_code
from worker.core import human, plan_text
from worker.ledger.model import Run
from worker.owner import me
from worker.steps.context import Adapters
from worker.steps.prune import PLAN_TOO_LARGE
from worker.submit import submit


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
@click.option("--database", help="Only this database's backups.")
@click.option("--destination", help="Only the copies in this destination.")
@click.option("--force", is_flag=True, help="Do not ask about a plan that removes much at once.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end (default), or return at once.")
@click.option("--here", is_flag=True, help="Do it in this process: no broker, no workers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a database.")
def cleanup(
    *,
    dry_run: bool,
    database: str | None,
    destination: str | None,
    force: bool,
    wait: bool,
    here: bool,
    as_json: bool,
) -> int:
    """Remove the backups that no rule of the retention keeps, and what dead runs have left behind.

    Exit codes: 0 success, 1 general (also: a plan that removes too much at once), 2 missing dependency,
    3 configuration.
    """
    # Not without the ledger, even with --here: only it knows which uploads are somebody's.
    found = place.adapters()
    found.ledger.ping()
    if here:
        push_at_end(found)
    payload = {"database": database, "destination": destination, "dry_run": dry_run, "force": force}
    payload = {name: value for name, value in payload.items() if value}
    runs = _submit(found, payload, here=here)
    if not wait and not here:
        for run in runs:
            shown = {"run_id": run.id, "database": run.database, "state": run.state}
            click.echo(json.dumps(shown) if as_json else f"Run {run.id} for {run.database} is {run.state}.")
        return 0
    return max((_see_through(found, run, payload, here=here, as_json=as_json) for run in runs), default=0)


def _submit(found: Adapters, payload: dict[str, Any], *, here: bool) -> list[Run]:
    runs = submit(found, "cleanup", payload, requested_by=place.requester(found), here=me() if here else "")
    if not here:
        for run in runs:
            place.send_due(found.settings, found, run.id)
    return runs


def _see_through(found: Adapters, run: Run, payload: dict[str, Any], *, here: bool, as_json: bool) -> int:
    """Until it has ended, with the question about a large plan where there is somebody to ask."""
    with interruptible(found, [run], here=here):
        ended = follow(found, run, here=here, quiet=True)
    rows = _rows(found, ended)
    if as_json:
        click.echo(json.dumps(describe(found, ended) | {"plan": rows}))
        return exit_code(ended) or 0
    _say(ended, rows)
    too_large = (ended.error or {}).get("type") == PLAN_TOO_LARGE
    if too_large and sys.stdin.isatty() and click.confirm("Remove all of that?", err=True):
        again = payload | {"database": run.database, "force": True}
        (forced,) = _submit(found, again, here=here)
        return _see_through(found, forced, again, here=here, as_json=as_json)
    return exit_code(ended) or 0


def _rows(found: Adapters, run: Run) -> list[dict[str, Any]]:
    steps = found.ledger.steps(run.id, name="cleanup.plan")
    return [row for step in steps for row in step.result.get("plan", [])]


def _say(run: Run, rows: list[dict[str, Any]]) -> None:
    if rows:
        render.console().print(_table(rows))
    else:
        click.echo(f"{run.database} has no backups here.")
    for row in rows:
        if row["cost"]:
            click.secho(f"{row['backup_id']} in {row['destination']}: {row['cost']}", fg="yellow")
    sums = run.result.get("destinations", {})
    if run.result.get("dry_run") or run.state != "succeeded":
        _say_lines(plan_text.sentences(rows, done=False) if run.result.get("dry_run") else [])
    for destination, done in sums.items():
        if "removed" in done:
            _say_done(destination, done)
    for one in run.result.get("not_removed", []):
        click.secho(f"Not removed: {one['backup_id']} in {one['destination']}: {one['reason']}", fg="yellow")
    if run.error is not None:
        click.secho(f"Error: {run.error['message']}", fg="red", err=True)
        if run.error.get("hint"):
            click.secho(f"Hint:  {run.error['hint']}", fg="yellow", err=True)


def _say_lines(lines: list[str]) -> None:
    for line in lines:
        click.echo(line)


def _say_done(destination: str, done: dict[str, int]) -> None:
    swept = ""
    if done["aborted_uploads"] or done["orphans"]:
        swept = (
            f"; swept {done['aborted_uploads']} unfinished uploads and {done['orphans']} left objects "
            f"({human.size(done['orphan_bytes'])})"
        )
    click.echo(
        f"{destination}: {done['removed']} copies removed, {human.size(done['bytes'])} reclaimed{swept}"
    )


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("copy", "backup", "type", "state", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows:
        verdict = "[green]keep[/]" if row["keep"] else "[red]remove[/]"
        table.add_row(
            row["destination"],
            row["backup_id"],
            row["type"],
            render.state(row["state"]),
            verdict,
            human.size(row["bytes"]),
            escape(row["reason"]),
        )
    return table
