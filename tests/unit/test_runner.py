"""A step's work is not lost because the ledger is away at the very moment at which it is done."""

from __future__ import annotations

from typing import Any, cast

import pytest

from worker import runner
from worker.config.load import load
from worker.errors import LedgerUnavailable
from worker.ledger import Ledger, NewRun, NewStep
from worker.steps.context import Adapters, Context, Outcome

ARCHIVE = {"stem": "dump", "size": 7}


class Restarted(Ledger):
    """Away for the first few commits."""

    away = 0

    def commit(self, *args: Any, **more: Any) -> None:
        self.away -= 1
        if self.away >= 0:
            raise LedgerUnavailable("The ledger is being restarted.", "")
        super().commit(*args, **more)


def performed(name: str, outcome: Outcome, monkeypatch: pytest.MonkeyPatch) -> tuple[Ledger, str, int]:
    """The ledger, the run and how often the work was done, with the ledger away for two commits."""
    ledger, done = Restarted("sqlite://"), list[str]()
    ledger.migrate()
    ledger.away = 2

    def work(context: Context) -> Outcome:
        done.append(context.step.name)
        return outcome

    monkeypatch.setitem(cast(dict[str, Any], runner.STEPS), name, work)
    monkeypatch.setattr(runner, "COMMIT_AGAIN_SECONDS", 0.0)
    run, _ = ledger.create_run(NewRun("backup", "goimg"), [NewStep(name, "dump")])
    (hint,) = ledger.take_due(run_id=run.id)
    runner.perform(Adapters(load({}), ledger), run.id, hint.step_id)
    return ledger, run.id, len(done)


def test_a_dump_is_committed_when_the_ledger_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = Outcome({"archives": [ARCHIVE], "destinations": ["local"]})
    ledger, run_id, done = performed("backup.dump", outcome, monkeypatch)
    assert done == 1
    assert [(step.name, step.state) for step in ledger.steps(run_id)] == [
        ("backup.dump", "done"),
        ("backup.encrypt", "due"),
        ("backup.seal", "due"),
    ]


def test_a_fan_out_that_was_read_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Committed a second time it would have no parts: such a step is done again instead."""
    outcome = Outcome({"size": 7, "part_size": 7, "object": "x"}, iter([{"number": 1}]))
    ledger, run_id, done = performed("backup.upload", outcome, monkeypatch)
    assert done == 1
    (step,) = ledger.steps(run_id)
    assert (step.state, step.attempts) == ("due", 1)
