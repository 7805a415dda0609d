"""How far each run has come. `Ledger` is the way in; `model` and `outcomes` hold its values."""

from worker.ledger.ledger import Ledger
from worker.ledger.model import (
    OPEN_STATES,
    Claim,
    Hint,
    NewRun,
    NewStep,
    Notice,
    Run,
    RunKind,
    RunState,
    Step,
    StepState,
    WorkerInfo,
)
from worker.ledger.outcomes import FailOutcome, JobDue, QueueDepth, RunCount, RunEnd, Stats

__all__ = [
    "OPEN_STATES",
    "Claim",
    "FailOutcome",
    "Hint",
    "JobDue",
    "Ledger",
    "NewRun",
    "NewStep",
    "Notice",
    "QueueDepth",
    "Run",
    "RunCount",
    "RunEnd",
    "RunKind",
    "RunState",
    "Stats",
    "Step",
    "StepState",
    "WorkerInfo",
]
