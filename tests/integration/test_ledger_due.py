"""Hints: which are sent, to which queue, and how often."""

from __future__ import annotations

import pytest
from ledger_scenes import due, maybe, start, take, wait_until

from worker.ledger import Ledger, NewStep, RunEnd

pytest_plugins = ["ledger_fixtures"]


def test_a_hint_is_sent_once_and_again_ever_more_rarely(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump", queue="dump"))
    (hint,) = ledger.take_due(resend_after=0.1)
    assert (hint.run_id, hint.name, hint.queue) == (run.id, "dump", "dump")
    assert ledger.take_due(resend_after=0.1) == []

    waits = []
    for _ in range(3):
        waits.append(ledger.next_due_at() or 0.0)
        wait_until(lambda: ledger.take_due(resend_after=0.1))

    assert waits == sorted(waits)
    assert 0.2 < waits[-1] <= 0.4
    ledger.release(take(ledger, run, "dump"))
    assert ledger.take_due(resend_after=0.1) == [hint]  # due anew: the count begins anew


def test_the_growth_of_the_wait_is_capped(ledger: Ledger) -> None:
    start(ledger, NewStep("dump"))
    for _ in range(40):
        assert ledger.take_due(resend_after=0)
    ledger.take_due(resend_after=10_000)
    # The row has been sent 40 times: 10,000 s doubled 20 times would be centuries.
    assert 3590 < (ledger.next_due_at() or 0.0) <= 3600


def test_hints_are_limited_and_nothing_is_forgotten(ledger: Ledger) -> None:
    run = start(ledger, *(NewStep("part", f"{n:02}", needs="x/" if n < 30 else "") for n in range(60)))
    ledger.commit(take(ledger, run, "part", "59"), {}, [NewStep("x", group="x/")])
    assert len(ledger.take_due(limit=20)) == 20
    assert len(ledger.take_due(limit=20)) == 10  # thirty blocked ones are in nobody's way
    assert ledger.take_due(limit=20) == []
    ledger.commit(take(ledger, run, "x"), {})
    assert len(ledger.take_due(limit=100)) == 30


def test_one_that_came_too_early_is_hinted_again_as_soon_as_nothing_is_in_its_way(ledger: Ledger) -> None:
    """What cleans up after a run is hinted all at once, and done one by one: it had waited 30 s, then a minute."""
    run = start(ledger, NewStep("dump"), NewStep("record", always=True), NewStep("sweep", always=True))
    ledger.end_run(run.id, RunEnd("failed"))
    assert [hint.name for hint in ledger.take_due(run_id=run.id)] == ["record", "sweep"]
    record = take(ledger, run, "record")
    assert maybe(ledger, run, "sweep") is None
    assert ledger.take_due(run_id=run.id) == [], "not while it is in the way"
    ledger.commit(record, {})
    assert [hint.name for hint in ledger.take_due(run_id=run.id)] == ["sweep"]
    assert maybe(ledger, run, "sweep") is not None


def test_the_queue_of_the_spool_is_the_runs(ledger: Ledger) -> None:
    run = start(
        ledger,
        NewStep("dump", queue="dump"),
        NewStep("encrypt", queue="spool"),
        NewStep("sweep", queue="spool", always=True),
    )
    assert due(ledger, run) == ["dump"]
    claim = take(ledger, run, "dump")
    assert ledger.next_due_at(run.id) == pytest.approx(60, abs=1)
    ledger.set_run(claim, spool_id="s7")
    assert [hint.queue for hint in ledger.take_due(run_id=run.id)] == ["spool.s7"]
    ledger.commit(claim, {}, end=RunEnd("succeeded"))
    assert [hint.queue for hint in ledger.take_due(run_id=run.id)] == ["spool.s7"]  # the sweep


def test_without_a_spool_the_cleaning_goes_anywhere(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"), NewStep("sweep", queue="spool", always=True))
    ledger.cancel(run.id, "ann")
    assert [(hint.name, hint.queue) for hint in ledger.take_due()] == [("sweep", "control")]


def test_a_private_run_is_not_the_fleets(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"), here="boot/1")
    assert ledger.take_due() == []
    assert ledger.next_due_at() is None
    assert ledger.next_due_at(here="boot/1") == 0.0
    assert len(ledger.take_due(here="boot/1", run_id=run.id)) == 1


def test_a_private_run_is_adopted_when_its_process_is_dead(ledger: Ledger) -> None:
    alive, dead, ended = (start(ledger, NewStep("dump"), here=here) for here in ("alive", "dead", "dead"))
    unswept = start(ledger, NewStep("dump"), NewStep("sweep", always=True), here="dead")
    ledger.cancel(ended.id, "ann")
    ledger.cancel(unswept.id, "ann")
    assert ledger.adopt_orphans(lambda here: here == "dead") == 2
    assert ledger.adopt_orphans(lambda here: here == "dead") == 0
    assert [ledger.run(run.id).here for run in (alive, dead, ended, unswept)] == ["alive", "", "dead", ""]
    assert {hint.run_id for hint in ledger.take_due()} == {dead.id, unswept.id}


def test_a_private_run_of_a_dead_process_is_failed_and_cleaned_up_after(ledger: Ledger) -> None:
    alive, dead = (
        start(ledger, NewStep("dump"), NewStep("sweep", always=True), here=here) for here in ("alive", "dead")
    )
    assert ledger.inherit(lambda here: here == "dead", "heir") == [dead.id]
    assert ledger.inherit(lambda here: here != "alive", "heir") == []
    assert ledger.run(alive.id).open
    failed = ledger.run(dead.id)
    assert (failed.state, failed.here) == ("failed", "heir")
    assert failed.error is not None
    assert failed.error["type"] == "Killed"
    assert [hint.name for hint in ledger.take_due(here="heir")] == ["sweep"]


def test_the_next_moment(ledger: Ledger) -> None:
    assert ledger.next_due_at() is None
    run = start(ledger, NewStep("a"), NewStep("b", needs="x/"), NewStep("x", group="x/"))
    assert ledger.next_due_at(run.id) == 0.0
    ledger.postpone(take(ledger, run, "a"), 50)
    x = take(ledger, run, "x")
    assert (
        49 < (ledger.next_due_at(run.id) or 0.0) <= 50
    )  # neither b, which waits, nor x, whose lease is longer
    ledger.commit(x, {})
    assert ledger.next_due_at(run.id) == 0.0


def test_the_numbers_for_the_metrics(ledger: Ledger) -> None:
    run = start(
        ledger,
        *(NewStep("part", str(n), queue="dump", group="p/") for n in range(3)),
        NewStep("seal", queue="control", needs="p/"),
        NewStep("encrypt", queue="spool"),
    )
    start(ledger, NewStep("drill", queue="restore"), kind="drill")
    ended = start(ledger)
    ledger.cancel(ended.id, "ann")
    ledger.set_run(take(ledger, run, "part", "0"), spool_id="s1")

    stats = ledger.stats()

    assert {(c.kind, c.state): c.count for c in stats.runs} == {
        ("backup", "running"): 1,
        ("drill", "queued"): 1,
        ("backup", "cancelled"): 1,
    }
    assert {q.queue: q.due for q in stats.queues} == {"dump": 2, "restore": 1, "spool.s1": 1}
    assert all(0.0 <= q.oldest_seconds < 30 for q in stats.queues)
    assert stats.pending_notices == 1
    wait_until(lambda: ledger.stats().queues[0].oldest_seconds > 0.05)
    assert maybe(ledger, run, "seal") is None
