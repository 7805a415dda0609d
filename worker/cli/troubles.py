"""What holds an open run up, in words."""

from __future__ import annotations

import time

from worker.core import human
from worker.ledger.model import Run, Step
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
    if run.state == "queued" and not run.here and time.time() - run.created_at > _PATIENCE_SECONDS:
        alive = adapters.ledger.workers(alive_within=_ALIVE_SECONDS)
        first = next(iter(adapters.ledger.steps(run.id)))
        if not any(first.queue in worker.queues for worker in alive):
            lines.append(
                f"No worker takes queue {first.queue!r}. Start one: celery -A worker.app worker -Q {first.queue}"
                " (or do without: --here)."
            )
    return lines


def _reason(step: Step) -> str:
    again = max(0.0, (step.next_attempt_at or 0.0) - time.time())
    message = step.data.get("waiting_for") or (step.error or {}).get("message", "put off")
    tries = f", attempt {step.attempts} of {step.max_attempts}" if step.error else ""
    return f"{message} Again in {human.duration(again)}{tries}."
