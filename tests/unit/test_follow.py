"""Watching runs: what is said when, how it fits a screen, and that a ledger that is away for a moment is waited for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any, cast

import pytest
from rich.console import Console

from worker.cli import follow, render
from worker.cli.picture import Picture, fitting
from worker.cli.show_run import describe
from worker.cli.troubles import troubles
from worker.errors import LedgerUnavailable
from worker.ledger import Ledger, NewRun, NewStep, Run, RunEnd
from worker.ledger.model import WorkerInfo
from worker.ledger.workers import RECONCILE
from worker.steps.context import Adapters


class Fleet:
    """A ledger in memory, and hands that do what is in it."""

    def __init__(self) -> None:
        self.ledger = Ledger("sqlite://")
        self.ledger.migrate()
        self.adapters = cast(Adapters, self)

    def run(self, database: str, *steps: NewStep) -> Run:
        return self.ledger.create_run(NewRun("backup", database), steps or [NewStep("backup.dump")])[0]

    def do(self, run: Run, name: str = "backup.dump", *, end: RunEnd | None = None) -> None:
        step = next(self.ledger.steps(run.id, name=name))
        claim = self.ledger.claim(run.id, step.id, owner="me")
        assert claim is not None
        self.ledger.commit(claim, {"bytes": 7}, end=end)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    found = Fleet()
    yield found
    found.ledger.close()


def row(name: str, state: str, **more: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("done", "running", "failed", "skipped"), 0) | (
        {state: 1} if state != "due" else {}
    )
    times = {"started_at": None if state == "due" else 1.0, "ended_at": 2.0 if state == "done" else None}
    return {"name": name, "branch": "", "total": 1, "bytes_done": 0, "bytes_total": 0} | counts | times | more


def test_runs_are_followed_side_by_side_and_each_line_names_its_database(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slow, quick = fleet.run("slow"), fleet.run("quick")
    fleet.do(quick, end=RunEnd("verified"))
    waited = iter([lambda: fleet.do(slow, end=RunEnd("verified"))])
    monkeypatch.setattr("time.sleep", lambda _: next(waited)())
    assert [run.database for run in follow.follow_all(fleet.adapters, [slow, quick])] == ["quick", "slow"]
    said = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert said[0].startswith("quick: backup.dump: done, 7 B")
    assert said[1].startswith("slow: backup.dump: done, 7 B")


def test_a_line_has_the_time_at_which_it_came_to_pass(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever comes to it late, or looks at another run first, is not told that all happened just now."""
    run = fleet.run("shop")
    fleet.do(run, end=RunEnd("verified"))
    (of_dump,) = fleet.ledger.progress(run.id)
    fleet.ledger.progress = lambda _: [of_dump | {"ended_at": 3600.0}]  # type: ignore[method-assign]
    follow.follow(fleet.adapters, run)
    assert capsys.readouterr().out.startswith("01:00:00Z backup.dump: done")


def test_a_ledger_that_is_away_for_a_moment_does_not_end_the_watching(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fleet.run("shop")
    fleet.do(run, end=RunEnd("verified"))
    answer, asked, clock = fleet.ledger.run, iter(range(9)), iter([0.0, 119.0, 121.0])

    def away(run_id: str) -> Run:
        if next(asked) < 2:
            raise LedgerUnavailable("It is being restarted.", "")
        return answer(run_id)

    monkeypatch.setattr(fleet.ledger, "run", away)
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert follow.follow(fleet.adapters, run, quiet=True).state == "verified"
    asked = iter(range(9))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with pytest.raises(LedgerUnavailable):
        follow.follow(fleet.adapters, run, quiet=True)


def test_a_run_that_nobody_takes_up_again_says_who_is_missing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message may be lost: without beat it would wait for ever, and nothing would be said."""
    run = fleet.run("shop")
    sign = WorkerInfo("worker@a", "a", ("control",), "", "1", 0.0)
    fleet.ledger.beat(sign)
    monkeypatch.setattr("time.time", lambda: run.created_at + 299.0)
    assert troubles(fleet.adapters, run) == []
    monkeypatch.setattr("time.time", lambda: run.created_at + 301.0)
    (line,) = troubles(fleet.adapters, run)
    assert "Start beat" in line
    fleet.ledger.beat(replace(sign, name=RECONCILE, queues=()))
    assert troubles(fleet.adapters, run) == []


def test_the_picture_is_no_taller_than_the_screen_and_shows_what_is_in_work(fleet: Fleet) -> None:
    for number in range(30):
        fleet.do(fleet.run(f"old{number}"), end=RunEnd("verified"))
    run = fleet.run("shop", *(NewStep(f"backup.step{number}") for number in range(8)))
    fleet.do(run, "backup.step0")
    runs = fleet.ledger.runs(limit=50)
    screen = Console(file=io.StringIO(), width=100, height=24, force_terminal=True, color_system=None)
    screen.print(Picture(fleet.adapters, runs))
    lines = cast(io.StringIO, screen.file).getvalue().splitlines()
    assert len(lines) < 24
    assert sum("shop" in line for line in lines) == 1
    assert sum("backup.step" in line for line in lines) == 8
    assert sum("old" in line for line in lines) > 5


def test_where_not_all_steps_fit_what_is_done_gives_way_first() -> None:
    states = ["done", "done", "running", "due", "failed", "due"]
    rows = [row(f"step{number}", state) for number, state in enumerate(states)]
    assert fitting(rows, 6) == rows
    assert [one["name"] for one in fitting(rows, 4)] == ["step2", "step4", "step3", "step5"]
    assert [one["name"] for one in fitting(rows, 1)] == ["step2"]


def test_steps_that_nobody_will_do_any_more_do_not_look_as_if_they_waited() -> None:
    assert render.state_of(row("seal", "skipped")) == "skipped"
    assert render.state_of(row("part", "skipped", total=2, done=1)) == "skipped"
    assert render.state_of(row("part", "skipped", total=2)) == "waiting"


def test_times_in_json_are_iso_8601_with_their_offset(fleet: Fleet) -> None:
    run = fleet.run("shop")
    assert describe(fleet.adapters, run)["started_at"] is None
    fleet.do(run, end=RunEnd("verified"))
    shown = describe(fleet.adapters, fleet.ledger.run(run.id))
    (step,) = shown["steps"]
    for told in (*(shown[name] for name in ("created_at", "started_at", "ended_at")), step["ended_at"]):
        assert datetime.fromisoformat(told).utcoffset() is not None
