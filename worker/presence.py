"""What a Celery worker does beside its tasks: refuse to start when it cannot do its work, listen to the queue of
its spool, tell the ledger that it lives, and free the steps of children that were killed.
"""

from __future__ import annotations

import logging
import socket
import sys
from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker import state

from worker import __version__, log, reconcile, tasks
from worker.config.model import Settings
from worker.errors import ConfigError, EncryptionFailed, LedgerTooNew, PgfleetError
from worker.ledger.model import WorkerInfo
from worker.owner import is_dead
from worker.steps.audit_settings import notice_settings
from worker.steps.context import Adapters
from worker.steps.keys import recipients

logger = logging.getLogger("pgfleet.worker")
BEAT_SECONDS = 10.0
SWEEP_SECONDS = 600.0
#: Queues whose workers stage files, and so listen to the queue of their spool too.
STAGING = frozenset({"dump", "restore"})


class _Process:
    settings: Settings | None = None


def configure(settings: Settings) -> None:
    _Process.settings = settings


def connect(app: Celery) -> None:
    signals.setup_logging.connect(_setup_logging)
    signals.celeryd_after_setup.connect(_after_setup)
    signals.beat_init.connect(_beat_begins)
    signals.worker_shutdown.connect(_goodbye)
    app.steps["worker"].add(Presence)


def _setup_logging(loglevel: int | None = None, **_: Any) -> None:
    """Our format for every line; Celery's own set-up would hide our events below its default level, WARNING."""
    assert _Process.settings is not None
    asked = loglevel if loglevel not in (None, logging.WARNING) else None
    level = logging.getLevelName(asked) if asked is not None else _Process.settings.log_level
    log.setup(_Process.settings.log_format, level)
    for chatter in ("celery.worker.strategy", "celery.app.trace"):  # each task is told of by the runner
        logging.getLogger(chatter).setLevel(logging.DEBUG if level == "DEBUG" else logging.WARNING)


def _after_setup(sender: str, instance: Any, **_: Any) -> None:
    """Check this worker's role before it takes its first message. Exits 3 (or 1) with one sentence when it cannot."""
    assert _Process.settings is not None
    adapters = Adapters(_Process.settings)
    queues = frozenset(instance.app.amqp.queues.consume_from)
    try:
        ledger = adapters.ledger
        ledger.ping()
        if queues & STAGING:
            instance.app.amqp.queues.select_add(f"spool.{adapters.spool.id}")
        if "dump" in queues:
            check_dump_role(adapters)
        notice_settings(adapters, "worker", sender)
        ledger.close()  # the pool's children open their own
    except PgfleetError as error:
        sys.stderr.write(f"Error: {error.message}\nHint:  {error.hint}\n")
        raise SystemExit(error.exit_code) from None


def _goodbye(sender: Any, **_: Any) -> None:
    """Its pool has ended too: an upgrade need not wait until its silence is noticed."""
    try:
        tasks.adapters().ledger.stopped(sender.hostname)
    except PgfleetError as error:
        logger.warning(error.message, extra={"action": "presence", "hint": error.hint})


def _beat_begins(sender: Any, **_: Any) -> None:
    assert _Process.settings is not None
    adapters = Adapters(_Process.settings)
    notice_settings(adapters, "beat")
    adapters.ledger.close()


def check_dump_role(adapters: Adapters) -> None:
    """A worker that dumps needs every database's public keys. Raises ConfigError."""
    for database in adapters.settings.databases.values():
        try:
            recipients(adapters, database)
        except EncryptionFailed as error:
            raise ConfigError(
                f"This worker takes dumps (queue 'dump') but cannot encrypt {database.alias}: {error.message}",
                error.hint,
            ) from error


class Presence(bootsteps.StartStopStep):
    """Runs on the worker's own timer, in its main thread: a thread of ours could hold a lock while the pool forks."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._timers: list[Any] = []

    def start(self, parent: Any) -> None:
        self._say(parent)
        self._sweep()
        self._timers = [
            parent.timer.call_repeatedly(BEAT_SECONDS, self._say, (parent,)),
            parent.timer.call_repeatedly(SWEEP_SECONDS, self._sweep),
        ]

    def stop(self, parent: Any) -> None:
        for timer in self._timers:
            timer.cancel()

    def _say(self, parent: Any) -> None:
        try:
            adapters = tasks.adapters()
            adapters.ledger.beat(
                WorkerInfo(
                    name=parent.hostname,
                    host=socket.gethostname(),
                    queues=tuple(sorted(parent.app.amqp.queues.consume_from)),
                    spool_id=adapters.spool.id,
                    version=__version__,
                    seen_at=0.0,
                )
            )
            if adapters.ledger.break_dead_leases(is_dead):
                tasks.send(parent.app, adapters.ledger.take_due(limit=32))
        except LedgerTooNew as error:  # it was cut off or frozen while the fleet was upgraded without it
            logger.error(error.message, extra={"action": "presence", "hint": error.hint})
            state.should_stop = error.exit_code  # type: ignore[assignment]
        except PgfleetError as error:
            logger.warning(error.message, extra={"action": "presence", "hint": error.hint})

    def _sweep(self) -> None:
        try:
            for run_id in reconcile.sweep_spool(tasks.adapters()):
                logger.info("removed leftovers", extra={"action": "sweep", "run": run_id})
        except PgfleetError as error:
            logger.warning(error.message, extra={"action": "sweep", "hint": error.hint})
