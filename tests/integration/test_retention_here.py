"""A destination with a retention of its own: what goes there, and what nobody may call missing afterwards."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.integration.prune_scene import Scene, add_backup, backups_in, days_ago, id_of, prove, scene
from worker import flows, reconcile
from worker.cli import cli
from worker.core.period import month
from worker.ledger.model import NewRun
from worker.ledger.outcomes import RunEnd
from worker.metrics.collector import samples
from worker.metrics.readings import Readings
from worker.status import status
from worker.steps import compliance
from worker.web import calendar, views
from worker.web.sources import Sources

#: Whatever day it is: everything for so many days, and no type for longer.
ONLY = {"daily_days": 0, "weekly_weeks": 0, "monthly_months": 0}
AGES = range(1, 9)


@pytest.fixture
def two(tmp_path: Path) -> Scene:
    """8 backups in both: `near` keeps 3 days, `far` as the database 6."""
    made = scene(
        tmp_path,
        aliases=("near", "far"),
        database={"retention": {**ONLY, "keep_within_days": 6}},
        kept={"near": {"keep_within_days": 3, "minimum": 2}},
    )
    for age in AGES:
        for alias in ("near", "far"):
            add_backup(made.store(alias), old(age))
    return made


def old(age: int) -> str:
    return id_of(days_ago(age))


def missing(readings: Readings) -> dict[str, float]:
    """By destination, as the exporter tells it."""
    return {labels[1]: value for name, labels, value in samples(readings) if name == "pgfleet_copies_missing"}


def ids(ages: range) -> set[str]:
    return {old(age) for age in ages}


def test_each_destination_by_its_own_rules(
    two: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prove(two.store("near"), old(6))
    run = two.run(force=True)
    assert run.state == "succeeded", run.error
    assert backups_in(two.store("near")) == {*ids(range(1, 4)), old(6)}, "the newest proven one stays"
    assert backups_in(two.store("far")) == ids(range(1, 7))
    (removal, *_) = two.adapters.ledger.steps(run.id, name="cleanup.remove")
    assert removal.data["relies_on"] == [old(1), old(2), old(6)], (
        "the minimum there, which is not the database's"
    )

    readings = Readings(two.adapters.settings, max_age=60)
    readings.read(30)
    found = status(readings, datetime.now(UTC))
    assert not [problem for problem in found.problems if "lacks" in problem.what]
    assert found.databases[0].copies == {"near": "verified", "far": "verified"}
    assert missing(readings) == {"near": 0, "far": 0}

    monkeypatch.setenv("PGFLEET_CONFIG", str(tmp_path / "pgfleet.toml"))
    shown = CliRunner().invoke(cli, ["show", old(5)])
    assert ["near", "expired"] in [line.split()[:2] for line in shown.output.splitlines()], shown.output


def test_what_its_own_retention_keeps_is_missed(two: Scene) -> None:
    """The control: 2 days old, it belongs there."""
    for key in [info.key for info in two.store("near").list(old(2))]:
        two.store("near").delete(key)
    readings = Readings(two.adapters.settings, max_age=60)
    readings.read(30)
    assert missing(readings) == {"near": 1, "far": 0}


def test_a_short_retention_takes_nothing_that_a_longer_one_never_got(two: Scene) -> None:
    for key in [info.key for age in (5, 8) for info in two.store("far").list(old(age))]:
        two.store("far").delete(key)
    plan = two.plan(two.run(dry_run=True))
    assert plan["near", old(5)] == (True, "only_good_copy")
    assert plan["near", old(4)] == (False, "expired")
    assert plan["near", old(8)] == (False, "expired"), "nobody keeps it any more"
    add_backup(two.store("far"), old(5))
    assert two.plan(two.run(dry_run=True))["near", old(5)] == (False, "expired")


def test_nothing_is_copied_back(two: Scene) -> None:
    """Both backups missed `near`; meanwhile its retention is over for one of them."""
    for age in (5, 2, 1):
        _ended(two, old(age), "verified" if age == 1 else "failed")
    assert reconcile.catch_up(two.adapters) == 1
    (run,) = two.adapters.ledger.runs(kind="copy")
    assert (run.request["backup"], run.request["to"]) == (old(2), "near")


def _ended(two: Scene, backup: str, near: str) -> None:
    ledger = two.adapters.ledger
    new = NewRun("backup", "goimg", {"databases": ["goimg"]})
    run, _ = ledger.create_run(new, flows.first(new))
    (dump,) = ledger.steps(run.id, name="backup.dump")
    claim = ledger.claim(run.id, dump.id, owner="somebody")
    assert claim is not None
    ledger.set_run(claim, backup_id=backup)
    copies = [
        {"destination": alias, "state": state, "bytes": 1, "error": None}
        for alias, state in (("near", near), ("far", "verified"))
    ]
    ledger.commit(claim, {"destinations": ["near", "far"]}, end=RunEnd("verified", {"copies": copies}))


def test_the_calendar_and_the_report_tell_them_apart(two: Scene) -> None:
    now = datetime.now(UTC)
    readings = Readings(two.adapters.settings, max_age=60)
    readings.read(30)
    assert readings.destinations.value is not None
    holding = readings.destinations.value.databases["goimg"]
    coming = calendar.removals(holding, two.adapters.settings.databases["goimg"], now)
    gone = {
        (alias, item.backup_id): removal.at
        for removal in coming
        for item in removal.backups
        for alias in item.copies
    }
    assert gone["near", old(3)] <= gone["far", old(3)]
    assert gone["near", old(5)] <= now + timedelta(days=7)
    size = holding.backups[0].copies["near"].size
    assert sum(removal.bytes for removal in coming) == pytest.approx(size * len(gone), rel=0.1), (
        "each copy once"
    )

    sources = Sources(readings)
    sources.read()
    page = views.database(sources, "goimg", now)
    assert f"{old(3)}</a> in near" in page
    assert "at least 2 or 1 always stay in each destination" in page
    two.run(force=True)
    readings = Readings(two.adapters.settings, max_age=60)
    sources = Sources(readings)
    sources.read()
    page = views.backup(sources, old(5), now)
    assert "Its retention does not keep this backup any more." in page
    assert "It has no copy of this backup." not in page

    report = compliance.make(two.adapters, month(f"{now:%Y-%m}"), now, by="t")
    told = report["databases"][0]["retention"]["policy"]
    assert told == (
        "in near all of the last 3 days, never fewer than 2; in far all of the last 6 days, never fewer than 1"
    )
