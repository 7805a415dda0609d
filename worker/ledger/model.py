"""The ledger's values: what callers give and get. No SQL here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

#: audit, report and digest are no work on backups: records that wait for a destination, and what is told by schedule.
RunKind = Literal[
    "backup", "restore", "drill", "cleanup", "verify", "scrub", "copy", "audit", "report", "digest"
]  # fmt: skip
#: Open states are the first two; every other state is final.
RunState = Literal[
    "queued",
    "running",
    "succeeded",
    "verified",
    "proven",
    "refuted",
    "could_not_run",
    "failed",
    "damaged",
    "cancelled",
]
OPEN_STATES: tuple[RunState, ...] = ("queued", "running")
#: void: belongs to a generation that was rewound. skipped: its branch failed, or its run ended without it.
StepState = Literal["due", "running", "done", "failed", "skipped", "void"]


@dataclass(frozen=True, slots=True)
class NewRun:
    """`idempotency_key`: a second run with the same key is the first one. `job`+`scheduled_for` likewise."""

    kind: RunKind
    database: str
    request: Mapping[str, Any] = field(default_factory=dict)
    requested_by: str = ""
    idempotency_key: str | None = None
    job: str | None = None
    scheduled_for: float | None = None
    here: str = ""  # the id of the one process that works on this run; "" is the fleet


@dataclass(frozen=True, slots=True)
class NewStep:
    """One unit of work. (name, key) is unique within a run's generation.

    queue: ``dump``, ``verify``, ``restore``, ``control``, or ``spool`` (resolved to ``spool.<id>`` of the run).
    group, needs: paths ending in "/". A step is due when no undone step of its run has a group that is a prefix
    of its `needs`; ``needs="*"`` waits for every other step of the run that is not `always`.
    branch: a failure for good skips the other undone steps of the same branch; with no branch it fails the run.
    always: runs once the run has ended, however it ended; it cannot fail the run.
    size: the bytes that it is about, where they are known; what is left of a run is estimated from these.
    """

    name: str
    key: str = ""
    queue: str = "control"
    group: str = ""
    needs: str = ""
    branch: str = ""
    always: bool = False
    data: Mapping[str, Any] = field(default_factory=dict)
    size: int = 0
    max_attempts: int = 0  # 0: the ledger's default


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    kind: RunKind
    database: str
    state: RunState
    request: Mapping[str, Any]
    requested_by: str
    job: str | None
    scheduled_for: float | None
    here: str
    generation: int
    backup_id: str | None
    spool_id: str | None
    data: Mapping[str, Any]
    result: Mapping[str, Any]
    error: Mapping[str, Any] | None  # {"type","message","hint","exit_code","step"}
    created_at: float
    started_at: float | None
    ended_at: float | None

    @property
    def open(self) -> bool:
        return self.state in OPEN_STATES


@dataclass(frozen=True, slots=True)
class Step:
    id: int
    run_id: str
    name: str
    key: str
    queue: str
    group: str
    needs: str
    branch: str
    always: bool
    state: StepState
    generation: int
    fence: int
    attempts: int
    max_attempts: int
    owner: str | None
    lease_until: float | None
    next_attempt_at: float | None
    bytes_done: int
    bytes_total: int
    data: Mapping[str, Any]
    result: Mapping[str, Any]
    error: Mapping[str, Any] | None
    created_at: float
    started_at: float | None
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to work on a step, as long as its fence is the row's."""

    run: Run
    step: Step
    fence: int
    lease_seconds: float


@dataclass(frozen=True, slots=True)
class Hint:
    """A message to send: "run R, step S may be due". The last three are for people to read."""

    run_id: str
    step_id: int
    name: str
    queue: str
    database: str = ""
    backup_id: str | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker's main process, as it last said."""

    name: str
    host: str
    queues: tuple[str, ...]
    spool_id: str
    version: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class Notice:
    """An event to be told, recorded in the transaction that made it true."""

    id: int
    run_id: str
    event: str
    data: Mapping[str, Any]
    created_at: float

    @property
    def told(self) -> frozenset[str]:
        """Who has taken it at an earlier attempt."""
        return frozenset(self.data.get("told", ()))
