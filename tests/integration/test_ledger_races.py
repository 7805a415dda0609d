"""Many at once: threads, forked processes. Every one of these held under each database's own concurrency."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from ledger_scenes import ERROR, due, maybe, start, step, take

from worker.ledger import Claim, JobDue, Ledger, NewRun, NewStep, RunEnd

pytest_plugins = ["ledger_fixtures"]
T = TypeVar("T")


def at_once(count: int, act: Callable[[int], T]) -> list[T]:
    """What `act` gives in `count` threads that start together."""
    barrier = threading.Barrier(count)

    def one(number: int) -> T:
        barrier.wait(30)
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def test_one_of_sixteen_threads_gets_the_step(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"), NewStep("other"))
    wanted = step(ledger, run, "dump").id
    claims = at_once(16, lambda n: ledger.claim(run.id, wanted, owner=f"t{n}"))
    assert len([claim for claim in claims if claim is not None]) == 1
    assert step(ledger, run, "dump").attempts == 1


def test_forked_processes_share_out_the_steps(ledger: Ledger) -> None:
    """Eight children of a process that has connections open, each claiming whatever it can get."""
    run = start(ledger, *(NewStep("part", str(n)) for n in range(24)))
    ids = [found.id for found in ledger.steps(run.id)]
    context = get_context("fork")
    wins = context.Queue()

    def work(number: int) -> None:
        for step_id in ids if number % 2 else reversed(ids):
            claim = ledger.claim(run.id, step_id, owner=f"p{number}")
            if claim is not None:
                ledger.commit(claim, {"by": number}, [NewStep("after", claim.step.key)])
                wins.put(step_id)

    children = [context.Process(target=work, args=(number,)) for number in range(8)]
    for child in children:
        child.start()
    won = [wins.get(timeout=60) for _ in ids]
    for child in children:
        child.join()

    assert [child.exitcode for child in children] == [0] * 8
    assert sorted(won) == ids
    assert {found.state for found in ledger.steps(run.id, name="part")} == {"done"}
    assert len(list(ledger.steps(run.id, name="after"))) == 24
    assert ledger.run(run.id).state == "running"  # the parent's own connections are as they were


def test_the_seal_is_due_after_the_last_of_many_concurrent_commits(ledger: Ledger) -> None:
    run = start(ledger, *(NewStep("part", str(n), group="p/") for n in range(8)), NewStep("seal", needs="p/"))
    claims = [take(ledger, run, "part", str(n)) for n in range(8)]
    seal = step(ledger, run, "seal").id
    seen: list[tuple[bool, bool]] = []

    def commit_and_look(number: int) -> Claim | None:
        ledger.commit(claims[number], {})
        claim = ledger.claim(run.id, seal, owner=f"t{number}")
        undone = any(part.state != "done" for part in ledger.steps(run.id, name="part"))
        seen.append((claim is not None, undone))
        return claim

    got = [claim for claim in at_once(8, commit_and_look) if claim is not None]

    assert len(got) == 1  # whoever came last saw it due; nobody got it twice
    assert (True, True) not in seen  # and never before the last part was done


def test_a_run_fails_once(ledger: Ledger) -> None:
    run = start(ledger, *(NewStep("part", str(n)) for n in range(8)))
    claims = [take(ledger, run, "part", str(n)) for n in range(8)]
    outcomes = at_once(8, lambda n: ledger.fail(claims[n], {**ERROR, "n": n}, retry_in=None))
    assert sorted(outcomes) == ["ignored"] * 7 + ["run_failed"]
    assert len(ledger.pending_notices()) == 1


def test_a_run_ends_once_whoever_ends_it(ledger: Ledger) -> None:
    run = start(ledger, NewStep("a"), NewStep("b"), NewStep("dump"))
    a, b = take(ledger, run, "a"), take(ledger, run, "b")

    def commit(_: int) -> bool:
        try:
            ledger.commit(a, {}, end=RunEnd("succeeded"))
        except Exception:  # noqa: BLE001 - LeaseLost when somebody else was first
            return False
        return True

    acts: list[Callable[[int], object]] = [
        commit,
        lambda _: ledger.fail(b, ERROR, retry_in=None) == "run_failed",
        lambda n: ledger.cancel(run.id, f"t{n}"),
        lambda _: ledger.rewind(run.id, keep=["dump"], why="x", max_rewinds=0),
        lambda _: ledger.fail_overdue(-1.0) == 1,
    ]
    at_once(10, lambda n: acts[n % len(acts)](n))
    assert len(ledger.pending_notices()) == 1
    assert not ledger.run(run.id).open
    assert {found.state for found in ledger.steps(run.id)} <= {"done", "failed", "skipped"}


def test_a_rewind_and_commits_leave_nothing_behind(ledger: Ledger) -> None:
    """What a commit inserts is of a generation that is either present or void as a whole."""
    for _ in range(5):
        run = start(ledger, NewStep("dump"), *(NewStep("part", str(n)) for n in range(6)))
        claims = [take(ledger, run, "part", str(n)) for n in range(6)]

        def act(number: int, run_id: str = run.id, claims: list[Claim] = claims) -> None:
            if number == 3:
                ledger.rewind(run_id, keep=["dump"], why="x")
                return
            try:
                ledger.commit(claims[number], {}, [NewStep("after", str(number))])
            except Exception:  # noqa: BLE001 - LeaseLost when the rewind was first
                return

        at_once(6, act)
        assert {found.state for found in ledger.steps(run.id, generation=1)} == {"void"}
        assert due(ledger, run) == ["dump"]


def test_a_hint_is_sent_by_one_of_many(ledger: Ledger) -> None:
    start(ledger, *(NewStep("part", str(n)) for n in range(40)))
    sent = at_once(8, lambda _: ledger.take_due(limit=10))
    ids = [hint.step_id for hints in sent for hint in hints]
    rest = [hint.step_id for hint in ledger.take_due(limit=100)]
    assert len(ids + rest) == len(set(ids + rest)) == 40


def test_one_run_for_one_idempotency_key(ledger: Ledger) -> None:
    new = NewRun("backup", "shop", idempotency_key="k")
    made = at_once(8, lambda n: ledger.create_run(new, [NewStep("dump", data={"n": n})]))
    assert len({run.id for run, _ in made}) == 1
    assert [created for _, created in made].count(True) == 1
    assert len(list(ledger.steps(made[0][0].id))) == 1


def test_two_beats_make_one_run(ledger: Ledger) -> None:
    def job(slot: float) -> JobDue:
        new = NewRun("backup", "shop", job="backup:shop", scheduled_for=slot)
        return JobDue("backup:shop", "0 2 * * *", slot, new, [NewStep("dump")])

    assert ledger.schedule_due([job(1.0)]) == []
    made = at_once(8, lambda _: ledger.schedule_due([job(4e9)]))
    assert sum(len(runs) for runs in made) == 1
    assert len(ledger.runs()) == 1


def test_a_notice_has_one_sender(ledger: Ledger) -> None:
    for _ in range(6):
        ledger.cancel(start(ledger).id, "ann")
    taken = at_once(4, lambda _: ledger.pending_notices(limit=3))
    ids = [notice.id for notices in taken for notice in notices]
    assert len(ids) == len(set(ids))


def test_always_steps_run_one_at_a_time(ledger: Ledger) -> None:
    run = start(ledger, *(NewStep("sweep", str(n), always=True) for n in range(8)))
    ledger.cancel(run.id, "ann")
    claims = at_once(8, lambda n: maybe(ledger, run, "sweep", str(n)))
    assert len([claim for claim in claims if claim is not None]) == 1
