"""What the pages are made of: the exporter's readings, and a little more that is read in the same way, late and rarely.

No page lists a destination: the readings do, as often as the settings allow. Records beside the backups never
change, so each is read once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from worker.catalog import Entry
from worker.catalog.reader import Reader, moment
from worker.config.model import Settings
from worker.core import keys
from worker.errors import PgfleetError
from worker.ledger.model import Run
from worker.metrics.activity import Activity
from worker.metrics.holdings import Holding
from worker.metrics.reading import Reading, read_all
from worker.metrics.readings import Readings
from worker.steps.inventory import Listed

PATIENCE_SECONDS = 5.0
_HISTORY_SECONDS = 60.0
_BACKUP_RUNS = 90  # of each database, whose durations are plotted
_DRILL_RUNS = 60
_RESTORES = 200  # among which those are looked for whose old database is still there
_KEPT_PAGES = 64

Record = dict[str, Any]
Steps = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill that left evidence beside a copy. seconds: its recovery time, None when nothing was restored."""

    backup_id: str
    destination: str
    at: datetime
    verdict: str
    seconds: float | None
    target_seconds: float | None
    record: Record


@dataclass(frozen=True, slots=True)
class Pending:
    """A replace that can still be taken back, or an undo that can still be finished: `kept` is in the way of nobody,
    and takes room. `undo`: there is a way back.
    """

    run: Run
    kept: str
    undo: bool


@dataclass(frozen=True, slots=True)
class History:
    """backups: database → its runs with their progress, newest first. of_backup: backup id → the run that made it."""

    backups: Mapping[str, list[tuple[Run, Steps]]]
    of_backup: Mapping[str, Run]
    pending: list[Pending]


class Sources:
    """Safe for threads. `readings` are somebody's own or shared with an exporter in this process."""

    def __init__(self, readings: Readings) -> None:
        self.readings = readings
        age = readings.destinations.max_age
        self.history: Reading[History] = Reading("history", self._history, min(age, _HISTORY_SECONDS))
        self.drills: Reading[dict[str, list[Drill]]] = Reading("drills", self._drills, age)
        self._ended: dict[str, Steps] = {}
        self._readers: dict[str, Reader] = {}
        self._records: OrderedDict[str, Reading[list[tuple[str, Record]]]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def settings(self) -> Settings:
        return self.readings.settings

    @property
    def activity(self) -> Activity | None:
        return self.readings.ledger.value

    def holding(self, database: str) -> Holding | None:
        held = self.readings.destinations.value
        return held.databases.get(database) if held is not None else None

    def backup(self, backup_id: str) -> Listed | None:
        """As it was listed last."""
        held = self.readings.destinations.value
        for holding in held.databases.values() if held is not None else ():
            for item in holding.backups:
                if item.backup_id == backup_id:
                    return item
        return None

    def read(self) -> None:
        """All that is due; what takes longer than a few seconds is shown as it was read before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        read_all([*self.readings.parts, self.history], PATIENCE_SECONDS)
        # The drills are those of the backups that have just been listed.
        read_all([self.drills], max(0.0, deadline - time.monotonic()))

    def records(self, item: Listed) -> list[tuple[str, Record]] | None:
        """(destination, record) of all evidence of one backup, oldest first; None while it cannot be read."""
        mark = (
            f"{item.backup_id} {sorted(info.key for copy in item.copies.values() for info in copy.objects)}"
        )
        with self._lock:
            found = self._records.get(mark)
            if found is None:
                found = Reading("evidence", partial(self._evidence, item), self.readings.destinations.max_age)
                self._records[mark] = found
                while len(self._records) > _KEPT_PAGES:
                    self._records.popitem(last=False)
            else:
                self._records.move_to_end(mark)
        read_all([found], PATIENCE_SECONDS)
        return found.value

    # --- how it is read ---

    def _evidence(self, item: Listed) -> list[tuple[str, Record]]:
        found = [
            (alias, record) for alias, copy in item.copies.items() for record in self._of_copy(alias, copy)
        ]
        return sorted(found, key=lambda pair: str(pair[1].get("at")))

    def _of_copy(self, alias: str, entry: Entry, kind: str = "") -> Iterator[Record]:
        with self._lock:
            if alias not in self._readers:
                self._readers[alias] = Reader(self.readings.adapters.store(alias))
            reader = self._readers[alias]
        for info in entry.objects:
            name = keys.parse(info.key)
            if name is not None and name.role == "evidence" and kind in ("", name.evidence):
                record = reader.record(info)
                if record is not None:
                    yield record

    def _drills(self) -> dict[str, list[Drill]]:
        """Database → its drills, oldest first, as far as the backups they were about are still there."""
        held = self.readings.destinations.value
        return {
            alias: sorted(self._drilled(holding), key=lambda drill: drill.at)
            for alias, holding in (held.databases.items() if held is not None else ())
        }

    def _drilled(self, holding: Holding) -> Iterator[Drill]:
        for item in holding.backups:
            for alias, copy in item.copies.items():
                for record in self._of_copy(alias, copy, "drill"):
                    at = moment(record.get("at"))
                    if at is not None:
                        yield _drill(item.backup_id, alias, at, record)

    def _history(self) -> History:
        """Raises LedgerUnavailable."""
        ledger = self.readings.adapters.ledger
        backups: dict[str, list[tuple[Run, Steps]]] = {}
        of_backup: dict[str, Run] = {}
        for alias in self.settings.databases:
            runs = ledger.runs(kind="backup", database=alias, limit=_BACKUP_RUNS)
            of_backup |= {run.backup_id: run for run in runs if run.backup_id}
            backups[alias] = [(run, self._steps(run)) for run in runs if not run.open]
        known = {run.id for runs in backups.values() for run, _ in runs}
        self._ended = {run_id: steps for run_id, steps in self._ended.items() if run_id in known}
        return History(backups, of_backup, _pending(ledger.runs(kind="restore", limit=_RESTORES)))

    def _steps(self, run: Run) -> Steps:
        """Of a run that has ended: nothing changes there any more."""
        if run.id not in self._ended:
            self._ended[run.id] = self.readings.adapters.ledger.progress(run.id)
        return self._ended[run.id]

    def run(self, run_id: str) -> Run:
        """Read now. Raises RunNotFound, LedgerUnavailable."""
        return self.readings.adapters.ledger.run(run_id)


def _drill(backup_id: str, destination: str, at: datetime, record: Record) -> Drill:
    rto = record.get("rto") if isinstance(record.get("rto"), dict) else {}
    assert isinstance(rto, dict)

    def number(name: str) -> float | None:
        value = rto.get(name)
        return float(value) if isinstance(value, (int, float)) and value > 0 else None

    return Drill(
        backup_id,
        destination,
        at,
        str(record.get("verdict", "")),
        number("seconds"),
        number("target_seconds"),
        record,
    )


def _pending(restores: list[Run]) -> list[Pending]:
    """Newest first."""
    done = [run for run in restores if run.state == "succeeded"]
    finished = {str(run.request["finish"]) for run in done if run.request.get("finish")}
    undone = {str(run.request["undo"]): run for run in done if run.request.get("undo")}
    found = []
    for run in done:
        if run.id in finished or run.request.get("undo") or not run.result.get("kept_as"):
            continue
        if run.id in undone:
            found.append(Pending(run, str(undone[run.id].result.get("kept_as")), False))
        else:
            found.append(Pending(run, str(run.result["kept_as"]), True))
    return found


def down(sources: Sources) -> Mapping[str, PgfleetError]:
    """Destinations that could not be listed."""
    held = sources.readings.destinations.value
    return held.down if held is not None else {}
