"""Who asked for what is on record, once, in every destination, and nothing that pgfleet does takes it away."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.integration import monitoring_scene as scene
from tests.integration import prune_scene
from tests.services import KeyPair
from worker import cli, here, reconcile
from worker.catalog import Catalog
from worker.cli.audit import moment
from worker.core import audit as core
from worker.core import keys
from worker.errors import ConfigError
from worker.ledger.model import NewRun
from worker.ledger.outcomes import RunEnd
from worker.owner import me
from worker.steps import audit, audit_run, audit_settings, hold
from worker.steps.audit_trail import trail
from worker.steps.context import Adapters
from worker.submit import submit

NOW = datetime.now(UTC)


@pytest.fixture
def fleet(tmp_path: Path) -> Adapters:
    return scene.adapters(tmp_path)


def signing(tmp_path: Path, gpg_keys: KeyPair, **more: str) -> Adapters:
    return scene.adapters(
        tmp_path, GNUPGHOME=str(gpg_keys.home), PGFLEET_SIGNING_KEY=gpg_keys.fingerprint, **more
    )


def run_cli(monkeypatch: pytest.MonkeyPatch, directory: Path, *argv: str, **more: str) -> Result:
    for name, value in scene.environment(directory, **more).items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(cli.cli, list(argv), catch_exceptions=False, standalone_mode=False)


def stored(here: Adapters, alias: str) -> list[str]:
    return [info.key for info in here.store(alias).list(core.PREFIX)]


def path_of(here: Adapters, alias: str, key: str) -> Path:
    root = here.destination(alias).path
    assert root is not None
    return root / key


def note(here: Adapters, **more: Any) -> str:
    given: dict[str, Any] = {"by": "ann@host", "database": "goimg", "where": "target/goimg"}
    return audit.note(here, "restore", **(given | more))


# --- writing --------------------------------------------------------------------------------------------------------


def test_a_hold_and_its_release(fleet: Adapters) -> None:
    backup = scene.back_up(fleet, 5)
    hold.hold(fleet, backup, reason="court case", until=None, by="ann@host")
    hold.release(fleet, backup, by="bob@host")
    seen = trail(fleet).entries
    assert [(one.action, one.who, one.result, one.backup_id) for one in seen] == [
        ("hold", "ann@host", "held", backup),
        ("release", "bob@host", "released", backup),
    ], "and the evidence beside the backup tells of no second hold"
    assert all(one.destinations == ("near", "far") for one in seen)
    assert seen[0].detail["reason"] == "court case"


@pytest.fixture
def lost_near(fleet: Adapters) -> Adapters:
    """Nothing can be written to `near`, and nothing was."""
    path = fleet.destination("near").path
    assert path is not None
    path.write_text("no directory")
    return fleet


def test_what_a_destination_does_not_take_is_delivered_later(lost_near: Adapters) -> None:
    fleet = lost_near
    note(fleet)
    assert len(stored(fleet, "far")) == 1
    (waiting,) = fleet.ledger.runs(kind="audit")
    assert waiting.request["destinations"] == ["near"]
    assert fleet.ledger.runs() == [], "it is no run that anybody asked for"
    seen = trail(fleet)
    assert [entry.action for entry in seen.entries] == ["restore"], "once, though the ledger has it too"
    assert list(seen.failures) == ["near"]

    path = fleet.destination("near").path
    assert path is not None
    path.unlink()
    here._deliver(fleet)
    assert stored(fleet, "near") == stored(fleet, "far")
    assert fleet.ledger.run(waiting.id).state == "succeeded"


def test_a_record_that_was_given_up_is_taken_up_again(lost_near: Adapters) -> None:
    note(lost_near)
    (first,) = lost_near.ledger.runs(kind="audit")
    assert reconcile.records(lost_near) == 0, "it is still on its way"
    lost_near.ledger.end_run(first.id, RunEnd("failed", error={"message": "m", "hint": "h"}))
    assert [entry.trust for entry in trail(lost_near).entries] == ["unsigned"]
    assert reconcile.records(lost_near) == 1
    assert reconcile.records(lost_near) == 0, "once a day"


def test_what_only_the_ledger_has_is_shown(fleet: Adapters) -> None:
    note(fleet, at_once=False)
    (entry,) = trail(fleet).entries
    assert (entry.trust, entry.destinations) == ("ledger", ())


def test_what_can_be_kept_nowhere_is_logged(
    tmp_path: Path, lost_near: Adapters, caplog: pytest.LogCaptureFixture
) -> None:
    alone = Adapters(lost_near.settings, lost_near.ledger, ledger_lasts=False)
    note(alone, destinations=["near"])
    assert "could not be kept" in caplog.text
    assert "ann@host" in caplog.text


def test_a_second_attempt_writes_no_second_record(fleet: Adapters) -> None:
    for _ in range(2):
        note(fleet, same="run:1", at=NOW)
    note(fleet, same="run:2", at=NOW)
    assert len(stored(fleet, "near")) == len(stored(fleet, "far")) == 2


def test_a_run_that_ended_is_answered_for(fleet: Adapters) -> None:
    """Of a real run: it fails for want of a backup, and its last step records that."""
    (run,) = submit(fleet, "drill", {"database": "goimg"}, requested_by="ann@host", here=me())
    here.work(fleet, run.id)
    (entry,) = trail(fleet).entries
    assert (entry.action, entry.who, entry.result, entry.run_id) == (
        "drill",
        "ann@host",
        "could_not_run",
        run.id,
    )
    assert "no backup" in entry.detail["error"]


def test_nobody_answers_for_the_schedule(fleet: Adapters) -> None:
    (run,) = submit(fleet, "drill", {"database": "goimg"}, requested_by="schedule", here=me())
    here.work(fleet, run.id)
    assert trail(fleet).entries == []


@pytest.mark.parametrize(
    ("request_", "result", "expected"),
    [
        (
            {"backup": "latest", "replace": True},
            {"target": "t", "restored_as": "shop"},
            ("restore", "t/shop"),
        ),
        ({"output": "/srv/x"}, {}, ("fetch", "/srv/x")),
        ({"undo": "r1", "target": "t", "name": "shop"}, {"restored_as": "shop"}, ("undo", "t/shop")),
        ({"finish": "r1", "target": "t", "name": "shop"}, {"dropped": "shop_old"}, ("finish", "t/shop_old")),
    ],
)
def test_what_is_said_of_restores(
    fleet: Adapters, request_: dict[str, Any], result: dict[str, Any], expected: tuple[str, str]
) -> None:
    run, _ = fleet.ledger.create_run(NewRun("restore", "goimg", request_, "ann@host"), [])
    fleet.ledger.end_run(run.id, RunEnd("succeeded", result))
    told = audit_run._story(fleet.ledger.run(run.id))
    assert told is not None
    assert (told.action, told.where) == expected


# --- removals -------------------------------------------------------------------------------------------------------

OLD = [prune_scene.id_of(prune_scene.days_ago(days)) for days in (40, 41, 42)]
NEW = prune_scene.id_of(prune_scene.days_ago(1))
RETENTION = {"retention": {"daily_days": 7, "weekly_weeks": 0, "monthly_months": 0}}


def test_a_removal_keeps_what_was_known(tmp_path: Path) -> None:
    here_ = prune_scene.scene(tmp_path, database=RETENTION)
    for backup in (OLD[0], NEW):
        prune_scene.add_backup(here_.store("near"), backup)
    prune_scene.prove(here_.store("near"), OLD[0])
    assert here_.run(force=True).state == "succeeded"
    assert not [one for one in trail(here_.adapters).entries if one.action == "remove"], (
        "the newest proven stays"
    )
    prune_scene.prove(here_.store("near"), NEW)
    assert here_.run(force=True).state == "succeeded"
    seen = trail(here_.adapters).entries
    (removed_one,) = [one for one in seen if one.action == "remove"]
    assert (removed_one.backup_id, removed_one.where, removed_one.result) == (OLD[0], "near", "removed")
    copy = removed_one.detail["copy"]
    assert copy["evidence"]["drill"][0]["verdict"] == "proven"
    assert copy["evidence"]["verify"][0]["ok"] is True
    assert copy["encrypted"] is True
    sums = [one for one in seen if one.action == "cleanup"]
    assert sums[-1].detail["destinations"]["near"]["removed"] == 1


def test_what_a_cleanup_could_not_remove(tmp_path: Path) -> None:
    """The record is written before the removal begins; what is left says how that ended."""
    here_ = prune_scene.scene(tmp_path, database=RETENTION)
    for backup in (OLD[0], NEW):
        prune_scene.add_backup(here_.store("near"), backup)
    here_.put_in_place("near", prune_scene.Mortal(here_.store("near"), lives=3))
    with pytest.raises(prune_scene.Killed):
        here_.run(force=True)
    again = prune_scene.scene(tmp_path, database=RETENTION).adapters
    (entry,) = [one for one in trail(again).entries if one.action == "remove"]
    assert (entry.backup_id, entry.result) == (OLD[0], "not removed")


def test_no_cleanup_touches_the_records(tmp_path: Path) -> None:
    """Not by retention, not by the sweep, not as somebody's unknown backup; years later neither."""
    here_ = prune_scene.scene(tmp_path, database=RETENTION, orphan_grace_hours=0.0001)
    for backup in (*OLD, NEW):
        prune_scene.add_backup(here_.store("near"), backup)
    audit.note(
        here_.adapters,
        "hold",
        by="ann@host",
        database="goimg",
        backup_id=OLD[0],
        at=NOW - timedelta(days=3000),
    )
    prune_scene.put(here_.store("near"), "pgfleet-report-2020-01-01abc.html", b"x")
    kept = {info.key for info in here_.store("near").list("pgfleet-")}
    assert here_.run(force=True).state == "succeeded"
    assert kept <= {info.key for info in here_.store("near").list("pgfleet-")}
    assert {entry.backup_id for entry in Catalog(here_.store("near")).entries()} == {NEW}
    assert all(keys.parse(key) is None for key in kept)


