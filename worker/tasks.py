"""The Celery tasks, thin: a step task does one step by its ids, an entry task inserts a run.

Arguments are ids or a small JSON request: never a secret, a DSN or a path.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from worker import reconcile, runner
from worker.config.model import Settings
from worker.errors import PgfleetError
from worker.ledger.model import Hint
from worker.steps.context import Adapters
from worker.submit import submit

logger = logging.getLogger("pgfleet.tasks")

ENTRIES = ("backup", "restore", "drill", "verify", "cleanup", "copy")


class _Process:
    """Adapters belong to one process: a forked child must not share its parent's connections."""

    settings: Settings | None = None
    adapters: Adapters | None = None
    pid = 0


def configure(settings: Settings) -> None:
    _Process.settings = settings


def adapters() -> Adapters:
    if _Process.adapters is None or _Process.pid != os.getpid():
        assert _Process.settings is not None, "configure() comes first"
        _Process.adapters, _Process.pid = Adapters(_Process.settings), os.getpid()
    return _Process.adapters


def send(app: Celery, hints: Iterable[Hint]) -> int:
    """Send hints; a broker that is away costs nothing but time, since `reconcile` sends them again."""
    sent = 0
    try:
        for hint in hints:
            app.send_task(hint.name, args=[hint.run_id, hint.step_id], queue=hint.queue, retry=False)
            sent += 1
    except OperationalError as error:
        logger.warning("the broker does not take messages", extra={"action": "hint", "error": str(error)})
    return sent


def register(app: Celery) -> None:
    for name in runner.STEPS:
        _register_step(app, name)
    for kind in ENTRIES:
        _register_entry(app, kind)

    @app.task(name="pgfleet.reconcile")
    def reconcile_task() -> None:
        send(app, reconcile.reconcile(adapters()))


def _register_step(app: Celery, name: str) -> None:
    @app.task(name=name, throws=(PgfleetError,))
    def step(run_id: str, step_id: int) -> None:
        error = runner.perform(adapters(), run_id, step_id)
        send(app, adapters().ledger.take_due(run_id=run_id, limit=8))
        if error is not None:
            raise error


def _register_entry(app: Celery, kind: str) -> None:
    @app.task(name=f"pgfleet.{kind}", bind=True)
    def entry(self: Any, request: Mapping[str, Any] | None = None) -> None:
        who = f"task {self.request.origin or 'unknown'}"
        for run in submit(adapters(), kind, dict(request or {}), requested_by=who):
            send(app, adapters().ledger.take_due(run_id=run.id, limit=8))
