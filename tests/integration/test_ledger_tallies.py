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
