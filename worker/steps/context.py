"""What a step gets to work with, and what it gives back."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.catalog import Catalog
from worker.config.model import Database, Destination, Settings
from worker.core import requests
from worker.errors import Busy, ConfigError, LeaseLost
from worker.gpg import Gpg
from worker.ledger import Ledger
from worker.ledger.model import Claim, Run, RunState, Step
from worker.spool import Spool
from worker.storage.connect import open_store
from worker.storage.guarded import GuardedStore


class Adapters:
    """The outside parts as this process is configured to reach them, each opened at its first use."""

    def __init__(
        self, settings: Settings, ledger: Ledger | None = None, *, ledger_lasts: bool = True
    ) -> None:
        """ledger_lasts: False for one in memory, which is gone with this process."""
        self.settings = settings
        self.ledger_lasts = ledger_lasts
        self._ledger = ledger
        self._stores: dict[str, GuardedStore] = {}
        self._catalogs: dict[str, Catalog] = {}
        self._lock = threading.Lock()

    @cached_property
    def ledger(self) -> Ledger:
        return self._ledger or open_ledger(self.settings)

    @cached_property
    def spool(self) -> Spool:
        return Spool(self.settings.spool, self.settings.spool_reserve_bytes)

    @cached_property
    def gpg(self) -> Gpg:
        gpg = Gpg(self.settings.gpg_home)
        if self.settings.gpg_keys_dir is not None:
            gpg.import_keys(self.settings.gpg_keys_dir, public_only=True)
        if self.settings.gpg_private_keys_dir is not None:
            gpg.import_keys(self.settings.gpg_private_keys_dir)
        return gpg

    def database(self, alias: str) -> Database:
        try:
            return self.settings.databases[alias]
        except KeyError:
            raise _unknown("database", alias, self.settings.databases) from None

    def destination(self, alias: str) -> Destination:
        try:
            return self.settings.destinations[alias]
        except KeyError:
            raise _unknown("destination", alias, self.settings.destinations) from None

    def store(self, alias: str) -> GuardedStore:
        with self._lock:
            if alias not in self._stores:
                self._stores[alias] = open_store(self.destination(alias))
            return self._stores[alias]

    def catalog(self, alias: str) -> Catalog:
        store = self.store(alias)
        with self._lock:
            return self._catalogs.setdefault(alias, Catalog(store))


def open_ledger(settings: Settings) -> Ledger:
    """The configured ledger with its tables made. Raises LedgerUnavailable, ConfigError."""
    ledger = Ledger(
        settings.ledger_url.get_secret_value(),
        max_attempts=settings.max_attempts,
        lease_seconds=settings.lease_seconds,
    )
    ledger.migrate()
    return ledger


def _unknown(what: str, alias: str, known: Mapping[str, object]) -> ConfigError:
    names = ", ".join(sorted(known)) or "none"
    return ConfigError(
        f"There is no {what} called {alias!r} here.", f"Configured: {names} (`pgfleet config`)."
    )


@dataclass(frozen=True)
class Outcome:
    """What a step leaves: `result` goes into its row, a value of `fan_out` into each step that follows;
    `end` ends the run with that state.
    """

    result: Mapping[str, Any] = field(default_factory=dict)
    fan_out: Iterable[Mapping[str, Any]] = ()
    end: RunState | None = None
    run_result: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None


class Later(Busy):
    """The step has to wait, and no attempt is counted. `seconds`: until it looks again; `data` is kept in the row.

    Cause: The step waits for another run, for a thaw from cold storage, or for another host.
    Check: `pgfleet run show RUN` says what it waits for.
    Cure: Wait: it goes on by itself. `pgfleet cancel RUN` ends the waiting.
    """

    def __init__(self, message: str, seconds: float, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, "")
        self.seconds = seconds
        self.data = dict(data or {})


class Context:
    """One claimed step. `stop` is set when the lease is lost or the run was cancelled: the work must end."""

    def __init__(self, adapters: Adapters, claim: Claim) -> None:
        self.adapters = adapters
        self.claim = claim
        self.stop = threading.Event()
        self.bytes_done = 0
        self.bytes_total = claim.step.bytes_total

    @property
    def run(self) -> Run:
        return self.claim.run

    @property
    def step(self) -> Step:
        return self.claim.step

    @property
    def settings(self) -> Settings:
        return self.adapters.settings

    @property
    def ledger(self) -> Ledger:
        return self.adapters.ledger

    @property
    def database(self) -> Database:
        return self.adapters.database(self.run.database)

    def request(self, kind: str) -> requests.Request:
        return requests.parse(kind, self.run.request)

    @property
    def run_dir(self) -> Path:
        """The run's directory on this worker's spool."""
        return self.adapters.spool.run_dir(self.run.id)

    def progress(self, done: int, total: int | None = None) -> None:
        """Tell how far the step is, in bytes; the heartbeat carries it to the ledger. Raises LeaseLost."""
        self.bytes_done = done
        if total is not None:
            self.bytes_total = total
        self.check()

    def check(self) -> None:
        """Raises LeaseLost when the step is not ours any more."""
        if self.stop.is_set():
            raise LeaseLost("This step was cancelled, or has gone to another worker.", "")

    def note(self, **data: Any) -> None:
        """Keep `data` in the step's row before an effect that must not be forgotten. Raises LeaseLost."""
        self.ledger.note(self.claim, data)

    def set_run(self, **fields: Any) -> None:
        """Set `backup_id`, `spool_id` or merge `data` of the run, fenced. Raises LeaseLost."""
        self.ledger.set_run(self.claim, **fields)
