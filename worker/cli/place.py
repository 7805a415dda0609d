"""What every command starts with: settings, logging, adapters; and who is asking."""

from __future__ import annotations

import logging

from worker import log
from worker.cli.pushing import push_at_end
from worker.config.load import load
from worker.config.model import Settings
from worker.errors import BrokerUnavailable, LedgerUnavailable
from worker.ledger import Ledger
from worker.steps import audit_settings
from worker.steps.audit_settings import notice_settings
from worker.steps.context import Adapters


def settings(*, quiet: bool = True) -> Settings:
    """The settings, with logging set up: a command shows progress instead of every event."""
    loaded = load()
    if quiet and loaded.log_level == "INFO":
        log.setup(loaded.log_format, "ERROR")
        logging.getLogger("pgfleet.runner").addFilter(_not_said_by_the_command)
    else:
        log.setup(loaded.log_format, loaded.log_level)
    return loaded


def _not_said_by_the_command(record: logging.LogRecord) -> bool:
    """How a run fails is what the command ends with; only an error of pgfleet's own comes with a traceback."""
    return record.exc_info is not None


def adapters(*, quiet: bool = True) -> Adapters:
    return Adapters(settings(quiet=quiet))


def adapters_here() -> Adapters:
    """For `--here`: the configured ledger, or one of this process's own when that is out of reach."""
    loaded = settings(quiet=True)
    found = Adapters(loaded)
    try:
        found.ledger.ping()
    except LedgerUnavailable:
        private = Ledger("sqlite://", max_attempts=loaded.max_attempts, lease_seconds=loaded.lease_seconds)
        private.migrate()
        found = Adapters(loaded, private, ledger_lasts=False)
    push_at_end(found)
    return found


def who() -> str:
    """user@host, for the record of who asked."""
    return audit_settings.requester()


def requester(found: Adapters) -> str:
    """Who asks for something to be done; the settings are put on record when they have changed."""
    notice_settings(found, "command")
    return who()


def send_due(loaded: Settings, found: Adapters, run_id: str) -> None:
    """Hint the first steps of a run. Raises BrokerUnavailable; the run stands all the same."""
    from worker import broker, tasks  # late: `--here` needs no Celery at all

    hints = found.ledger.take_due(run_id=run_id, limit=8)
    if hints and not tasks.send(broker.make_app(loaded.broker_url.get_secret_value()), hints):
        raise BrokerUnavailable(
            f"Run {run_id} is in the ledger, but the broker does not answer, so no worker knows of it yet.",
            "It starts by itself when the broker and beat are back; or run it now with --here.",
        )
