"""Runs and what surrounds them: keys, the schedule, workers, notices, forgetting."""

from __future__ import annotations

import re
import time

import pytest
from ledger_scenes import ERROR, start, take, wait_until

from worker.errors import RunNotFound
from worker.ledger import JobDue, Ledger, NewRun, NewStep, Run, RunEnd, WorkerInfo

pytest_plugins = ["ledger_fixtures"]


def test_a_run_is_kept_as_it_was_asked_for(ledger: Ledger) -> None:
    new = NewRun("restore", "shop", {"to": "other", "deep": [1, None]}, "ann@host", here="p")
    run, created = ledger.create_run(new, [])
    assert created
    assert ledger.run(run.id) == run
    assert (run.kind, run.database, run.requested_by, run.here) == ("restore", "shop", "ann@host", "p")
    assert run.request == {"to": "other", "deep": [1, None]}
    assert (run.state, run.generation, run.data, run.result, run.error) == ("queued", 1, {}, {}, None)
    assert (run.job, run.scheduled_for, run.backup_id, run.spool_id, run.ended_at) == (None,) * 5


def test_ids_are_short_sortable_and_safe(ledger: Ledger) -> None:
    ids = []
    for _ in range(5):
        ids.append(start(ledger).id)
        time.sleep(0.002)  # the order is by the millisecond
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"[0-9a-z]{12}", run_id) for run_id in ids)


def test_a_run_is_found_by_the_beginning_of_its_id(ledger: Ledger) -> None:
    run, other = start(ledger), start(ledger)
    assert ledger.run(run.id[:12]).id == run.id
    common = next(n for n in range(12, -1, -1) if run.id.startswith(other.id[:n]))
    assert ledger.run(run.id[: common + 1]).id == run.id
    for wrong in ("", run.id[:3], "zzz", "%", "_", run.id + "0"):
        with pytest.raises(RunNotFound):
            ledger.run(wrong)


def test_an_idempotency_key_names_one_run_for_good(ledger: Ledger) -> None:
    new = NewRun("backup", "shop", idempotency_key="k1")
    first, created = ledger.create_run(new, [NewStep("dump")])
    ledger.cancel(first.id, "ann")
    again, created_again = ledger.create_run(new, [NewStep("dump"), NewStep("more")])
    assert (created, created_again, again.id) == (True, False, first.id)
    assert [found.name for found in ledger.steps(first.id, all_generations=True)] == ["dump"]
    others = [
        ledger.create_run(NewRun("backup", "shop", idempotency_key=key), [])[0] for key in ("k2", "", None)
    ]
    assert len({first.id, *(run.id for run in others)}) == 4


def test_runs_are_listed_newest_first(ledger: Ledger) -> None:
    a = start(ledger, kind="backup")
    b = start(ledger, kind="drill")
    c = ledger.create_run(NewRun("backup", "blog"), [])[0]
    ledger.cancel(a.id, "ann")

    def ids(runs: list[Run]) -> list[str]:
        return [run.id for run in runs]

    assert ids(ledger.runs()) == [c.id, b.id, a.id]
    assert ids(ledger.runs(limit=1)) == [c.id]
    assert ids(ledger.runs(kind="backup")) == [c.id, a.id]
    assert ids(ledger.runs(database="shop")) == [b.id, a.id]
    assert ids(ledger.runs(states=("cancelled", "failed"))) == [a.id]
    assert ids(ledger.runs(since=b.created_at)) == [c.id, b.id]


def job(slot: float, cron: str = "0 2 * * *", name: str = "backup:shop") -> JobDue:
    return JobDue(name, cron, slot, NewRun("backup", "shop", job=name, scheduled_for=slot), [NewStep("dump")])


def test_a_job_begins_when_it_is_first_seen(ledger: Ledger) -> None:
    past, future = 1_700_000_000.0, 4_000_000_000.0
    assert ledger.schedule_due([job(past)]) == []
    (run,) = ledger.schedule_due([job(future)])
    assert (run.job, run.scheduled_for) == ("backup:shop", future)
    assert [found.name for found in ledger.steps(run.id)] == ["dump"]


def test_a_missed_slot_is_caught_up_once(ledger: Ledger) -> None:
    ledger.schedule_due([job(1.0)])
    # Three slots were missed; the newest is what is asked for, however often.
    made = [ledger.schedule_due([job(4e9 + 3)]) for _ in range(3)]
    assert [len(runs) for runs in made] == [1, 0, 0]
    assert ledger.schedule_due([job(4e9 + 2)]) == []
    assert len(ledger.schedule_due([job(4e9 + 4)])) == 1