# --- cancelling -----------------------------------------------------------------------------------------------------


def test_a_cancelled_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here_ = scene.adapters(tmp_path)
    run = scene.waiting(here_)
    here_.ledger.cancel(run.id, "nobody")
    done = run_cli(monkeypatch, tmp_path, "cancel", run.id)
    assert trail(here_).entries == [], "that one had ended already"
    run = scene.waiting(here_, here=me())
    done = run_cli(monkeypatch, tmp_path, "cancel", run.id)
    assert "is cancelled" in done.output
    (entry,) = trail(here_).entries
    assert (entry.action, entry.run_id, entry.trust) == ("cancel", run.id, "ledger")
    here._deliver(here_)
    (entry,) = [one for one in trail(here_).entries if one.action == "cancel"]
    assert entry.trust == "unsigned"


# --- settings -------------------------------------------------------------------------------------------------------


def changed(here_: Adapters) -> list[tuple[str, list[str]]]:
    return [
        (one.result, [change["name"] for change in one.detail["changed"]])
        for one in trail(here_).entries
        if one.action == "settings"
    ]


def begin(tmp_path: Path, role: str = "worker", **settings: str) -> Adapters:
    here_ = scene.adapters(tmp_path, **settings)
    audit_settings.notice_settings(here_, role)
    here._deliver(here_)
    return here_


