"""What went less than smoothly, summed up; on both databases."""

from __future__ import annotations

from ledger_scenes import start, take

from worker.ledger import Ledger, NewStep

pytest_plugins = ["ledger_fixtures"]


def test_attempts_restarts_and_hints(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump", queue="dump"), NewStep("other", queue="dump"))
    for _ in range(2):
        ledger.fail(take(ledger, run, "dump"), {"type": "Hiccup"}, retry_in=0.0)
    claim = take(ledger, run, "dump")
    found = ledger.tallies(3600)
    assert found.retries == {("backup", "dump"): 2, ("backup", "other"): 0}
    assert (found.restarts, found.resent) == ({"backup": 0}, 0)
    ledger.release(claim)
    for _ in range(2):
        ledger.take_due(resend_after=0)
    assert ledger.tallies(3600).resent == 2
    assert ledger.rewind(run.id, keep=("dump",), why="a test")
    again = ledger.tallies(3600)
    assert (again.restarts, again.resent) == ({"backup": 1}, 0)
    assert ledger.tallies(0.0).retries == {}


def test_takeovers(ledger: Ledger) -> None:
    run = start(ledger, NewStep("dump", queue="dump"))
    ledger.fail(take(ledger, run, "dump"), {"type": "Hiccup"}, retry_in=0.0)
    first = take(ledger, run, "dump")
    assert ledger.tallies(3600).takeovers == {("backup", "dump"): 0}, "a failure gives its step back itself"
    ledger.note(first, {"upload": "u1"})
    for number in (1, 2):
        assert ledger.break_dead_leases(lambda owner: True) == 1
        second = take(ledger, run, "dump")
        assert ledger.tallies(3600).takeovers == {("backup", "dump"): number}
    assert second.step.data["upload"] == "u1"
    ledger.commit(second, {})
    assert ledger.tallies(3600).takeovers == {("backup", "dump"): 2}
