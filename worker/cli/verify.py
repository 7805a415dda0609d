"""``pgfleet verify``: read a stored backup back and check every byte."""

from __future__ import annotations

import click

from worker.cli import place
from worker.cli.see_through import see_through
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
    runs = submit(found, "verify", payload, requested_by=place.requester(found), here=me() if here else "")
    return see_through(found, runs, wait=wait, here=here, as_json=as_json)
