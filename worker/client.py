"""For applications: ask the fleet for a backup and follow it.

    client = Client(broker_url="redis://…", ledger_url="postgresql://…")
    run = client.request_backup("goimg", idempotency_key="before-migration-42")
    client.wait(run.id, timeout=3600)

Needs the broker's and the ledger's URL and nothing else: no destination, no key, no database password. The request
is a row in the ledger before anything is sent, so it is not lost when the broker is away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery.exceptions import OperationalError as CeleryOperationalError
from kombu.exceptions import OperationalError

from worker import flows
from worker.broker import make_app
from worker.core.requests import DrillRequest, RestoreRequest, check_repeated, parse
from worker.errors import ConfigError, PgfleetError
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


@dataclass(frozen=True)
class RestoreView:
    """What a restore came to. `kept_as`: what the replaced database is called now. sizes in bytes.

    `checks`: ``{"name", "ok", "detail", "note"}`` each. Of a dry run, `plan` says what would happen.
    """

    id: str
    state: str
    backup_id: str | None
    target: str | None
    restored_as: str | None
    kept_as: str | None
    restored_bytes: int | None
    seconds: float | None
    phases: Mapping[str, float]
    checks: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    plan: Mapping[str, Any] | None
    error: Mapping[str, Any] | None


@dataclass(frozen=True)
class DrillView:
    """What a drill came to. verdict: ``proven``, ``refuted`` or ``could_not_run``; None while it is open.

    differences: ``{"kind", "what", "expected", "found"}`` each, some of many. report: the page, on its worker's disk.
    """

    run: RunView
    verdict: str | None
    destination: str | None
    rto_seconds: float | None
    differences: tuple[Mapping[str, Any], ...]
    report: str | None


class WaitTimeout(PgfleetError):
    """The run had not ended in time; it goes on.

    Cause: `Client.wait` was given a shorter `timeout` than the run takes.
    Check: `Client.run`, or `pgfleet run show RUN`.
    Cure: Wait again: nothing was stopped.
    """


class Client:
    """Thread-safe; make one a process. Raises LedgerUnavailable when the ledger does not answer."""

    def __init__(self, broker_url: str, ledger_url: str, *, name: str = "application") -> None:
        self._app = make_app(broker_url)
        self._ledger = Ledger(ledger_url)
        self._name = name

    def request_backup(self, database: str, *, idempotency_key: str | None = None) -> RunView:
        """Ask for a backup; returns at once. The same key again gives the same run."""
        payload = {"databases": [database], "idempotency_key": idempotency_key, "requested_by": self._name}
        key = parse("backup", payload).run_key(database)
        return self._submit(NewRun("backup", database, payload, self._name, key))

    def request_restore(
        self,
        database: str,
        *,
        backup: str = "latest",
        before: datetime | None = None,
        destination: str | None = None,
        target: str | None = None,
        as_name: str | None = None,
        replace: bool = False,
        confirm: str = "",
        drop_old: bool = False,
        tables: Sequence[str] = (),
        schemas: Sequence[str] = (),
        exclude_tables: Sequence[str] = (),
        schema_only: bool = False,
        data_only: bool = False,
        with_globals: bool = False,
        no_owner: bool = False,
        no_acl: bool = False,
        tablespaces: Mapping[str, str] | None = None,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> RunView:
        """Ask for a restore of `database`; returns at once. The same key again gives the same run.

        backup: an id, ``latest`` or ``latest-proven``; `before` (aware) is for the last two. target: the alias of a
        server in the workers' configuration, else the database's own. as_name: the database to make there.
        with_globals: the roles that the target lacks, too. tablespaces: where what was in one goes on the target.
        A `replace` of the live one needs its name in `confirm`, and a target that allows it: else the run fails with
        exit code 3. Raises ConfigError for a request that makes no sense, and for a key that was given to another one.
        """
        payload = self._of_one_backup(database, backup, before, destination, idempotency_key) | {
            "target": target,
            "as_name": as_name,
            "replace": replace,
            "confirm": confirm,
            "drop_old": drop_old,
            "tables": tables,
            "schemas": schemas,
            "exclude_tables": exclude_tables,
            "schema_only": schema_only,
            "data_only": data_only,
            "globals": with_globals,
            "no_owner": no_owner,
            "no_acl": no_acl,
            "tablespaces": dict(tablespaces or {}),
            "dry_run": dry_run,
        }
        request = RestoreRequest.from_payload(payload)
        key = request.run_key(database)
        return self._submit(NewRun("restore", database, request.to_payload(), self._name, key))

    def request_drill(
        self,
        database: str,
        *,
        backup: str = "latest",
        before: datetime | None = None,
        destination: str | None = None,
        idempotency_key: str | None = None,
    ) -> RunView:
        """Ask for a proof that a backup of `database` restores; returns at once. As for `request_restore`."""
        payload = self._of_one_backup(database, backup, before, destination, idempotency_key)
        request = DrillRequest.from_payload(payload)
        key = request.run_key(database)
        return self._submit(NewRun("drill", database, request.to_payload(), self._name, key))

    def _of_one_backup(
        self, database: str, backup: str, before: datetime | None, destination: str | None, key: str | None
    ) -> dict[str, object]:
        """What the payloads of such requests begin with."""
        return {
            "requested_by": self._name,
            "idempotency_key": key,
            "database": database,
            "backup": backup,
            "before": before and before.isoformat(),
            "destination": destination,
        }

    def drilled(self, run_id: str) -> DrillView:
        """What a drill came to. Raises RunNotFound, ConfigError for a run that is no drill."""
        run = self._ledger.run(run_id)
        if run.kind != "drill":
            raise ConfigError(f"Run {run_id} is a {run.kind}, not a drill.", "Ask for it with run().")
        result = run.result
        return DrillView(
            _view(run),
            result.get("verdict"),
            result.get("destination"),
            result.get("rto_seconds"),
            tuple(result.get("differences", ())),
            result.get("report"),
        )

    def restored(self, run_id: str) -> RestoreView:
        """What a restore came to. Raises RunNotFound, ConfigError for a run that is no restore."""
        run = self._ledger.run(run_id)
        if run.kind != "restore":
            raise ConfigError(f"Run {run_id} is a {run.kind}, not a restore.", "Ask for it with run().")
        return _restore_view(run)

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
        run, created = self._ledger.create_run(new, flows.first(new))
        if not created:
            check_repeated(new.idempotency_key, run.request, new.request)
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


def _restore_view(run: Run) -> RestoreView:
    result = run.result
    return RestoreView(
        run.id,
        run.state,
        run.backup_id,
        result.get("target"),
        result.get("restored_as"),
        result.get("kept_as"),
        result.get("restored_bytes"),
        result.get("seconds"),
        dict(result.get("phases", {})),
        tuple(result.get("checks", ())),
        tuple(result.get("notes", ())),
        dict(result) if result.get("dry_run") else None,
        run.error,
    )


def _time(at: float | None) -> datetime:
    return datetime.fromtimestamp(at or 0.0, UTC)
