"""One worker at a time: claims, leases, fences."""

from __future__ import annotations

import time

import pytest
from ledger_scenes import ERROR, LEASE, due, maybe, start, step, take, wait_until

from worker.errors import LeaseLost
from worker.ledger import Ledger, NewStep, RunEnd

pytest_plugins = ["ledger_fixtures"]


def test_a_claim_starts_the_run_and_counts_the_attempt(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump", data={"a": 1}))
    assert (run.state, run.started_at) == ("queued", None)

    claim = take(ledger, run, "dump", owner="host/1")

    assert claim.run.state == "running"
    assert claim.run.started_at is not None
    assert (claim.step.state, claim.step.owner, claim.step.attempts, claim.fence) == (
        "running",
        "host/1",
        1,
        1,
    )
    assert claim.step.lease_until == pytest.approx(claim.run.started_at + claim.lease_seconds, abs=1)
    assert claim.step.data == {"a": 1}
    assert ledger.run(run.id).state == "running"


def test_a_step_has_one_owner(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    take(ledger, run, "dump")
    assert maybe(ledger, run, "dump", owner="other") is None


def test_hints_may_be_wrong(ledger: Ledger) -> None:
    run, other = start(ledger, NewStep("dump")), start(ledger, NewStep("dump"))
    mine = step(ledger, run, "dump").id
    assert ledger.claim(other.id, mine, owner="me") is None
    assert ledger.claim("nothere", mine, owner="me") is None
    assert ledger.claim(run.id, 10_000_000, owner="me") is None


def test_an_expired_lease_is_taken_over_and_the_late_worker_is_refused(hasty: Ledger) -> None:
    run = start(hasty, NewStep("dump"))
    late = take(hasty, run, "dump", owner="first")
    assert maybe(hasty, run, "dump", owner="second") is None
    wait_until(lambda: due(hasty, run))

    second = take(hasty, run, "dump", owner="second")

    assert (second.fence, second.step.attempts) == (late.fence + 1, 2)
    assert hasty.heartbeat(late) is False
    with pytest.raises(LeaseLost):
        hasty.note(late, {"upload_id": "x"})
    with pytest.raises(LeaseLost):
        hasty.set_run(late, spool_id="s1")
    with pytest.raises(LeaseLost):
        hasty.commit(late, {"by": "first"}, [NewStep("encrypt")])
    assert hasty.fail(late, ERROR, retry_in=None) == "ignored"
    hasty.postpone(late, 100, {"x": 1})
    hasty.release(late)

    hasty.commit(second, {"by": "second"})
    assert dict(step(hasty, run, "dump").result) == {"by": "second"}
    assert step(hasty, run, "dump").data == {}
    assert hasty.run(run.id).spool_id is None
    assert not list(hasty.steps(run.id, name="encrypt"))


def test_a_lease_that_ran_out_is_still_good_while_nobody_has_taken_it(hasty: Ledger) -> None:
    run = start(hasty, NewStep("dump"))
    claim = take(hasty, run, "dump")
    wait_until(lambda: due(hasty, run))
    assert hasty.heartbeat(claim) is True
    assert maybe(hasty, run, "dump") is None
    hasty.commit(claim, {})


def test_heartbeats_keep_the_lease_and_carry_progress(hasty: Ledger) -> None:
    run = start(hasty, NewStep("dump"))
    claim = take(hasty, run, "dump")
    until = time.monotonic() + 3 * LEASE
    while time.monotonic() < until:
        assert hasty.heartbeat(claim, bytes_done=5, bytes_total=10)
        assert maybe(hasty, run, "dump", owner="thief") is None
    assert (step(hasty, run, "dump").bytes_done, step(hasty, run, "dump").bytes_total) == (5, 10)
    hasty.commit(claim, {"bytes": 11})
    assert (step(hasty, run, "dump").bytes_done, step(hasty, run, "dump").bytes_total) == (11, 11)


def test_notes_outlive_the_attempt(hasty: Ledger) -> None:
    run = start(hasty, NewStep("upload", data={"object": "o", "parts": 3}))
    hasty.note(take(hasty, run, "upload"), {"upload_id": "u1"})
    wait_until(lambda: due(hasty, run))
    again = take(hasty, run, "upload")
    assert again.step.data == {"object": "o", "parts": 3, "upload_id": "u1"}


def test_set_run_merges(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    claim = take(ledger, run, "dump")
    ledger.set_run(claim, backup_id="shop-backup-20260101-000000", data={"a": 1, "b": 1})
    ledger.set_run(claim, spool_id="s1", data={"b": 2})
    found = ledger.run(run.id)
    assert (found.backup_id, found.spool_id) == ("shop-backup-20260101-000000", "s1")
    assert found.data == {"a": 1, "b": 2}


def test_a_retry_waits_and_keeps_the_error(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    assert ledger.fail(take(ledger, run, "dump"), ERROR, retry_in=0.3) == "retry"
    failed = step(ledger, run, "dump")
    assert (failed.state, failed.attempts, failed.owner, failed.error) == ("due", 1, None, ERROR)
    assert maybe(ledger, run, "dump") is None
    assert due(ledger, run) == []
    assert 0.0 < (ledger.next_due_at(run.id) or 0.0) <= 0.3

    wait_until(lambda: due(ledger, run))
    ledger.commit(take(ledger, run, "dump"), {})
    done = step(ledger, run, "dump")
    assert (done.state, done.attempts, done.error) == ("done", 2, None)


def test_postponing_and_releasing_cost_no_attempt(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump", max_attempts=1))
    ledger.postpone(take(ledger, run, "dump"), 0.2, {"thawing": True})
    assert maybe(ledger, run, "dump") is None
    wait_until(lambda: due(ledger, run))
    claim = take(ledger, run, "dump")
    assert (claim.step.attempts, claim.step.data) == (1, {"thawing": True})
    ledger.release(claim)
    assert take(ledger, run, "dump").step.attempts == 1


def test_a_commit_whose_answer_was_lost_may_be_repeated(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    claim = take(ledger, run, "dump")
    ledger.commit(claim, {"n": 1}, [NewStep("encrypt", "a")])
    ledger.commit(claim, {"n": 1}, [NewStep("encrypt", "a")])
    assert [s.key for s in ledger.steps(run.id, name="encrypt")] == ["a"]


def test_a_step_that_is_there_already_is_not_inserted_again(ledger: Ledger) -> None:
    run = start(ledger, NewStep("one"), NewStep("two"))
    ledger.commit(take(ledger, run, "one"), {}, [NewStep("next", "k", data={"from": 1})])
    ledger.commit(
        take(ledger, run, "two"), {}, [NewStep("next", "k", data={"from": 2}), NewStep("next", "l")]
    )
    assert [(s.key, dict(s.data)) for s in ledger.steps(run.id, name="next")] == [
        ("k", {"from": 1}),
        ("l", {}),
    ]


def test_the_leases_of_the_known_dead_are_broken(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump", "a"), NewStep("dump", "b"))
    take(ledger, run, "dump", "a", owner="dead")
    living = take(ledger, run, "dump", "b", owner="alive")
    due(ledger, run)

    assert ledger.break_dead_leases(lambda owner: owner == "dead") == 1
    assert ledger.break_dead_leases(lambda owner: owner == "dead") == 0

    assert due(ledger, run) == ["dump a"]
    assert take(ledger, run, "dump", "a").step.attempts == 2
    assert ledger.heartbeat(living)


def test_a_step_whose_workers_keep_vanishing_fails_the_run(hasty: Ledger) -> None:
    run = start(hasty, NewStep("dump", max_attempts=2))
    for _ in range(2):
        take(hasty, run, "dump")
        assert hasty.expired_exhausted() == 0
        wait_until(lambda: (hasty.next_due_at(run.id) or 0) == 0)
    wait_until(lambda: hasty.next_due_at(run.id) is None)
    assert maybe(hasty, run, "dump") is None
    assert hasty.run(run.id).state == "running"
    assert hasty.expired_exhausted() == 1
    failed = hasty.run(run.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert (failed.error["type"], failed.error["step"]) == ("WorkerLost", "dump")
    assert hasty.expired_exhausted() == 0
    assert [notice.event for notice in hasty.pending_notices()] == ["backup.failed"]


def test_ending_a_run_revokes_its_claims(ledger: Ledger) -> None:
    run = start(ledger, NewStep("a"), NewStep("b"), NewStep("c"))
    a, b = take(ledger, run, "a"), take(ledger, run, "b")
    ledger.commit(a, {}, end=RunEnd("succeeded", {"ok": True}))
    assert ledger.heartbeat(b) is False
    with pytest.raises(LeaseLost):
        ledger.commit(b, {}, [NewStep("d")])
    assert ledger.fail(b, ERROR, retry_in=None) == "ignored"
    assert {s.name: s.state for s in ledger.steps(run.id)} == {"a": "done", "b": "skipped", "c": "skipped"}
    ended = ledger.run(run.id)
    assert (ended.state, dict(ended.result), ended.error) == ("succeeded", {"ok": True}, None)
