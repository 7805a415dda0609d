"""What holds an open run up, in words."""

from __future__ import annotations

import time
from collections.abc import Iterator

from worker.core import human
from worker.ledger.model import Run, Step
from worker.ledger.workers import RECONCILE
from worker.status.problems import SILENT_SECONDS
from worker.steps.context import Adapters

_PATIENCE_SECONDS = 5.0
_ALIVE_SECONDS = 45.0


def troubles(adapters: Adapters, run: Run) -> list[str]:
    """What holds an open run up: attempts that failed and are made again, or nobody to do the work."""
    if not run.open:
        return []
    lines = [
        f"{step.name}{f' ({step.branch})' if step.branch else ''}: {_reason(step)}"
        for step in adapters.ledger.waiting(run.id)
    ]
    if not run.here:
        lines += _nobody(adapters, run, time.time() - run.created_at)
    return lines


def _nobody(adapters: Adapters, run: Run, age: float) -> Iterator[str]:
    """Who is missing for a run of the fleet that is so many seconds old."""
    if run.state == "queued" and age > _PATIENCE_SECONDS:
        first = next(iter(adapters.ledger.steps(run.id)))
        alive = adapters.ledger.workers(alive_within=_ALIVE_SECONDS)
        if not any(first.queue in worker.queues for worker in alive):
            yield (
                f"No worker takes queue {first.queue!r}. Start one: celery -A worker.app worker -Q {first.queue}"
                " (or do without: --here)."
            )
    if age > SILENT_SECONDS and not _reconciled(adapters):
        yield (
            "Reconcile does not run: a message that was lost is not sent again. Start beat, and a worker of queue"
            " 'control': celery -A worker.app beat"
        )


def _reconciled(adapters: Adapters) -> bool:
    return any(worker.name == RECONCILE for worker in adapters.ledger.workers(alive_within=SILENT_SECONDS))


def _reason(step: Step) -> str:
    again = max(0.0, (step.next_attempt_at or 0.0) - time.time())
    message = step.data.get("waiting_for") or (step.error or {}).get("message", "put off")
    tries = f", attempt {step.attempts} of {step.max_attempts}" if step.error else ""
    return f"{message} Again in {human.duration(again)}{tries}."