def test_another_cron_line_begins_anew(ledger: Ledger) -> None:
    ledger.schedule_due([job(1.0)])
    ledger.schedule_due([job(4e9)])
    assert ledger.schedule_due([job(4e9 + 1, cron="0 3 * * *")]) == []  # was due before the line was there
    now = start(ledger).created_at
    assert ledger.schedule_due([job(now - 60, cron="0 3 * * *")]) == []
    assert len(ledger.schedule_due([job(now + 60, cron="0 3 * * *")])) == 1


def test_a_pruned_run_is_not_owed_again(ledger: Ledger) -> None:
    ledger.schedule_due([job(1.0)])
    (run,) = ledger.schedule_due([job(4e9)])
    ledger.cancel(run.id, "ann")
    assert ledger.prune(-1, keep=0) == 1
    assert ledger.schedule_due([job(4e9)]) == []


def test_workers_are_alive_by_the_databases_clock(ledger: Ledger) -> None:
    info = WorkerInfo("dump@a", "a", ("dump", "spool.s1"), "s1", "1.0", seen_at=1.0)
    ledger.beat(info)
    ledger.beat(WorkerInfo("verify@b", "b", ("verify",), "", "1.0", seen_at=9e9))
    found = ledger.workers(alive_within=60)
    assert [(w.name, w.queues, w.spool_id) for w in found] == [
        ("dump@a", ("dump", "spool.s1"), "s1"),
        ("verify@b", ("verify",), ""),
    ]
    ledger.beat(WorkerInfo("dump@a", "a", ("dump",), "s2", "1.1", seen_at=0))
    again = ledger.workers(alive_within=60)[0]
    assert (again.queues, again.spool_id, again.version) == (("dump",), "s2", "1.1")
    assert again.seen_at >= found[0].seen_at
    wait_until(lambda: ledger.workers(alive_within=0.05) == [])
    assert ledger.forget_workers(60) == 0
    assert ledger.forget_workers(0.05) == 2


def test_a_notice_stays_until_it_is_sent(ledger: Ledger) -> None:
    ledger.cancel(start(ledger).id, "ann")
    (notice,) = ledger.pending_notices()
    assert (notice.event, notice.data["database"], notice.data["state"]) == (
        "backup.cancelled",
        "shop",
        "cancelled",
    )
    assert ledger.pending_notices() == []  # somebody is sending it
    ledger.notice_failed(notice.id, retry_in=0.1)
    assert ledger.pending_notices() == []
    wait_until(ledger.pending_notices)
    assert ledger.stats().pending_notices == 1
    ledger.notice_sent(notice.id)
    assert ledger.stats().pending_notices == 0
    ledger.notice_failed(10_000_000, retry_in=1)


def test_old_runs_are_forgotten_but_never_open_ones(ledger: Ledger) -> None:
    ended = [start(ledger, NewStep("dump")) for _ in range(4)]
    for run in ended:
        ledger.commit(take(ledger, run, "dump"), {}, end=RunEnd("verified"))
    opened = start(ledger, NewStep("dump"))
    drill = start(ledger, kind="drill")
    ledger.cancel(drill.id, "ann")
    assert ledger.prune(1, keep=0) == 0  # nothing is a day old
    assert ledger.prune(-1, keep=3) == 2  # the newest three of the kind include the open one
    assert {run.id for run in ledger.runs()} == {ended[2].id, ended[3].id, opened.id, drill.id}
    assert ledger.prune(-1, keep=0) == 3
    assert [run.id for run in ledger.runs()] == [opened.id]
    assert list(ledger.steps(ended[0].id)) == []


def test_a_run_that_takes_too_long_fails(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    assert ledger.fail_overdue(3600) == 0
    wait_until(lambda: ledger.fail_overdue(0.01) == 1)
    failed = ledger.run(run.id)
    assert failed.error is not None
    assert (failed.state, failed.error["type"]) == ("failed", "Overdue")


def test_a_run_is_ended_from_outside_once(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump"))
    assert ledger.end_run(run.id, RunEnd("damaged", {"bad": 1}, ERROR)) is True
    assert ledger.end_run(run.id, RunEnd("verified")) is False
    ended = ledger.run(run.id)
    assert (ended.state, dict(ended.result), ended.error) == ("damaged", {"bad": 1}, ERROR)


def test_times_are_the_databases(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    before = time.time()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    run = start(ledger, NewStep("dump"))
    claim = take(ledger, run, "dump")
    ledger.commit(claim, {}, end=RunEnd("verified"))
    done = ledger.run(run.id)
    # One machine, one true clock: the database's agrees with ours to well under a second.
    assert before - 0.01 <= done.created_at <= (done.started_at or 0) <= (done.ended_at or 0) < before + 10
