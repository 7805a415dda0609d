"""``pgfleet verify``: read a stored backup back and check every byte."""

from __future__ import annotations

import json

import click

from worker.cli import place
from worker.cli.follow import follow
from worker.cli.show_run import describe, exit_code, say_end
from worker.owner import me
from worker.submit import submit


@click.command()
@click.argument("backup_id")
@click.option("--destination", help="Only the copy in this destination; otherwise all copies.")
@click.option("--wait/--no-wait", default=True, help="Wait for the end (default), or return at once.")
@click.option("--here", is_flag=True, help="Do it in this process: no broker, no workers.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as one JSON object.")
def verify(backup_id: str, destination: str | None, wait: bool, here: bool, as_json: bool) -> int:
    """Read the copies of BACKUP_ID back from their destinations and compare every byte with the manifest.

    Exit codes: 0 all good, 1 general, 3 configuration, 6 a copy is damaged or cannot be read.
    """
    found = place.adapters_here() if here else place.adapters()
    payload = {"backup": backup_id, "destination": destination}
    (run,) = submit(found, "verify", payload, requested_by=place.requester(), here=me() if here else "")
    if not here:
        place.send_due(found.settings, found, run.id)
        if not wait:
            click.echo(
                json.dumps({"run_id": run.id, "state": run.state})
                if as_json
                else f"Run {run.id} is {run.state}."
            )
            return 0
    ended = follow(found, run, here=here, quiet=as_json)
    if as_json:
        click.echo(json.dumps(describe(found, ended)))
    else:
        say_end(ended)
    return exit_code(ended) or 0
