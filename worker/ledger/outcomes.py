"""Further values of the ledger: how a run ends, what the schedule owes, what is counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from worker.ledger.model import NewRun, NewStep, RunState

#: branch_failed: the run goes on (also after an `always` step). ignored: the step was not the caller's.
FailOutcome = Literal["retry", "branch_failed", "run_failed", "ignored"]


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How a run ends. `state` is a final one; `error` has {"type","message","hint","exit_code","step"}."""

    state: RunState
    result: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobDue:
    """A line of the schedule and its newest passed slot (epoch seconds), with the run to make of it."""

    job: str
    cron: str
    slot: float
    run: NewRun
    steps: Iterable[NewStep] = ()


@dataclass(frozen=True, slots=True)
class RunCount:
    kind: str
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Steps that could run now; `oldest_seconds`: how long the first of them has waited for a worker."""

    queue: str
    due: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Stats:
    runs: tuple[RunCount, ...]
    queues: tuple[QueueDepth, ...]
    pending_notices: int
    pending_since: float | None = None  # when the oldest of them was recorded
