"""The Celery tasks, thin: a step task does one step by its ids, an entry task inserts a run.

Arguments are ids or a small JSON request: never a secret, a DSN or a path.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from worker import reconcile, runner
from worker.config.model import Settings
from worker.flower.shown import EntryTask, Said, Shown, ShownTask, arguments, request_of
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
            shown, for_what = arguments(hint)
            app.send_task(
                hint.name,
                args=[hint.run_id, hint.step_id],
                argsrepr=shown,
                kwargsrepr=for_what,
                queue=hint.queue,
                retry=False,
            )
            sent += 1
    except OperationalError as error:
        logger.warning("the broker does not take messages", extra={"action": "hint", "error": str(error)})
    return sent


def register(app: Celery) -> None:
    for name in runner.STEPS:
        _register_step(app, name)
    for kind in ENTRIES:
        _register_entry(app, kind)

    @app.task(name="pgfleet.reconcile", base=ShownTask)
    def reconcile_task() -> Said:
        sent = send(app, reconcile.reconcile(adapters()))
        return Said(f"{sent} {'message' if sent == 1 else 'messages'} sent")


def _register_step(app: Celery, name: str) -> None:
    @app.task(name=name, base=ShownTask, bind=True)
    def step(self: ShownTask, run_id: str, step_id: int) -> Said:
        shown = Shown(self)
        runner.perform(adapters(), run_id, step_id, shown)
        send(app, adapters().ledger.take_due(run_id=run_id, limit=8))
        return shown.conclude()


def _register_entry(app: Celery, kind: str) -> None:
    @app.task(name=f"pgfleet.{kind}", base=EntryTask, bind=True, kind=kind)
    def entry(self: Any, *args: Any, **fields: Any) -> Said:
        """The answer is a JSON list: a run for each database that was asked for."""
        who = f"task {self.request.origin or 'unknown'}"
        runs = submit(adapters(), kind, request_of(kind, args, fields), requested_by=who)
        for run in runs:
            send(app, adapters().ledger.take_due(run_id=run.id, limit=8))
        answer = [{"run_id": run.id, "database": run.database, "state": run.state} for run in runs]
        return Said(json.dumps(answer))
