"""After a run `--here`: its metrics go to the Pushgateway of the settings, and whatever comes of that is no failure."""

from __future__ import annotations

import click

from worker.errors import PgfleetError
from worker.redaction import redact
from worker.steps.context import Adapters

_READ_SECONDS = 60.0
_PUSH_SECONDS = 15.0


def push_at_end(found: Adapters) -> None:
    """Once the command has ended, however it ended; nothing where no Pushgateway is set."""
    context = click.get_current_context(silent=True)
    if found.settings.pushgateway_url is not None and context is not None:
        context.call_on_close(lambda: _push(found))


def _push(found: Adapters) -> None:
    from prometheus_client.registry import CollectorRegistry  # late: most commands need none of it

    from worker.metrics.collector import Fleet
    from worker.metrics.push import push
    from worker.metrics.readings import Readings

    url = found.settings.pushgateway_url
    assert url is not None
    try:
        registry = CollectorRegistry()
        readings = Readings(found.settings, max_age=_READ_SECONDS, ledger=found.ledger)
        registry.register(Fleet(readings, _READ_SECONDS))
        push(url.get_secret_value(), registry, seconds=_PUSH_SECONDS)
    except Exception as error:  # noqa: BLE001 - the run has ended, and nothing here changes how
        why = str(error) if isinstance(error, PgfleetError) else f"The metrics were not pushed: {error!r}."
        click.secho(f"Warning: {redact(why)}", fg="yellow", err=True)
