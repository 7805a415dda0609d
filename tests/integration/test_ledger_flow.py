"""What follows what: fan-in, branches, failing once, cancelling, cleaning up, starting again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context

import pytest
from ledger_scenes import ERROR, LEASE, LONG, due, maybe, start, step, take, wait_until

from worker.errors import LeaseLost
from worker.ledger import Ledger, NewStep, Run, RunEnd

pytest_plugins = ["ledger_fixtures"]


def states(ledger: Ledger, run: Run) -> dict[str, str]:
    return {f"{s.name} {s.key}".strip(): s.state for s in ledger.steps(run.id)}


def fan_in(ledger: Ledger, parts: int = 3) -> Run:
    """dump ─▶ part × n, twice (copies a and b) ─▶ seal of each copy; conclude waits for everything."""
    run = start(ledger, NewStep("dump"), NewStep("conclude", needs="*"))
    following = [
        NewStep(name, key, group=group, needs=needs, branch=copy)
        for copy in ("a", "b")
        for name, key, group, needs in (
            *(("part", f"{copy}{n}", f"copy/{copy}/", "") for n in range(parts)),
            ("seal", copy, f"seal/{copy}/", f"copy/{copy}/"),
        )
    ]
    ledger.commit(take(ledger, run, "dump"), {}, following)
    return run


def test_a_step_is_due_exactly_when_nothing_it_needs_is_undone(ledger: Ledger) -> None:
    run = fan_in(ledger, parts=2)
    assert sorted(due(ledger, run)) == ["part a0", "part a1", "part b0", "part b1"]
    for key in ("a0", "a1"):
        assert maybe(ledger, run, "seal", "a") is None
        claim = take(ledger, run, "part", key)
        assert maybe(ledger, run, "seal", "a") is None
        ledger.commit(claim, {})
    assert sorted(due(ledger, run)) == ["part b0", "part b1", "seal a"]
    assert maybe(ledger, run, "seal", "b") is None
    assert maybe(ledger, run, "conclude") is None
    ledger.commit(take(ledger, run, "seal", "a"), {})
    for key in ("b0", "b1"):
        ledger.commit(take(ledger, run, "part", key), {})
    assert due(ledger, run) == ["seal b"]
    ledger.commit(take(ledger, run, "seal", "b"), {})
    assert due(ledger, run) == ["conclude"]


def test_a_group_holds_up_everything_below_it(ledger: Ledger) -> None:
    run = start(
        ledger,
        NewStep("encrypt", group="copy/"),
        NewStep("part", group="copy/a/"),
        NewStep("seal", "a", needs="copy/a/"),
        NewStep("seal", "ab", needs="copy/ab/"),  # copy/a/ is no ancestor of copy/ab/
    )
    assert sorted(due(ledger, run)) == ["encrypt", "part"]
    ledger.commit(take(ledger, run, "encrypt"), {})
    assert sorted(due(ledger, run)) == ["part", "seal ab"]


def test_a_step_does_not_wait_for_itself(ledger: Ledger) -> None:
    run = start(ledger, NewStep("seal", group="copy/", needs="copy/a/"), NewStep("all", needs="*"))
    assert due(ledger, run) == ["seal"]
    ledger.commit(take(ledger, run, "seal"), {})
    assert due(ledger, run) == ["all"]
    take(ledger, run, "all")


def test_groups_and_needs_are_paths(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="paths"):
        start(ledger, NewStep("seal", needs="copy"))
    assert ledger.runs() == []


def test_nothing_follows_when_the_worker_dies_in_its_commit(ledger: Ledger, hasty: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    claim = take(hasty, run, "dump")

    def next_steps() -> Iterator[NewStep]:
        for number in range(1500):  # the first batch has been sent to the database
            yield NewStep("part", str(number))
        os.kill(os.getpid(), signal.SIGKILL)

    child = get_context("fork").Process(target=lambda: hasty.commit(claim, {}, next_steps()))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL

    assert states(ledger, run) == {"dump": "running"}
    wait_until(lambda: due(ledger, run))
    ledger.commit(take(ledger, run, "dump"), {}, [NewStep("part", "0")])
    assert states(ledger, run) == {"dump": "done", "part 0": "due"}


def test_a_generator_that_fails_commits_nothing(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    claim = take(ledger, run, "dump")

    def next_steps() -> Iterator[NewStep]:
        yield NewStep("part", "0")
        raise OSError("unreadable")

    with pytest.raises(OSError, match="unreadable"):
        ledger.commit(claim, {}, next_steps())
    assert states(ledger, run) == {"dump": "running"}


def test_what_follows_may_be_computed_from_the_ledger(ledger: Ledger) -> None:
    run = start(ledger, NewStep("part", "0"), NewStep("seal"))
    ledger.commit(take(ledger, run, "part", "0"), {"n": 7})
    parts = ledger.steps(run.id, name="part")
    ledger.commit(take(ledger, run, "seal"), {}, (NewStep("check", part.key) for part in parts))
    assert states(ledger, run)["check 0"] == "due"


def test_a_failure_for_good_fails_the_run_with_its_notice(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump", max_attempts=2), NewStep("conclude", needs="*"))
    assert ledger.fail(take(ledger, run, "dump"), ERROR, retry_in=0) == "retry"
    assert ledger.fail(take(ledger, run, "dump"), ERROR, retry_in=0) == "run_failed"
    failed = ledger.run(run.id)
    assert (failed.state, failed.error) == ("failed", {"step": "dump", **ERROR})
    assert failed.ended_at is not None
    assert states(ledger, run) == {"dump": "failed", "conclude": "skipped"}
    (notice,) = ledger.pending_notices()
    assert (notice.run_id, notice.event, notice.data["error"]["type"]) == (
        run.id,
        "backup.failed",
        "DumpFailed",
    )


def test_what_cannot_be_cured_is_not_tried_again(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    assert ledger.fail(take(ledger, run, "dump"), ERROR, retry_in=None) == "run_failed"
    assert due(ledger, run) == []
    assert ledger.next_due_at(run.id) is None


def test_a_branch_fails_alone(ledger: Ledger) -> None:
    run = fan_in(ledger)
    working = take(ledger, run, "part", "a1")
    assert ledger.fail(take(ledger, run, "part", "a0"), ERROR, retry_in=None) == "branch_failed"

    assert ledger.heartbeat(working) is False
    with pytest.raises(LeaseLost):
        ledger.commit(working, {})
    assert ledger.run(run.id).state == "running"
    assert states(ledger, run) == {
        "dump": "done",
        "part a0": "failed",
        **dict.fromkeys(("part a1", "part a2", "seal a"), "skipped"),
        **dict.fromkeys(("part b0", "part b1", "part b2", "seal b", "conclude"), "due"),
    }
    for key in ("b0", "b1", "b2"):
        ledger.commit(take(ledger, run, "part", key), {})
    ledger.commit(take(ledger, run, "seal", "b"), {})
    ledger.commit(take(ledger, run, "conclude"), {}, end=RunEnd("failed", {"copies": 1}, ERROR))
    assert dict(ledger.run(run.id).result) == {"copies": 1}
    assert len(ledger.pending_notices()) == 1


def test_cancelling_ends_the_work(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"), NewStep("conclude", needs="*"))
    claim = take(ledger, run, "dump")
    assert ledger.cancel(run.id, "ann@host") is True
    assert ledger.cancel(run.id, "bob@host") is False
    assert ledger.heartbeat(claim) is False
    ended = ledger.run(run.id)
    assert ended.state == "cancelled"
    assert ended.error is not None
    assert "ann@host" in ended.error["message"]
    assert states(ledger, run) == {"dump": "skipped", "conclude": "skipped"}
    assert [notice.event for notice in ledger.pending_notices()] == ["backup.cancelled"]
    assert ledger.cancel("nothere", "ann") is False


def test_cleaning_up_waits_until_the_workers_have_let_go(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"), NewStep("sweep", queue="spool", always=True))
    claim = take(ledger, run, "dump")
    assert maybe(ledger, run, "sweep") is None
    ledger.cancel(run.id, "ann")
    assert maybe(ledger, run, "sweep") is None  # the dump is still being written
    assert due(ledger, run) == []
    assert (ledger.next_due_at(run.id) or 0.0) > 1

    ledger.release(claim)

    assert states(ledger, run)["dump"] == "skipped"
    assert due(ledger, run) == ["sweep"]
    sweep = take(ledger, run, "sweep")
    assert ledger.heartbeat(sweep)
    ledger.note(sweep, {"x": 1})
    assert ledger.fail(sweep, ERROR, retry_in=0) == "retry"
    ledger.commit(take(ledger, run, "sweep"), {"removed": 1})
    assert ledger.run(run.id).state == "cancelled"
    assert ledger.next_due_at(run.id) is None


def test_cleaning_up_waits_no_longer_than_the_lease(open_ledger: Callable[..., Ledger]) -> None:
    patient, hasty = open_ledger(), open_ledger(lease_seconds=LEASE)
    for ledger in (patient, hasty):
        run = start(ledger, NewStep("dump"), NewStep("sweep", always=True))
        take(ledger, run, "dump")
        ledger.cancel(run.id, "ann")
        if ledger is patient:
            assert due(ledger, run) == []
            assert 0.0 < (ledger.next_due_at(run.id) or 0.0) <= LONG
        else:
            wait_until(lambda run=run: due(hasty, run) == ["sweep"])


def test_cleaning_up_cannot_fail_the_run(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"), NewStep("sweep", always=True), NewStep("log", always=True))
    ledger.commit(take(ledger, run, "dump"), {}, end=RunEnd("verified"))
    sweep = take(ledger, run, "sweep")
    assert maybe(ledger, run, "log") is None  # one at a time
    assert ledger.fail(sweep, ERROR, retry_in=None) == "branch_failed"
    assert ledger.run(run.id).state == "verified"
    assert due(ledger, run) == ["log"]
    assert [notice.event for notice in ledger.pending_notices()] == ["backup.verified"]


def test_a_rewound_run_starts_again(ledger: Ledger) -> None:
    run = start(
        ledger,
        NewStep("dump", data={"a": 1}, queue="dump", max_attempts=3),
        NewStep("conclude", needs="*"),
        NewStep("sweep", always=True),
    )
    dump = take(ledger, run, "dump")
    ledger.note(dump, {"snapshot": "s"})
    ledger.set_run(dump, spool_id="gone", backup_id="shop-backup-20260101-000000")
    ledger.commit(dump, {}, [NewStep("encrypt", queue="spool")])
    working = take(ledger, run, "encrypt")

    keep = ("dump", "conclude", "sweep")
    assert ledger.rewind(run.id, keep=keep, why="the spool is gone", generation=1) is True
    assert ledger.rewind(run.id, keep=keep, why="the spool is gone", generation=1) is False

    assert ledger.heartbeat(working) is False
    with pytest.raises(LeaseLost):
        ledger.commit(working, {}, [NewStep("upload")])
    again = ledger.run(run.id)
    assert (again.state, again.generation, again.spool_id, again.backup_id) == ("running", 2, None, None)
    assert again.data["rewinds"] == ["the spool is gone"]
    assert states(ledger, run) == {"dump": "due", "conclude": "due", "sweep": "due"}
    old = {s.name: s.state for s in ledger.steps(run.id, generation=1)}
    assert old == dict.fromkeys(("dump", "conclude", "sweep", "encrypt"), "void")
    assert len(list(ledger.steps(run.id, all_generations=True))) == 7
    assert due(ledger, run) == ["dump"]
    fresh = take(ledger, run, "dump")
    assert (fresh.step.attempts, fresh.fence, dict(fresh.step.data)) == (1, 1, {"a": 1})
    assert (fresh.step.queue, fresh.step.max_attempts) == ("dump", 3)
    assert maybe(ledger, run, "sweep") is None


def test_a_run_is_not_rewound_for_ever(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    assert [ledger.rewind(run.id, keep=["dump"], max_rewinds=2, why="x") for _ in range(4)] == [
        True,
        True,
        False,
        False,
    ]
    failed = ledger.run(run.id)
    assert failed.state == "failed"
    assert failed.error is not None
    assert failed.error["type"] == "TooManyRewinds"
    assert len(ledger.pending_notices()) == 1


def test_what_a_void_generation_left_does_not_hold_up_the_next(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"), NewStep("seal", needs="copy/"), NewStep("part", group="copy/"))
    take(ledger, run, "part")
    ledger.rewind(run.id, keep=["seal"], why="x")
    assert due(ledger, run) == ["seal"]
    assert step(ledger, run, "seal").generation == 2


def test_what_comes_into_a_branch_after_its_failure_is_not_done(ledger: Ledger) -> None:
    """The second archive is encrypted when the copy of the first has failed: sending it would be for nothing."""
    run = start(
        ledger,
        NewStep("encrypt", "1"),
        NewStep("upload", "0@a", group="copy/a/", branch="a"),
        NewStep("conclude", needs="*"),
    )
    claim = take(ledger, run, "encrypt", "1")
    ledger.fail(take(ledger, run, "upload", "0@a"), ERROR, retry_in=None)
    uploads = [NewStep("upload", f"1@{copy}", group=f"copy/{copy}/", branch=copy) for copy in ("a", "b")]
    ledger.commit(claim, {}, uploads)
    assert step(ledger, run, "upload", "1@a").state == "skipped"
    assert due(ledger, run) == ["upload 1@b"]


def test_how_much_there_is_to_do_is_known_before_it_is_begun(ledger: Ledger) -> None:
    run = start(ledger, NewStep("part", "1", size=100), NewStep("part", "2", size=50))
    ledger.heartbeat(take(ledger, run, "part", "1"), bytes_done=40)
    (row,) = ledger.progress(run.id)
    assert (row["bytes_done"], row["bytes_total"]) == (40, 150)


def test_progress_is_summed_up_by_name_and_branch(ledger: Ledger) -> None:
    run = fan_in(ledger)
    ledger.commit(take(ledger, run, "part", "a0"), {"bytes": 100})
    ledger.heartbeat(take(ledger, run, "part", "a1"), bytes_done=40, bytes_total=100)
    ledger.fail(take(ledger, run, "part", "b0"), ERROR, retry_in=None)
    rows = {(row["name"], row["branch"]): row for row in ledger.progress(run.id)}
    assert list(rows) == [
        ("dump", ""),
        ("conclude", ""),
        ("part", "a"),
        ("seal", "a"),
        ("part", "b"),
        ("seal", "b"),
    ]
    a, b = rows["part", "a"], rows["part", "b"]
    assert [a[k] for k in ("total", "done", "running", "failed", "skipped")] == [3, 1, 1, 0, 0]
    assert (a["bytes_done"], a["bytes_total"]) == (140, 200)
    assert a["ended_at"] >= a["started_at"]
    assert [b[k] for k in ("total", "done", "running", "failed", "skipped")] == [3, 0, 0, 1, 2]
    assert rows["conclude", ""]["started_at"] is None
