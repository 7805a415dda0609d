"""``pgfleet web``: the status as a page."""

from __future__ import annotations

import click

from worker.cli import place
from worker.metrics.readings import Readings
from worker.web.server import Server

PORT = 9770


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any free one."
)
@click.option("--address", default="127.0.0.1", show_default=True, help="Others need PGFLEET_WEB_PASSWORD.")
def web(port: int, address: str) -> int:
    """Serve the status as a page to look at: what can be restored, what is running, what is wrong.

    Nothing can be changed there. How often the destinations are listed: PGFLEET_METRICS_SECONDS.
    """
    settings = place.settings(quiet=False)
    password = settings.web_password.get_secret_value() if settings.web_password else None
    login = (settings.web_user, password) if password is not None else None
    readings = Readings(settings, max_age=settings.metrics_seconds)
    with Server(address, port, readings, login) as server:
        host = f"[{address}]" if ":" in address else address
        click.echo(f"The status is at http://{host}:{server.server_port}/ (ctrl-C ends it).")
        server.serve_forever()
    return 0
