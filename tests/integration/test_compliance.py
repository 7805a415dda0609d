"""The report of a month says what was, from the destinations alone; and its signature holds for what was signed."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration import monitoring_scene as scene
from tests.integration import month_scene, prune_scene
from tests.integration.month_scene import MONTH, NOW
from tests.integration.test_audit import run_cli
from tests.integration.test_notify import Listener, listener, make_due  # noqa: F401 - a fixture
from tests.services import KeyPair
from tests.unit.test_report import page
from worker import here, reconcile
from worker.errors import ConfigError
from worker.ledger.model import Run
from worker.report import render_month
from worker.steps import compliance, digest
from worker.steps.context import Adapters
from worker.steps.report_month import PREFIX

KEYS = ("near", "far")


def report(here_: Adapters, now: datetime = NOW) -> dict[str, Any]:
    return compliance.make(here_, MONTH, now, by="ann@host")


def of(made: dict[str, Any]) -> dict[str, Any]:
    (part,) = made["databases"]
    return dict(part)


@pytest.fixture(scope="module")
def september(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("september")
    return directory, report(month_scene.a_month(directory))


def test_numbers(september: tuple[Path, dict[str, Any]]) -> None:
    part = of(september[1])
    backups = part["backups"]
    assert (backups["owed"], backups["taken"], backups["verified"], backups["proven"]) == (30, 28, 27, 2)
    assert part["rpo"]["reached_seconds"] == 4 * 86_400
    assert part["rpo"]["met"] is False
    assert (part["rto"]["reached_seconds"], part["rto"]["met"]) == (2100.0, False)
    assert [drill["destination"] for drill in part["rto"]["drills"]] == ["near", "far"]
    states = {day["day"][8:]: day["state"] for day in part["days"]}
    assert (states["02"], states["03"], states["10"], states["12"]) == (
        "proven",
        "verified",
        "missing",
        "unverified",
    )


def test_gaps_are_explained(september: tuple[Path, dict[str, Any]]) -> None:
    gaps = {gap["day"][8:]: (gap["cause"], gap["why"]) for gap in of(september[1])["gaps"]}
    assert gaps.keys() == {"10", "11", "12"}
    assert gaps["10"][0] == "failed"
    assert "connection to server was lost" in gaps["10"][1]
    assert gaps["11"][0] == "no run"
    assert gaps["12"][0] == "not verified"


def test_access(september: tuple[Path, dict[str, Any]]) -> None:
    access = september[1]["access"]
    assert access["counts"] == {"restore": 1, "hold": 1, "settings": 1}
    assert [entry["by"] for entry in access["list"]] == ["ann@host"] * 3
    assert access["list"][2]["changed"] == ["databases.goimg.schedule"]


def test_documents(september: tuple[Path, dict[str, Any]]) -> None:
    made = render_month(september[1])
    assert page(made.html).addresses == []
    assert "http" not in made.html
    for text in (made.html, made.markdown):
        assert "4 d" in text
        assert "connection to server was lost" in text
        assert "164.308(a)(7)(ii)(A)" in text
    rows = [line for line in made.markdown.splitlines() if line.startswith("| goimg-backup-")]
    assert len(rows) == 28
    assert len({row.index("|", 2) for row in rows}) == 1, "columns are under each other"


def test_what_is_foreign_is_escaped(september: tuple[Path, dict[str, Any]]) -> None:
    evil = '<script>alert("x")</script>|b ![i](http://x)'
    made = json.loads(json.dumps(september[1]))
    made["access"]["list"][0]["by"] = made["databases"][0]["gaps"][0]["why"] = evil
    made["findings"].append({"severity": "bad", "text": evil})
    found = render_month(made)
    assert "<script" not in found.html
    page(found.html)
    assert re.findall(r"(?<!\\)<script|(?<!\\)\[i", found.markdown) == []
    assert found.markdown.count("\\<script>") == 3
    (row,) = [line for line in found.markdown.splitlines() if line.startswith("|") and "\\<script" in line][
        :1
    ]
    assert "\\|b" in row


def test_a_month_in_which_all_was_well(tmp_path: Path) -> None:
    here_ = scene.adapters(tmp_path)
    month_scene.back_up(here_, 31, month=8)
    for day in range(1, 31):
        month_scene.back_up(here_, day)
    month_scene.drill(here_, 2, "proven", 60.0)
    part = of(report(here_))
    assert part["gaps"] == []
    assert part["findings"] == []
    assert (part["rpo"]["met"], part["rto"]["met"]) == (True, True)


def test_a_refuted_drill_and_one_that_did_not_run(tmp_path: Path) -> None:
    here_ = scene.adapters(tmp_path)
    month_scene.back_up(here_, 2)
    month_scene.back_up(here_, 3)
    month_scene.drill(here_, 2, "refuted", 60.0)
    month_scene.drill(here_, 3, "could_not_run", 0.0)
    made = report(here_)
    assert any("refuted" in finding["text"] for finding in made["findings"])
    assert of(made)["backups"]["proven"] == 0
    assert of(made)["rto"]["reached_seconds"] == 60.0
    page(render_month(made).html)


def test_without_the_ledger(tmp_path: Path) -> None:
    """The same numbers; why something failed is not known, and is said not to be."""
    with_ = month_scene.a_month(tmp_path)
    known = of(report(with_))
    (tmp_path / "ledger.db").unlink()
    gone = {"PGFLEET_LEDGER_URL": "postgresql://nobody@127.0.0.1:1/ledger?connect_timeout=1"}
    without = report(scene.adapters(tmp_path, **gone))
    part = of(without)
    assert without["ledger"]
    for name in ("backups", "rpo", "rto", "days"):
        assert part[name] == known[name]
    assert {gap["day"][8:]: gap["cause"] for gap in part["gaps"]} == {
        "10": "unknown", "11": "unknown", "12": "not verified",
    }  # fmt: skip
    assert "cannot be known" in " ".join(without["notes"])


def test_a_destination_that_is_away(tmp_path: Path) -> None:
    here_ = month_scene.a_month(tmp_path)
    scene.lose(here_, "far")
    made = report(here_)
    assert of(made)["backups"]["verified"] == 27, "the other one has them too"
    assert any("far could not be read" in finding["text"] for finding in made["findings"])


def test_backups_that_a_cleanup_has_taken_since(tmp_path: Path) -> None:
    """Real ones, removed by a real cleanup with its ledger; then the ledger is lost too."""
    one = prune_scene.scene(tmp_path, database={"retention": {"weekly_weeks": 0, "monthly_months": 0}})
    days = [prune_scene.days_ago(age) for age in range(40, 70)]
    for day in days:
        prune_scene.add_backup(one.store("near"), prune_scene.id_of(day))
    newest = prune_scene.id_of(prune_scene.days_ago(1))
    prune_scene.add_backup(one.store("near"), newest)
    prune_scene.prove(one.store("near"), prune_scene.id_of(days[0]))
    prune_scene.prove(one.store("near"), newest)
    now = datetime.now(NOW.tzinfo)
    begin = datetime.combine(days[-1], NOW.time(), NOW.tzinfo).replace(hour=0)
    span = MONTH._replace(begin=begin, end=begin + timedelta(days=30))
    before = of(compliance.make(one.adapters, span, now, by="t"))["backups"]
    assert one.run(force=True).state == "succeeded"
    assert prune_scene.backups_in(one.store("near")) == {newest}
    (tmp_path / "ledger.db").unlink()
    again = prune_scene.scene(
        tmp_path, database={"retention": {"weekly_weeks": 0, "monthly_months": 0}}
    ).adapters
    part = of(compliance.make(again, span, now, by="t"))
    for name in ("owed", "taken", "verified", "proven", "bytes"):
        assert part["backups"][name] == before[name], name
    assert part["backups"]["removed_since"] == 30
    assert part["rto"]["drills"][0]["verdict"] == "proven"
    later = MONTH._replace(begin=now - timedelta(hours=1), end=now + timedelta(hours=1))
    retention = of(compliance.make(again, later, now + timedelta(seconds=5), by="t"))["retention"]
    assert retention["removed"] == 30
    assert all(one["reason"] for one in retention["list"])


def test_what_only_the_ledger_knows(tmp_path: Path) -> None:
    here_ = month_scene.a_month(tmp_path)
    gone = month_scene.id_of(20)
    month_scene.remembered(tmp_path, here_, gone)
    for alias in KEYS:
        month_scene.forget(tmp_path, alias, gone)
    part = of(report(here_))
    assert part["backups"]["verified"] == 27
    (row,) = [one for one in part["backups"]["list"] if one["backup_id"] == gone]
    assert row["only_ledger"] is True


def test_keys(tmp_path: Path, gpg_keys: KeyPair) -> None:
    settings = f'recipients = ["{gpg_keys.fingerprint}"]'
    here_ = scene.adapters(tmp_path, database=settings, GNUPGHOME=str(gpg_keys.home))
    (key,) = report(here_)["keys"]
    assert (key["fingerprint"], key["problem"]) == (gpg_keys.fingerprint, "")
    elsewhere = scene.adapters(tmp_path, database=settings)
    (key,) = report(elsewhere)["keys"]
    assert "cannot be looked at on this host" in key["problem"]


# --- the command and signatures -------------------------------------------------------------------------------------


def keyed(gpg_keys: KeyPair) -> dict[str, str]:
    return {"GNUPGHOME": str(gpg_keys.home), "PGFLEET_SIGNING_KEY": gpg_keys.fingerprint}


@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_a_signed_report_and_one_that_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpg_keys: KeyPair, form: str
) -> None:
    scene.back_up(scene.adapters(tmp_path), 5)
    file = tmp_path / f"report.{form}"
    more = keyed(gpg_keys)
    done = run_cli(monkeypatch, tmp_path, "report", "-o", str(file), **more)
    assert done.return_value == 0, done.output
    assert gpg_keys.fingerprint in file.read_text()
    good = run_cli(monkeypatch, tmp_path, "evidence", "verify", str(file), **more)
    assert good.return_value == 0, good.output
    assert gpg_keys.fingerprint in good.output
    file.write_bytes(file.read_bytes().replace(b"verified", b"veriffed", 1))
    bad = run_cli(monkeypatch, tmp_path, "evidence", "verify", str(file), **more)
    assert bad.return_value == 7
    assert "was changed" in bad.output


def test_a_report_that_nobody_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.back_up(scene.adapters(tmp_path), 5)
    file = tmp_path / "report.md"
    assert "not signed" in run_cli(monkeypatch, tmp_path, "report", "-o", str(file)).output
    bad = run_cli(monkeypatch, tmp_path, "evidence", "verify", str(file))
    assert bad.return_value == 7
    assert "there is no" in bad.output


def test_on_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    month_scene.a_month(tmp_path)
    shown = run_cli(monkeypatch, tmp_path, "report", "--month", "2026-09")
    assert shown.return_value == 0
    assert shown.output.startswith("# Backup and recovery, September 2026\n")
    assert (
        json.loads(run_cli(monkeypatch, tmp_path, "report", "--json", "--month", "2026-09").output)["format"]
        == 1
    )
    assert "<!doctype html>" in run_cli(monkeypatch, tmp_path, "report", "--html").output
    for wrong in ("2026-99", "9998-01"):
        with pytest.raises(ConfigError):
            run_cli(monkeypatch, tmp_path, "report", "--month", wrong)


# --- by schedule ----------------------------------------------------------------------------------------------------


def scheduled(here_: Adapters, kind: str, first: datetime, second: datetime) -> Run:
    """The one run that two looks, by two beats each, make of that schedule."""
    for at in (first, second, second):
        reconcile.schedule(here_, at)
    runs = here_.ledger.runs(kind=kind)
    assert len(runs) == 1
    return runs[0]


def perform(here_: Adapters, run: Run) -> Run:
    from worker import runner

    for step in list(here_.ledger.steps(run.id)):
        runner.perform(here_, run.id, step.id)
    return here_.ledger.run(run.id)


def test_a_report_by_schedule(
    tmp_path: Path,
    gpg_keys: KeyPair,
    listener: Listener,  # noqa: F811
) -> None:
    here_ = scene.adapters(
        tmp_path, PGFLEET_NOTIFY_URLS=f"json://{listener.address}/message", **keyed(gpg_keys)
    )
    scene.back_up(here_, 5)
    now = datetime.now(NOW.tzinfo)
    run = scheduled(here_, "report", now, now + timedelta(days=32))
    ended = perform(here_, run)
    assert ended.state == "succeeded", ended.error
    expected = [f"{form}{end}" for form in ("html", "json", "md") for end in ("", ".asc")]
    name = f"{PREFIX}{ended.result['month']}-{run.id}"
    for alias in KEYS:
        assert [info.key for info in here_.store(alias).list(PREFIX)] == [f"{name}.{end}" for end in expected]
    assert reconcile.tell(here_) == 1
    assert reconcile.tell(here_) == 0
    (message,) = listener.messages
    assert message["title"] == f"pgfleet: report of {ended.result['month']}"
    assert f"near {name}.html" in message["message"]
    stored = {path.name: path.read_bytes() for path in (tmp_path / "near").glob(f"{PREFIX}*")}
    here_.gpg.verify_signature(stored[f"{name}.html"], stored[f"{name}.html.asc"])


def test_a_second_attempt_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one reached one destination; the report that is there is the one that goes to the other."""
    here_ = scene.adapters(tmp_path, PGFLEET_RETRY_BASE_SECONDS="0.01", PGFLEET_RETRY_MAX_SECONDS="0.01")
    (tmp_path / "far").write_text("no directory")
    now = datetime.now(NOW.tzinfo)
    run = scheduled(here_, "report", now, now + timedelta(days=32))
    assert perform(here_, run).open is False or here_.ledger.run(run.id).open
    (tmp_path / "far").unlink()
    (tmp_path / "far").mkdir()
    for _ in range(20):
        if not here_.ledger.run(run.id).open:
            break
        perform(here_, run)
    ended = here_.ledger.run(run.id)
    assert ended.state == "succeeded", ended.error
    near = sorted(path for path in (tmp_path / "near").glob(f"{PREFIX}*"))
    assert [path.suffix for path in near] == [".html", ".json", ".md"]
    if ended.result["stored"].keys() == set(KEYS):
        for path in near:
            assert (tmp_path / "far" / path.name).read_bytes() == path.read_bytes()


