"""A plan of 100,000 parts takes no memory worth naming, and every question stays quick."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator

import pytest
from ledger_scenes import due, maybe, start, take

from worker.ledger import Ledger, NewStep

pytest_plugins = ["ledger_fixtures"]
PARTS = 100_000


def parts() -> Iterator[NewStep]:
    for number in range(1, PARTS + 1):
        data = {"destination": "bucket", "object": "shop-backup-20260101-000000.dump.gpg", "number": number}
        yield NewStep("part", f"x#{number}", queue="verify", group="copy/a/", branch="a", data=data)


@pytest.mark.timeout(200)
def test_a_hundred_thousand_parts(ledger: Ledger) -> None:
    run = start(ledger, NewStep("upload"), NewStep("seal", needs="copy/a/"), NewStep("conclude", needs="*"))
    claim = take(ledger, run, "upload")

    tracemalloc.start()
    began = time.monotonic()
    ledger.commit(claim, {}, parts())
    assert time.monotonic() - began < 60
    tracemalloc.reset_peak()
    counted = Counter(found.state for found in ledger.steps(run.id, name="part"))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert counted == {"due": PARTS}

    for _ in range(20):
        assert len(ledger.take_due(limit=200)) == 200
    quick(lambda: ledger.take_due(limit=32))
    quick(lambda: maybe(ledger, run, "seal"))
    quick(lambda: due_now(ledger, run.id))
    quick(lambda: ledger.commit(take_part(ledger, run.id), {}))
    quick(lambda: ledger.progress(run.id), within=2)
    quick(ledger.stats, within=3)
    quick(lambda: ledger.cancel(run.id, "ann"), within=20)
    assert due(ledger, run) == []


def due_now(ledger: Ledger, run_id: str) -> None:
    assert ledger.next_due_at(run_id) == 0.0


def take_part(ledger: Ledger, run_id: str) -> object:
    (hint,) = ledger.take_due(limit=1, run_id=run_id)
    claim = ledger.claim(run_id, hint.step_id, owner="me")
    assert claim is not None
    return claim


def quick(act: object, within: float = 0.5) -> None:
    """`act` takes less than `within` seconds, on a busy machine too."""
    assert callable(act)
    began = time.monotonic()
    act()
    assert time.monotonic() - began < within
