"""``pgfleet drill``: prove that a backup restores to the database that it was taken from."""

from __future__ import annotations

from typing import Any

import click

from worker.cli import place
from worker.cli.see_through import see_through
from worker.cli.show_run import describe
from worker.core import human
from worker.core.drill import reservation
from worker.ledger.model import Run
from worker.owner import me
from worker.steps.context import Adapters
from worker.submit import submit

_STYLE = {"proven": ("✓", "green"), "refuted": ("✗", "red"), "could_not_run": ("?", "yellow")}


@click.command()
@click.argument("backup", default="latest", metavar="[ID|latest|latest-proven]")
@click.option("--database", help="Whose latest backup; needed when several databases are configured.")
@click.option("--destination", help="Which copy; the nearest good one when left out.")
@click.option("--before", help="The latest backup before this time (ISO 8601, with its time zone).")
@click.option("--jobs", type=click.IntRange(1, 64), help="Parallel jobs of pg_restore.")
@click.option("--wait/--no-wait", default=True, help="Wait for the verdict (default), or return at once.")
@click.option("--here", is_flag=True, help="Do the whole drill in this process: no broker, no workers.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as one JSON object.")
def drill(
    backup: str,
    database: str | None,
    destination: str | None,
    before: str | None,
    jobs: int | None,
    wait: bool,
    here: bool,
    as_json: bool,
) -> int:
    """Restore a backup into a throwaway server, compare it with the fingerprint of its source, and report.

    Exit codes: 0 proven, 1 general, 2 missing dependency, 3 configuration, 4 download failed, 5 decryption failed,
    6 restore failed, 7 refuted or nothing to compare with, 8 proven, but slower than the recovery time target.
    """
    found = place.adapters_here() if here else place.adapters()
    wanted = {
        "backup": backup,
        "database": database,
        "destination": destination,
        "before": before,
        "jobs": jobs,
    }
    payload = {name: value for name, value in wanted.items() if value is not None}
    (run,) = submit(found, "drill", payload, requested_by=place.requester(found), here=me() if here else "")
    return see_through(found, [run], wait=wait, here=here, as_json=as_json, say=say, shown=described)


def described(found: Adapters, run: Run) -> dict[str, Any]:
    """The run with what a drill is asked for on top."""
    result = run.result
    return describe(found, run) | {
        "verdict": result.get("verdict", "could_not_run"),
        "rto_seconds": result.get("rto_seconds"),
        "differences": result.get("differences", []),
        "report": result.get("report"),
    }


def say(run: Run) -> None:
    """The verdict, what it rests on, what is wrong, and where the report is."""
    result, verdict = run.result, run.result.get("verdict", "could_not_run")
    mark, colour = _STYLE[verdict]
    proven = verdict == "proven"
    where = f" in {result['destination']}" if result.get("destination") else ""
    but = reservation(result.get("compared")) if proven else ""
    said = f"{verdict} ({but})" if but else verdict
    click.secho(
        f"{mark} {run.backup_id or run.database}{where}: {said}", fg=colour, bold=True, err=not proven
    )
    compared = result.get("compared")
    if compared:
        content = f"{human.count(compared['rows'], 'row')} in {human.count(compared['tables'], 'table')}"
        click.echo(
            f"  compared: {content}, {human.count(compared['checksums'], 'checksum')}, "
            f"{human.count(compared['objects'], 'schema object')}, {human.count(compared['sequences'], 'sequence')}",
            err=not proven,
        )
    if result.get("control", {}).get("ok"):
        control = result["control"]
        click.echo(
            f"  control:  {control['change']} in {control['table']}: the comparison failed, as it must"
        )
    if compared:
        allowed = human.duration(result["rto_target_seconds"])
        click.echo(
            f"  recovery: {human.duration(result['rto_seconds'])} of {allowed} allowed", err=not proven
        )
    for difference in result.get("differences", []):
        click.echo(
            f"  {difference['kind']} {difference['what']}: {difference['expected'][:100]} at the backup, "
            f"{difference['found'][:100]} in the copy",
            err=True,
        )
    if run.error is not None:
        click.secho(f"Error: {run.error['message']}", fg="red", err=True)
        if run.error.get("hint"):
            click.secho(f"Hint:  {run.error['hint']}", fg="yellow", err=True)
    if result.get("unsigned"):
        click.secho(f"Warning: {result['unsigned']}", fg="yellow", err=True)
    if result.get("report"):
        click.echo(f"  report:   {result['report']}", err=not proven)