def test_a_digest_by_schedule(tmp_path: Path, listener: Listener) -> None:  # noqa: F811
    here_ = scene.adapters(
        tmp_path, PGFLEET_NOTIFY_URLS=f"json://{listener.address}/message", PGFLEET_DIGEST="daily"
    )
    backup = scene.back_up(here_, 5)
    scene.drill(here_, backup, "near")
    now = datetime.now(NOW.tzinfo)
    run = scheduled(here_, "digest", now, now + timedelta(days=1))
    begin, end = (datetime.fromisoformat(str(run.request[name])) for name in ("from", "until"))
    assert end - begin == timedelta(days=1)
    assert perform(here_, run).state == "succeeded"
    assert perform(here_, run).state == "succeeded"
    (message,) = listener.messages
    assert message["title"].startswith("pgfleet digest: ")
    assert "newest verified backup: 5 h" in message["message"]
    assert f"{backup}" in message["message"]
    assert reconcile.tell(here_) == 0, "it is no news that it was sent"


def test_a_digest_that_one_service_did_not_take(tmp_path: Path, listener: Listener) -> None:  # noqa: F811
    urls = f"json://{listener.address}/message json://{listener.address}/other"
    here_ = scene.adapters(
        tmp_path, PGFLEET_NOTIFY_URLS=urls, PGFLEET_DIGEST="weekly",
        PGFLEET_RETRY_BASE_SECONDS="0.01", PGFLEET_RETRY_MAX_SECONDS="0.01",
    )  # fmt: skip
    listener.refuse.add("/other")
    now = datetime.now(NOW.tzinfo)
    run = scheduled(here_, "digest", now, now + timedelta(days=7))
    assert perform(here_, run).open
    listener.refuse.clear()
    for _ in range(50):
        if not perform(here_, run).open:
            break
    assert here_.ledger.run(run.id).state == "succeeded"
    assert [one.path for one in listener.got] == ["/message", "/other"]


def test_without_a_digest(tmp_path: Path) -> None:
    here_ = scene.adapters(tmp_path)
    now = datetime.now(NOW.tzinfo)
    for at in (now, now + timedelta(days=40)):
        reconcile.schedule(here_, at)
    assert here_.ledger.runs(kind="digest") == []
    with pytest.raises(ConfigError, match="PGFLEET_NOTIFY_URLS"):
        scene.adapters(tmp_path, PGFLEET_DIGEST="daily")


def test_what_a_digest_says_of_trouble(tmp_path: Path) -> None:
    made = report(month_scene.a_month(tmp_path))
    title, body = digest.text(made, timedelta(days=30), NOW)
    assert title == "pgfleet digest: 4 to look at"
    assert "27 backups verified, 3 missing, 1 run failed, 2 of 2 drills proven" in body
    empty = scene.adapters(tmp_path / "none") if (tmp_path / "none").mkdir() is None else None
    assert empty is not None
    assert "no verified backup" in digest.text(report(empty), timedelta(days=1), NOW)[1]


__all__ = ["here", "make_due"]
