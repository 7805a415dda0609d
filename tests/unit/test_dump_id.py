"""Two backups of a small database may be taken within one second; an id has no more than that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.config.load import load
from worker.ledger import Ledger, NewRun, NewStep
from worker.steps.context import Adapters, Context, Later
from worker.steps.dump import own_id

AT = datetime(2026, 11, 23, 2, 0, 0, 100_000, UTC)


def test_a_second_that_another_run_has_taken_is_waited_out() -> None:
    ledger = Ledger("sqlite://")
    ledger.migrate()
    adapters = Adapters(load({}), ledger)

    def dumping(database: str = "goimg") -> Context:
        run, _ = ledger.create_run(NewRun("backup", database), [NewStep("backup.dump")])
        claim = ledger.claim(run.id, next(ledger.steps(run.id)).id, owner="me")
        assert claim is not None
        return Context(adapters, claim)

    first, second, other = dumping(), dumping(), dumping("shop")
    first.set_run(backup_id=own_id(first, AT))
    assert own_id(first, AT) == "goimg-backup-20261123-020000"  # an attempt that is made again
    with pytest.raises(Later):
        own_id(second, AT + timedelta(milliseconds=800))
    assert own_id(second, AT + timedelta(seconds=1)) == "goimg-backup-20261123-020001"
    assert own_id(other, AT) == "shop-backup-20261123-020000"
