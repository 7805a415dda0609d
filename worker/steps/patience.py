"""A scheduled backup whose last destination is away waits for it: what was dumped and encrypted stays on the spool.

Where another copy is stored, or may still be, the branch fails: the run ends with what it has, and the missing copy is
caught up with from there (`worker.reconcile.catch_up`). Somebody who asked and waits is told at once.
"""

from __future__ import annotations

from worker.errors import StorageUnavailable
from worker.ledger import Ledger
from worker.ledger.model import Claim

LONGEST = 6 * 3600.0  # seconds since the step was made; then it fails, and somebody is told
ASK_AGAIN = 60.0


def waits(ledger: Ledger, claim: Claim, error: Exception) -> bool:
    """Whether a step that has used up its attempts goes on all the same."""
    run, step = claim.run, claim.step
    if (
        not isinstance(error, StorageUnavailable)
        or run.kind != "backup"
        or run.job is None
        or not step.branch
    ):
        return False
    claimed = (step.lease_until or step.created_at) - claim.lease_seconds  # by the ledger's clock
    if step.attempts < step.max_attempts or claimed - step.created_at > LONGEST:
        return False
    destinations = {
        name for dump in ledger.steps(run.id, name="backup.dump") for name in dump.result["destinations"]
    }
    return all(_given_up(ledger, run.id, other) for other in destinations - {step.branch})


def _given_up(ledger: Ledger, run_id: str, destination: str) -> bool:
    return any(step.state == "failed" for step in ledger.steps(run_id, branch=destination))