def test_changed_settings(tmp_path: Path) -> None:
    begin(tmp_path)
    here_ = begin(tmp_path)
    assert changed(here_) == [("first seen", [])]
    begin(tmp_path, database='schedule = "off"')
    here_ = begin(tmp_path, "beat", database='schedule = "off"')
    assert changed(here_) == [
        ("first seen", []),
        ("changed", ["databases.goimg.schedule"]),
        ("first seen", []),
    ]
    here_ = begin(tmp_path)
    assert changed(here_)[-1] == ("changed", ["databases.goimg.schedule"]), "and back again"


def test_secrets_are_told_by_fingerprint(tmp_path: Path) -> None:
    begin(tmp_path, PGFLEET_WEB_PASSWORD="correct horse")
    here_ = begin(tmp_path, PGFLEET_WEB_PASSWORD="battery staple")
    assert changed(here_)[-1] == ("changed", ["web_password"])
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"battery" not in everything
    assert b"horse" not in everything


def test_a_lost_state_directory_and_ledger(tmp_path: Path) -> None:
    """The destinations know what the settings were."""
    begin(tmp_path)
    (tmp_path / "ledger.db").unlink()
    for path in (tmp_path / "state").rglob("*.json"):
        path.unlink()
    here_ = begin(tmp_path)
    assert changed(here_) == [("first seen", [])]
    here_ = begin(tmp_path, PGFLEET_SCRUB_DAYS="10")
    assert changed(here_)[-1] == ("changed", ["scrub_days"])


def test_settings_wait_for_a_destination(tmp_path: Path) -> None:
    here_ = scene.adapters(tmp_path)
    scene.lose_before(here_)
    audit_settings.notice_settings(here_, "worker")
    here._deliver(here_)
    (run,) = here_.ledger.runs(kind="audit")
    assert run.open


# --- trust ----------------------------------------------------------------------------------------------------------


def test_signatures(tmp_path: Path, gpg_keys: KeyPair) -> None:
    here_ = signing(tmp_path, gpg_keys)
    note(here_)
    (entry,) = trail(here_).entries
    assert (entry.trust, entry.signed_by) == ("signed", gpg_keys.fingerprint)


def test_a_key_that_is_not_known_here(tmp_path: Path, gpg_keys: KeyPair, other_gpg_keys: KeyPair) -> None:
    note(signing(tmp_path, gpg_keys))
    elsewhere = scene.adapters(tmp_path, GNUPGHOME=str(other_gpg_keys.home))
    assert [entry.trust for entry in trail(elsewhere).entries] == ["unknown key"]


def test_a_key_that_is_known_here_and_does_not_count(
    tmp_path: Path, gpg_keys: KeyPair, other_gpg_keys: KeyPair
) -> None:
    here_ = signing(tmp_path, gpg_keys)
    note(here_)
    for configured in (other_gpg_keys.fingerprint, "nobody@example.org"):
        settings = here_.settings.model_copy(update={"signing_key": configured})
        (entry,) = trail(Adapters(settings, here_.ledger)).entries
        assert (entry.trust, entry.signed_by) == ("other key", gpg_keys.fingerprint)


