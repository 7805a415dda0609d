"""``pgfleet backup``: take backups now, through the fleet or in this process."""

from __future__ import annotations

import click

from worker.cli import place
from worker.cli.see_through import see_through
from worker.owner import me
from worker.submit import submit


@click.command()
@click.argument("databases", nargs=-1, metavar="[DATABASE]...")
@click.option(
    "--wait/--no-wait", default=True, help="Wait for the end and show progress (default), or return at once."
)
@click.option("--here", is_flag=True, help="Do the whole run in this process: no broker, no workers.")
@click.option(
    "--key", "idempotency_key", help="Idempotency key: asked twice with the same key, it is the same run."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a database.")
def backup(
    databases: tuple[str, ...], wait: bool, here: bool, idempotency_key: str | None, as_json: bool
) -> int:
    """Back up DATABASE (all configured ones without a name): dump, encrypt, upload, verify.

    Exit codes: 0 success, 1 general, 2 missing dependency, 3 configuration, 4 dump failed, 5 encryption failed,
    6 upload failed.
    """
    found = place.adapters_here() if here else place.adapters()
    payload = {"databases": list(databases), "idempotency_key": idempotency_key}
    runs = submit(found, "backup", payload, requested_by=place.requester(found), here=me() if here else "")
    return see_through(found, runs, wait=wait, here=here, as_json=as_json)
