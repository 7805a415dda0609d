"""``pgfleet copy`` and ``pgfleet repair``: one more copy of a backup, and a good one in place of a damaged one."""

from __future__ import annotations

import click

from worker.cli import place
from worker.cli.see_through import see_through
from worker.owner import me
from worker.submit import repair as submit_repair
from worker.submit import submit

_WAIT = click.option("--wait/--no-wait", default=True, help="Wait for the end (default), or return at once.")
_HERE = click.option("--here", is_flag=True, help="Do it in this process: no broker, no workers.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print each run as one JSON object.")


@click.command()
@click.argument("backup", default="latest", metavar="[ID | latest | latest-proven]")
@click.option("--to", required=True, help="The destination that it is brought to.")
@click.option("--from", "source", help="The destination that it is taken from; otherwise any good copy.")
@click.option("--database", help="Whose latest backup.")
@_WAIT
@_HERE
@_JSON
def copy(
    *, backup: str, to: str, source: str | None, database: str | None, wait: bool, here: bool, as_json: bool
) -> int:
    """Bring a backup to one more destination, part by part and without decrypting it, and verify it there.

    Exit codes: 0 success, 1 general, 3 configuration, 6 a destination refused.
    """
    found = place.adapters_here() if here else place.adapters()
    payload = {"backup": backup, "to": to, "source": source, "database": database}
    payload = {name: value for name, value in payload.items() if value}
    runs = submit(found, "copy", payload, requested_by=place.requester(found), here=me() if here else "")
    return see_through(found, runs, wait=wait, here=here, as_json=as_json)


@click.command()
@click.argument("backup_id")
@click.option("--destination", help="Only the copy in this destination.")
@_WAIT
@_HERE
@_JSON
def repair(*, backup_id: str, destination: str | None, wait: bool, here: bool, as_json: bool) -> int:
    """Replace the damaged copies of BACKUP_ID by a good one, without decrypting it, and verify them.

    Exit codes: 0 success, 1 general (also: no good copy is left), 3 configuration, 6 a destination refused.
    """
    found = place.adapters_here() if here else place.adapters()
    runs = submit_repair(
        found,
        backup_id,
        destination=destination,
        requested_by=place.requester(found),
        here=me() if here else "",
    )
    return see_through(found, runs, wait=wait, here=here, as_json=as_json)