def test_a_worker_without_the_private_key_records_all_the_same(tmp_path: Path, gpg_keys: KeyPair) -> None:
    here_ = scene.adapters(tmp_path, PGFLEET_SIGNING_KEY=gpg_keys.fingerprint)
    note(here_)
    assert [entry.trust for entry in trail(here_).entries] == ["unsigned"]


@pytest.mark.parametrize(
    ("everywhere", "change", "trust"),
    [
        (True, {"by": "mallory@host"}, "bad signature"),
        (True, {"signature": None}, "bad signature"),
        (False, {"by": "mallory@host"}, "copies differ"),
        (True, {"id": "0" * 32}, "unreadable"),
        (True, {"at": "2020-01-01T00:00:00+00:00"}, "unreadable"),
        (True, {}, "signed"),
    ],
)
def test_a_changed_record(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpg_keys: KeyPair,
    everywhere: bool,
    change: dict[str, Any],
    trust: str,
) -> None:
    here_ = signing(tmp_path, gpg_keys)
    note(here_)
    (key,) = stored(here_, "near")
    for alias in ("near", "far") if everywhere else ("near",):
        path = path_of(here_, alias, key)
        path.write_text(json.dumps(json.loads(path.read_text()) | change, indent=1) + "\n")
    (entry,) = trail(here_).entries
    assert entry.trust == trust
    keyed = {"GNUPGHOME": str(gpg_keys.home), "PGFLEET_SIGNING_KEY": gpg_keys.fingerprint}
    done = run_cli(monkeypatch, tmp_path, "audit", **keyed)
    assert done.return_value == (0 if trust == "signed" else 7)
    assert ("changed after writing" in done.output) is (trust != "signed")


def test_a_record_that_was_forged_without_a_signature(tmp_path: Path) -> None:
    here_ = scene.adapters(tmp_path)
    note(here_)
    (key,) = stored(here_, "near")
    path_of(here_, "near", key).write_text("{")
    assert [entry.trust for entry in trail(here_).entries] == ["copies differ"]


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here_ = scene.adapters(tmp_path)
    backup = scene.back_up(here_, 5)
    hold.hold(here_, backup, reason="court case", until=None, by="ann@host")
    shown = run_cli(monkeypatch, tmp_path, "audit")
    assert shown.return_value == 0
    row = next(line for line in shown.output.splitlines() if "ann@host" in line)
    for word in ("hold", backup, "near, far", "held: court case"):
        assert word in row
    lines = run_cli(monkeypatch, tmp_path, "audit", "--json").output.splitlines()
    assert json.loads(lines[0])["by"] == "ann@host"
    assert "Nothing is on record" in run_cli(monkeypatch, tmp_path, "audit", "--until", "2020-01-01").output
    assert run_cli(monkeypatch, tmp_path, "audit", "--database", "goimg").output == shown.output


def test_without_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here_ = scene.adapters(tmp_path)
    note(here_)
    gone = {"PGFLEET_LEDGER_URL": "postgresql://nobody@127.0.0.1:1/ledger?connect_timeout=1"}
    shown = run_cli(monkeypatch, tmp_path, "audit", **gone)
    assert shown.return_value == 0
    assert "ann@host" in shown.output
    assert "without the ledger" in shown.output


def test_evidence_of_before_there_were_records(fleet: Adapters) -> None:
    backup = scene.back_up(fleet, 5, "near")
    restored = {
        "at": NOW.isoformat(), "run_id": "r1", "requested_by": "bob@host", "state": "succeeded",
        "target": "goimg", "restored_as": "copy", "request": {},
    }  # fmt: skip
    Catalog(fleet.store("near")).evidence_put(backup, "restore", restored)
    scene.drill(fleet, backup, "near")
    seen = trail(fleet).entries
    assert ("restore", "bob@host", "goimg/copy", "evidence") in {
        (one.action, one.who, one.where, one.trust) for one in seen
    }


@pytest.mark.parametrize(
    ("text", "last", "expected"),
    [
        ("2026-11-01", False, datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01", True, datetime(2026, 11, 2, tzinfo=UTC)),
        ("2026-11-01T12:00Z", False, datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("7d", False, NOW - timedelta(days=7)),
    ],
)
def test_moments(text: str, last: bool, expected: datetime) -> None:
    assert moment(text, "--since", NOW, last=last) == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "7 apples", ""])
def test_no_moments(text: str) -> None:
    with pytest.raises(ConfigError, match="is no time"):
        moment(text, "--since", NOW)
