"""docs/reference/ledger.md: the states of runs and steps, and how they get there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from scripts.reference.markdown import joined, made_by, table
from worker.ledger import schema
from worker.ledger.model import OPEN_STATES, RunKind, RunState, StepState

RUN_STATES: Mapping[RunState, str] = {
    "queued": "in the ledger; no worker has taken its first step yet",
    "running": "a step was taken",
    "succeeded": "a restore, cleanup, scrub or copy did what was asked",
    "verified": "a backup (or `verify`, `copy`): enough copies are there, and every byte was read back",
    "proven": "a drill: the copy holds what its source held, and the control passed",
    "refuted": "a drill: something differs",
    "could_not_run": "a drill: anything else. It says nothing about the backup, and is no pass",
    "failed": "it did not do what was asked; `error` says why. Copies that were made stay listed",
    "damaged": "a verification or a scrub found bytes that differ from the manifest",
    "cancelled": "`pgfleet cancel`, or ctrl-C of a run with `--here`",
}
STEP_STATES: Mapping[StepState, str] = {
    "due": "to be done: at once, at `next_attempt_at`, or when no undone step holds it up (`needs`)",
    "running": "a worker has it, until `lease_until`",
    "done": "committed, in one transaction with the steps that follow",
    "failed": "for good: no attempt is left, or the error is none that time cures",
    "skipped": "its branch failed, or its run ended without it",
    "void": "of a generation that was given up: its spool is gone, and the run was started anew",
}
_RUN_WAYS = (
    ("", "queued", "a command, the client, a task or the schedule inserts it, with its first steps"),
    ("queued", "running", "a worker claims a step"),
    ("queued, running", "cancelled", "`pgfleet cancel`"),
    (
        "running",
        "a final state",
        "its `…conclude` step commits with it; or a step without a branch fails for good",
    ),
    (
        "running",
        "running",
        "its spool is gone: `reconcile` starts a new generation; after a few it is `failed`",
    ),
    ("queued, running", "failed", "it is open for longer than `PGFLEET_RUN_DEADLINE_SECONDS` (Overdue)"),
    (
        "queued, running",
        "failed",
        "its `--here` process was killed, and there is no fleet to go on with it (Killed)",
    ),
)
_STEP_WAYS = (
    ("", "due", "with the run, or in the transaction that commits the step before"),
    ("due", "running", "a worker claims it: `fence` and `attempts` go up by one, a lease begins"),
    (
        "running",
        "running",
        "the lease ran out, or its owner is dead: the next worker claims it, with a higher fence",
    ),
    ("running", "done", "the commit of the fence that holds it; an older fence changes nothing"),
    ("running", "due", "it failed and may be tried again, has to wait, or its worker was told to stop"),
    ("running", "failed", "it failed for good, or its worker vanished at the last attempt (WorkerLost)"),
    (
        "due, running",
        "skipped",
        "its branch failed, or its run has ended; its worker learns it by the next heartbeat",
    ),
    ("any", "void", "the run begins a new generation"),
)
RUN_KINDS: Mapping[RunKind, str] = {
    "backup": "`pgfleet backup`, the schedule",
    "restore": "`pgfleet restore`, `fetch`, `restore undo` and `finish`",
    "drill": "`pgfleet drill`, the schedule",
    "cleanup": "`pgfleet cleanup`, the schedule",
    "verify": "`pgfleet verify`",
    "scrub": "`pgfleet scrub`, the schedule",
    "copy": "`pgfleet copy` and `repair`, catching up after an outage",
    "report": "`pgfleet report`, the schedule",
    "digest": "the schedule: the status, sent to those who are told",
    "audit": "a record of who changed what, on its way to the destinations",
}


def render() -> str:
    states = [
        (f"`{state}`", "" if state in OPEN_STATES else "yes", RUN_STATES.get(state, ""))
        for state in get_args(RunState)
    ]
    tables = [
        (f"`{found.name}`", ", ".join(f"`{column.name}`" for column in found.columns))
        for found in schema.metadata.sorted_tables
    ]
    return joined(
        f"""# Ledger

{made_by()} Why there is one: [runs and steps](../explanation/runs.md).

A run is a row, and so is each of its steps. `pgfleet runs`, `pgfleet run show RUN` and [the client](client.md) read
them; nobody but pgfleet writes them. All times are those of the ledger's own clock.

## Runs""",
        table(
            ("kind", "asked for by"), ((f"`{kind}`", RUN_KINDS.get(kind, "")) for kind in get_args(RunKind))
        ),
        table(("state", "final", "means"), states),
        table(("from", "to", "when"), _RUN_WAYS),
        "A run ends once. The transaction that ends it also records the notice that tells it.",
        "## Steps",
        table(
            ("state", "means"), ((f"`{state}`", STEP_STATES.get(state, "")) for state in get_args(StepState))
        ),
        table(("from", "to", "when"), _STEP_WAYS),
        "Steps with `always` clean up after a run or record it: they are claimed once it has ended, however it ended.",
        "## Tables",
        f"Their version is {schema.VERSION}. Older ones are migrated by whoever finds them, newer ones refused.",
        table(("table", "columns"), tables),
    )
