"""What the fleet does and did lately, from the ledger."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from worker.ledger.model import OPEN_STATES, Run, WorkerInfo
from worker.ledger.outcomes import Stats
from worker.ledger.tallies import Tallies
from worker.ledger.workers import RECONCILE
from worker.steps.context import Adapters

RECENT_SECONDS = 7 * 86_400.0
#: A worker says that it is alive every 10 s.
ALIVE_SECONDS = 60.0
QUEUES = ("control", "dump", "verify", "restore")
BAD = frozenset({"failed", "damaged", "refuted", "could_not_run"})
_RUNS = 1000


@dataclass(frozen=True, slots=True)
class Activity:
    """recent: runs of the last 7 days, newest first. last: (kind, database) → the newest run that has ended.

    backups: database → progress of the newest finished backup. open: runs at work with their progress.
    """

    stats: Stats
    tallies: Tallies
    recent: list[Run]
    last: dict[tuple[str, str], Run]
    backups: dict[str, list[dict[str, Any]]]
    open: list[tuple[Run, list[dict[str, Any]]]]
    workers: list[WorkerInfo]
    reconciled_at: float | None

    def failures(self) -> Counter[tuple[str, str, str]]:
        """(kind, database, type of error) → runs that ended badly."""
        return Counter(
            (run.kind, run.database, str((run.error or {}).get("type", "unknown")))
            for run in self.recent
            if run.state in BAD
        )

    def workers_of(self, queue: str) -> int:
        return sum(queue in worker.queues for worker in self.workers)


def read(adapters: Adapters) -> Activity:
    """Raises LedgerUnavailable."""
    ledger = adapters.ledger
    recent = ledger.runs(since=time.time() - RECENT_SECONDS, limit=_RUNS)
    opened = ledger.runs(states=OPEN_STATES, limit=50)
    last = _last(adapters, recent)
    signs = ledger.workers(alive_within=10 * 365 * 86_400.0)
    at = time.time()
    return Activity(
        stats=ledger.stats(),
        tallies=ledger.tallies(RECENT_SECONDS),
        recent=recent,
        last=last,
        backups={
            database: ledger.progress(run.id) for (kind, database), run in last.items() if kind == "backup"
        },
        open=[(run, ledger.progress(run.id)) for run in opened],
        workers=[w for w in signs if w.name != RECONCILE and at - w.seen_at < ALIVE_SECONDS],
        reconciled_at=next((w.seen_at for w in signs if w.name == RECONCILE), None),
    )


def _last(adapters: Adapters, recent: Iterable[Run]) -> dict[tuple[str, str], Run]:
    """Also where the newest is older than a week: a drill is monthly."""
    kinds = ("backup", "drill", "restore", "cleanup", "verify", "copy", "scrub")
    found: dict[tuple[str, str], Run] = {}
    for run in recent:
        if _ended(run):
            found.setdefault((run.kind, run.database), run)
    for database in adapters.settings.databases:
        for kind in kinds:
            if (kind, database) not in found:
                older = adapters.ledger.runs(kind=kind, database=database, limit=10)
                found |= {(kind, run.database): run for run in reversed(older) if _ended(run)}
    return found


def _ended(run: Run) -> bool:
    return not run.open and run.state != "cancelled"
