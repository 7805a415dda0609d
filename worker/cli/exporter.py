"""``pgfleet exporter``: metrics for Prometheus, over HTTP, in a file for node_exporter, or pushed once."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path

import click
import prometheus_client
from prometheus_client.registry import CollectorRegistry

from worker.cli import place
from worker.errors import ConfigError
from worker.metrics.collector import Fleet
from worker.metrics.push import push as send
from worker.metrics.readings import Readings

logger = logging.getLogger("pgfleet.metrics")
PORT = 9769
#: One that asks once waits for an answer; a scrape must not (Prometheus gives up after 10 s).
_ONCE_SECONDS = 60.0


@click.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0: any free one."
)
@click.option("--address", default="127.0.0.1", show_default=True, help="0.0.0.0 or :: for all interfaces.")
@click.option(
    "--textfile",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the metrics to this file (*.prom, for node_exporter) instead, again and again.",
)
@click.option("--push", metavar="URL", help="Push the metrics to this Pushgateway, once.")
@click.option("--once", is_flag=True, help="Write to --textfile, or to standard output, once.")
def exporter(port: int, address: str, textfile: Path | None, push: str | None, once: bool) -> int:
    """Tell Prometheus what is backed up, verified and proven, and how the fleet fares.

    No worker is needed. A destination or a ledger that is down is told as pgfleet_up 0.
    How often the destinations are listed: PGFLEET_METRICS_SECONDS.
    """
    settings = place.settings(quiet=False)
    readings = Readings(settings, max_age=settings.metrics_seconds)
    registry = CollectorRegistry()
    single = once or push is not None
    registry.register(Fleet(readings, _ONCE_SECONDS) if single or textfile else Fleet(readings))
    if push is not None:
        send(push, registry)
    elif textfile is not None:
        _write(textfile, registry, None if once else settings.metrics_seconds)
    elif once:
        click.echo(prometheus_client.generate_latest(registry), nl=False)
    else:
        _serve(address, port, registry)
    return 0


def _serve(address: str, port: int, registry: CollectorRegistry) -> None:
    try:
        server, thread = prometheus_client.start_http_server(port, address, registry)
    except OSError as error:
        raise ConfigError(
            f"The exporter cannot listen on {address}:{port}: {error.strerror or error}.",
            "Choose another one with --port and --address.",
        ) from error
    host = f"[{address}]" if server.address_family == socket.AF_INET6 else address
    click.echo(f"Metrics are at http://{host}:{server.server_port}/metrics (ctrl-C ends it).")
    thread.join()


def _write(path: Path, registry: CollectorRegistry, every: float | None) -> None:
    """Renamed into place, so that nobody reads half of it."""
    while True:
        try:
            prometheus_client.write_to_textfile(str(path), registry)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be written: {error.strerror}.", "Name a file in a directory of this user's."
            ) from error
        if every is None:
            return
        threading.Event().wait(every)
