"""For applications: ask the fleet for a backup and follow it.

    client = Client(broker_url="redis://…", ledger_url="postgresql://…")
    run = client.request_backup("goimg", idempotency_key="before-migration-42")
    client.wait(run.id, timeout=3600)

Needs the broker's and the ledger's URL and nothing else: no destination, no key, no database password. The request
is a row in the ledger before anything is sent, so it is not lost when the broker is away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery.exceptions import OperationalError as CeleryOperationalError
from kombu.exceptions import OperationalError

from worker import flows
from worker.broker import make_app
from worker.core.requests import parse
from worker.errors import PgfleetError
from worker.ledger import Ledger
from worker.ledger.model import NewRun, Run


@dataclass(frozen=True)
class RunView:
    """A run as an application sees it. `error` has ``message``, ``hint`` and ``exit_code``."""

    id: str
    kind: str
    database: str
    state: str
    backup_id: str | None
    copies: tuple[Mapping[str, Any], ...]
    error: Mapping[str, Any] | None
    created_at: datetime
    ended_at: datetime | None
    open: bool


@dataclass(frozen=True)
class BackupView:
    """A backup that the ledger knows of. The destinations have the last word: `pgfleet list`."""

    backup_id: str
    database: str
    taken_at: datetime
    state: str
    copies: tuple[Mapping[str, Any], ...]


class WaitTimeout(PgfleetError):
    """The run had not ended in time; it goes on."""


class Client:
    """Thread-safe; make one a process. Raises LedgerUnavailable when the ledger does not answer."""

    def __init__(self, broker_url: str, ledger_url: str, *, name: str = "application") -> None:
        self._app = make_app(broker_url)
        self._ledger = Ledger(ledger_url)
        self._name = name

    def request_backup(self, database: str, *, idempotency_key: str | None = None) -> RunView:
        """Ask for a backup; returns at once. The same key again gives the same run."""
        payload = {"databases": [database], "idempotency_key": idempotency_key, "requested_by": self._name}
        parse("backup", payload)
        key = idempotency_key and f"backup:{database}:{idempotency_key}"
        return self._submit(NewRun("backup", database, payload, self._name, key))

    def run(self, run_id: str) -> RunView:
        """Raises RunNotFound."""
        return _view(self._ledger.run(run_id))

    def wait(self, run_id: str, *, timeout: float | None = None, poll: float = 1.0) -> RunView:
        """Wait until a run has ended. Raises WaitTimeout after `timeout` seconds; the run goes on."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (view := self.run(run_id)).open:
            if deadline is not None and time.monotonic() >= deadline:
                raise WaitTimeout(
                    f"Run {run_id} is still {view.state} after {timeout:g} s.", "It goes on; ask again."
                )
            time.sleep(poll)
        return view

    def backups(self, database: str | None = None, *, limit: int = 100) -> list[BackupView]:
        """Backups that ended well, newest first."""
        runs = self._ledger.runs(kind="backup", database=database, states=("verified",), limit=limit)
        return [
            BackupView(
                str(run.backup_id),
                run.database,
                _time(run.started_at),
                run.state,
                tuple(run.result.get("copies", ())),
            )
            for run in runs
        ]

    def _submit(self, new: NewRun) -> RunView:
        run, _ = self._ledger.create_run(new, flows.first(new))
        try:
            for hint in self._ledger.take_due(run_id=run.id, limit=8):
                self._app.send_task(
                    hint.name, args=[hint.run_id, hint.step_id], queue=hint.queue, retry=False
                )
        except (OperationalError, CeleryOperationalError):
            pass  # the row stands; `reconcile` sends the hint when the broker is back
        return _view(run)


def _view(run: Run) -> RunView:
    return RunView(
        run.id,
        run.kind,
        run.database,
        run.state,
        run.backup_id,
        tuple(run.result.get("copies", ())),
        run.error,
        _time(run.created_at),
        _time(run.ended_at) if run.ended_at else None,
        run.open,
    )


def _time(at: float | None) -> datetime:
    return datetime.fromtimestamp(at or 0.0, UTC)
