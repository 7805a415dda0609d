"""Random workers that crash, freeze and lie, on a small fan-out: each step is committed exactly once, the run ends."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from ledger_scenes import LEASE, start

from worker.errors import LeaseLost
from worker.ledger import Claim, Hint, Ledger, NewStep, Run, RunEnd

pytest_plugins = ["ledger_fixtures"]
COPIES, PARTS = ("a", "b"), 3
EXPECTED = Counter(
    ["dump", "conclude", "sweep"]
    + [f"upload {copy}" for copy in COPIES]
    + [f"part {copy}{n}" for copy in COPIES for n in range(PARTS)]
    + [f"seal {copy}" for copy in COPIES]
)


def follow(name: str, key: str) -> tuple[list[NewStep], RunEnd | None]:
    if name == "dump":
        uploads = [NewStep("upload", copy, group=f"copy/{copy}/", branch=copy) for copy in COPIES]
        return [*uploads, *(NewStep("seal", c, needs=f"copy/{c}/", branch=c) for c in COPIES)], None
    if name == "upload":
        return [NewStep("part", f"{key}{n}", group=f"copy/{key}/", branch=key) for n in range(PARTS)], None
    return [], RunEnd("verified") if name == "conclude" else None


class Chaos:
    """Workers in threads, decided by a seed; what they did is written down at the moment of the commit."""

    def __init__(self, ledger: Ledger, run: Run) -> None:
        self.ledger, self.run = ledger, run
        self.committed: Counter[str] = Counter()
        self.frozen: list[Claim] = []

    def work(self, seed: int) -> None:
        dice = random.Random(seed)
        while self.ledger.run(self.run.id).open or self.ledger.next_due_at() is not None:
            if self.frozen and dice.random() < 0.3:
                self.thaw(dice)
            hints = self.ledger.take_due(limit=dice.randint(1, 4), resend_after=0.05)
            for hint in hints * dice.choice((1, 1, 2)):  # doubled
                if dice.random() > 0.2:  # or lost
                    self.handle(hint, dice)
            self.ledger.break_dead_leases(lambda owner: owner == "dead")

    def thaw(self, dice: random.Random) -> None:
        """Somebody who was frozen goes on as if nothing had happened."""
        try:
            claim = self.frozen.pop(dice.randrange(len(self.frozen)))
        except (IndexError, ValueError):
            return
        self.commit(claim)

    def handle(self, hint: Hint, dice: random.Random) -> None:
        luck = dice.random()
        owner = "dead" if luck < 0.1 else "alive"
        claim = self.ledger.claim(hint.run_id, hint.step_id, owner=owner)
        if claim is None or luck < 0.1:  # killed at once
            return
        if luck < 0.2:  # killed, and nobody on this host saw it: the lease must run out
            return
        if luck < 0.3:
            self.frozen.append(claim)
        elif luck < 0.4:
            self.ledger.fail(claim, {"type": "E", "message": "m"}, retry_in=dice.random() * LEASE / 2)
        elif luck < 0.45:
            self.ledger.release(claim)
        elif luck < 0.5:
            self.ledger.postpone(claim, LEASE / 4)
        else:
            self.ledger.heartbeat(claim)
            self.commit(claim)

    def commit(self, claim: Claim) -> None:
        following, end = follow(claim.step.name, claim.step.key)
        try:
            self.ledger.commit(claim, {"fence": claim.fence}, following, end=end)
        except LeaseLost:
            return
        self.committed[f"{claim.step.name} {claim.step.key}".strip()] += 1


@pytest.mark.parametrize("seed", range(3))
def test_each_step_is_committed_exactly_once(open_ledger: Callable[..., Ledger], seed: int) -> None:
    ledger = open_ledger(lease_seconds=LEASE, max_attempts=10_000)
    run = start(
        ledger, NewStep("dump"), NewStep("conclude", needs="*"), NewStep("sweep", queue="spool", always=True)
    )
    chaos = Chaos(ledger, run)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(chaos.work, (seed * 10 + n for n in range(4))))

    assert chaos.committed == EXPECTED
    assert ledger.run(run.id).state == "verified"
    assert {step.state for step in ledger.steps(run.id)} == {"done"}
    assert [notice.event for notice in ledger.pending_notices()] == ["backup.verified"]
