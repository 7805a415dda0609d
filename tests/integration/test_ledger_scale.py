"""A plan of 100,000 parts takes no memory worth naming, and every question stays quick."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest
from ledger_scenes import maybe, start, take

from worker.ledger import Claim, Ledger, NewStep

pytest_plugins = ["ledger_fixtures"]
MIB = 1024  # ru_maxrss is in KiB


def parts(count: int) -> Iterator[NewStep]:
    for number in range(1, count + 1):
        data = {"destination": "bucket", "object": "shop-backup-20260101-000000.dump.gpg", "number": number}
        yield NewStep("part", f"x#{number}", queue="verify", group="copy/a/", branch="a", data=data)


def peak_growth(act: Callable[[], object]) -> float:
    """By how many MiB a process of its own grew while it did `act`."""

    def child(answer: Connection) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        act()
        answer.send((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MIB)

    context = get_context("fork")
    mine, its = context.Pipe()
    process = context.Process(target=child, args=(its,))
    process.start()
    assert mine.poll(120)
    growth: float = mine.recv()
    process.join()
    return growth


def test_the_measure_of_memory_sees_a_list() -> None:
    # Four times as many: a process that has run many tests has free memory to reuse.
    assert peak_growth(lambda: list(parts(400_000))) > 25
    assert peak_growth(lambda: sum(1 for _ in parts(100_000))) < 5


@pytest.mark.timeout(240)
def test_a_hundred_thousand_parts(ledger: Ledger, ledger_url: str) -> None:
    count = 100_000 if ledger_url.startswith("sqlite") else 10_000
    run = start(ledger, NewStep("upload"), NewStep("seal", needs="copy/a/"), NewStep("conclude", needs="*"))
    claim = take(ledger, run, "upload")

    assert peak_growth(lambda: ledger.commit(claim, {}, parts(count))) < 20
    counted: Counter[str] = Counter()
    growth = peak_growth(lambda: counted.update(found.state for found in ledger.steps(run.id, name="part")))
    assert growth < 20
    (row,) = [row for row in ledger.progress(run.id) if row["name"] == "part"]
    assert (row["total"], row["done"]) == (count, 0)

    for _ in range(20):
        assert len(ledger.take_due(limit=200)) == 200
    quick(lambda: ledger.take_due(limit=32))
    quick(lambda: ledger.take_due(limit=8, run_id=run.id))
    quick(lambda: maybe(ledger, run, "seal"))
    quick(lambda: ledger.next_due_at(run.id))
    quick(lambda: ledger.commit(take_part(ledger, run.id), {}))
    quick(lambda: ledger.progress(run.id), within=3)
    quick(ledger.stats, within=3)
    quick(lambda: ledger.cancel(run.id, "ann"), within=20)
    assert ledger.take_due() == []


def take_part(ledger: Ledger, run_id: str) -> Claim:
    (hint,) = ledger.take_due(limit=1, run_id=run_id)
    claim = ledger.claim(run_id, hint.step_id, owner="me")
    assert claim is not None
    return claim


def quick(act: Callable[[], object], within: float = 0.5) -> None:
    """`act` takes less than `within` seconds, on a busy machine too."""
    began = time.monotonic()
    act()
    assert time.monotonic() - began < within
