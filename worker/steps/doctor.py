"""Is everything there that a backup takes? Each probe asks one outside part, within a time, and never raises.

The broker is asked by the command itself (`worker.cli.doctor`): steps know nothing of it.
"""

from __future__ import annotations

import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from worker.config.model import Database, Destination
from worker.core import human
from worker.core.versions import warnings_for
from worker.errors import EncryptionFailed, PgfleetError
from worker.gpg import Key
from worker.postgres.tools import discover
from worker.steps import doctor_database
from worker.steps.check import Check, failed, ok, warning
from worker.steps.context import Adapters
from worker.steps.keys import recipients
from worker.storage.connect import open_store

PROBE_SECONDS = 60.0
EXPIRES_SOON_DAYS = 30
#: A worker says that it is alive every 10 s.
ALIVE_SECONDS = 60.0
QUEUES = {
    "control": "nothing is scheduled, reconciled or notified",
    "dump": "no backup begins",
    "verify": "no backup is verified",
    "restore": "no restore or drill begins",
}


class Probe(NamedTuple):
    """name: of the check that tells of a failure before any other was made."""

    name: str
    ask: Callable[[], Iterable[Check]]


def examine(probes: Sequence[Probe], seconds: float = PROBE_SECONDS) -> Iterator[Check]:
    """The checks of all probes in order; they run at once. One that takes longer than `seconds` is given up."""
    answers = [_start(probe) for probe in probes]
    for probe, (answer, deadline) in zip(probes, answers, strict=True):
        yield from _collect(probe, answer, deadline, seconds)


def exit_code(checks: Iterable[Check]) -> int:
    """0 when nothing failed; else 2 (something is not installed), 3 (a setting is wrong) or 1, in that order."""
    codes = {check.exit_code for check in checks if check.status == "failed"}
    return next((code for code in (2, 3, 1) if code in codes), 0)


def probes(adapters: Adapters) -> list[Probe]:
    """One for each outside part that the settings name."""
    settings = adapters.settings
    found = [Probe("client tools", lambda: client_tools(adapters))]
    for alias, database in settings.databases.items():
        found += [
            Probe(f"database {alias}", lambda one=database: doctor_database.checks(adapters, one)),
            Probe(f"encryption {alias}", lambda one=database: encryption(adapters, one)),
        ]
    for alias, destination in settings.destinations.items():
        found.append(Probe(f"destination {alias}", lambda one=destination: storage(one)))
    return [
        *found,
        Probe("spool", lambda: spool(adapters)),
        Probe("ledger", lambda: ledger(adapters)),
        Probe("workers", lambda: workers(adapters)),
    ]
