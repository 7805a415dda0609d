"""Short words for what the ledger's tests keep doing."""

from __future__ import annotations

import time
from collections.abc import Callable

from worker.ledger import Claim, Ledger, NewRun, NewStep, Run, Step

LEASE = 0.2  # seconds: short enough to run out in a test
LONG = 60.0
ERROR = {"type": "DumpFailed", "message": "It broke.", "hint": "Mend it.", "exit_code": 4}


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.01)


def start(ledger: Ledger, *steps: NewStep, kind: str = "backup", here: str = "") -> Run:
    return ledger.create_run(NewRun(kind, "shop", here=here), steps)[0]  # type: ignore[arg-type]


def step(ledger: Ledger, run: Run, name: str, key: str = "") -> Step:
    return next(step for step in ledger.steps(run.id, name=name) if step.key == key)


def take(ledger: Ledger, run: Run, name: str, key: str = "", owner: str = "me") -> Claim:
    claim = maybe(ledger, run, name, key, owner)
    assert claim is not None, f"{name} {key} is not due"
    return claim


def maybe(ledger: Ledger, run: Run, name: str, key: str = "", owner: str = "me") -> Claim | None:
    return ledger.claim(run.id, step(ledger, run, name, key).id, owner=owner)


def due(ledger: Ledger, run: Run | None = None) -> list[str]:
    """Names (and keys) of the steps that hints are sent for now."""
    hints = ledger.take_due(limit=1000, run_id=run and run.id, resend_after=0)
    by_id = {step.id: step for hint in hints for step in ledger.steps(hint.run_id)}
    return [f"{hint.name} {by_id[hint.step_id].key}".strip() for hint in hints]
