"""``pgfleet scrub``: read stored bytes again before they are needed."""

from __future__ import annotations

import click

from worker.cli import place
from worker.cli.see_through import see_through
from worker.core import human
from worker.ledger.model import Run
from worker.owner import me
from worker.submit import scrub as submit_scrub


@click.command()
@click.option("--database", help="Only this database's backups.")
@click.option("--destination", help="Only the copies in this destination.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end (default), or return at once.")
@click.option("--here", is_flag=True, help="Do it in this process: no broker, no workers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a database.")
def scrub(*, database: str | None, destination: str | None, wait: bool, here: bool, as_json: bool) -> int:
    """Read back the stored parts that were not read for longest: a day's share, as the schedule does each day.

    Exit codes: 0 all good, 1 general, 3 configuration, 6 a copy is damaged or cannot be read.
    """
    found = place.adapters_here() if here else place.adapters()
    runs = submit_scrub(
        found,
        database=database,
        destination=destination,
        requested_by=place.requester(found),
        here=me() if here else "",
    )
    return see_through(found, runs, wait=wait, here=here, as_json=as_json, say=_say)


def _say(run: Run) -> None:
    for destination, done in run.result.get("destinations", {}).items():
        cold = done.get("cold_objects", 0)
        skipped = f", {cold} objects in cold storage skipped" if cold else ""
        click.echo(f"{destination}: {done['parts']} parts read ({human.size(done['bytes'])}){skipped}")
        for backup in done.get("damaged", ()):
            click.secho(f"  damaged: {backup} (pgfleet repair {backup})", fg="red")
    if run.error is not None:
        click.secho(f"Error: {run.error['message']}", fg="red", err=True)
        if run.error.get("hint"):
            click.secho(f"Hint:  {run.error['hint']}", fg="yellow", err=True)
