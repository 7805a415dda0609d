"""The alerts: valid, documented, made of metrics that exist, and each fires when it should and not before."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from worker.metrics.names import BY_NAME

ROOT = Path(__file__).parents[2]
RULES = ROOT / "compose" / "prometheus" / "alerts.yml"
WANTED = {
    "BackupTooOld", "BackupSizeAnomalous", "BackupFailed", "NotProven", "RtoAtRisk", "CopyMissing", "CopyDamaged",
    "KeyExpiresSoon", "SpoolFull", "QueueStuck", "NoWorkers", "BeatSilent", "ScrubBehind", "ReconcileBusy",
}  # fmt: skip
HOUR, DAY = 3_600, 86_400
COPY = '{database="shop", destination="s3"}'


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_promtool_accepts_them() -> None:
    done = promtool("check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_are_there() -> None:
    names = [rule["alert"] for rule in rules()]
    assert set(names) >= WANTED
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_says_what_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"warning", "critical"}
    notes = rule["annotations"]
    assert notes["summary"]
    assert notes["description"]
    page, _, anchor = notes["runbook_url"].partition("#")
    headings = re.findall(r"^## (.+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_each_asks_for_metrics_that_exist(rule: dict[str, Any]) -> None:
    asked = set(re.findall(r"\b(?:pgfleet|postgres_backup)_[a-z_]+", rule["expr"]))
    assert asked
    assert asked <= BY_NAME.keys()


class Case(NamedTuple):
    """series → values in promtool's notation, one a minute; asked at `at`; how many alerts fire then.

    The test's clock begins at 0: what happened before has a negative time stamp.
    """

    alert: str
    series: dict[str, str]
    at: str
    firing: int


MAX_AGE = {'pgfleet_backup_max_age_seconds{database="shop"}': "108000x90"}
LAST = f"postgres_backup_last_success_timestamp{COPY}"
SIZE = f"postgres_backup_size_bytes{COPY}"
FAILED = 'pgfleet_run_last_failed{kind="backup", database="shop"}'
PROVEN = f"pgfleet_last_proven_timestamp_seconds{COPY}"
ELSEWHERE = PROVEN.replace("s3", "local")
READABLE = f"pgfleet_copies_readable{COPY}"
READABLE_ELSEWHERE = READABLE.replace("s3", "local")
RTO = f"pgfleet_rto_seconds{COPY}"
TARGET = {'pgfleet_rto_target_seconds{database="shop"}': "1800x10"}
MISSING = f"pgfleet_copies_missing{COPY}"
DAMAGED = f"pgfleet_copies_damaged{COPY}"
REFUTED = f"pgfleet_copies_refuted{COPY}"
REREAD = f"pgfleet_reread_ratio{COPY}"
KEY = 'pgfleet_key_expiry_timestamp_seconds{database="shop", key="ABCD"}'
SPOOL = {"pgfleet_spool_size_bytes": "1000x60"}
OLD_STEP = 'pgfleet_queue_oldest_seconds{queue="dump"}'
WORKERS = 'pgfleet_workers{queue="dump"}'
TICK = "pgfleet_reconcile_last_timestamp_seconds"
UP = 'pgfleet_up{part="destination", name="s3"}'
CASES = (
    Case("BackupTooOld", {LAST: f"{-31 * HOUR}x30", **MAX_AGE}, "15m", 1),
    Case("BackupTooOld", {LAST: f"{-31 * HOUR}x30", **MAX_AGE}, "5m", 0),
    Case("BackupTooOld", {LAST: f"{-29 * HOUR}x30", **MAX_AGE}, "15m", 0),
    Case("BackupTooOld", {LAST: f"{-31 * HOUR}x20 _x70", READABLE: "1x20 0x70", **MAX_AGE}, "60m", 1),
    Case("BackupTooOld", {LAST: f"{-29 * HOUR}x20 _x70", READABLE: "1x20 0x70", **MAX_AGE}, "50m", 0),
    Case("BackupTooOld", {LAST: f"{-31 * HOUR}x20 _x70", READABLE: "1x20 _x70", **MAX_AGE}, "60m", 0),
    Case("BackupsUnknown", {READABLE: "0x30"}, "20m", 1),
    Case("BackupsUnknown", {READABLE: "0x10 1x20"}, "20m", 0),
    Case("BackupsUnknown", {READABLE: "0x30", READABLE_ELSEWHERE: "0x30"}, "20m", 1),
    Case("BackupsUnknown", {READABLE: "0x30", READABLE_ELSEWHERE: "1x30"}, "20m", 0),
    Case("BackupSizeAnomalous", {SIZE: "100x60 300x20"}, "75m", 1),
    Case("BackupSizeAnomalous", {SIZE: "100x60 20x20"}, "75m", 1),
    Case("BackupSizeAnomalous", {SIZE: "100x60 140x20"}, "75m", 0),
    Case("BackupFailed", {FAILED: "1x10"}, "5m", 1),
    Case("BackupFailed", {FAILED: "1x4 0x6"}, "8m", 0),
    Case("BackupFailed", {FAILED.replace("backup", "cleanup"): "1x10"}, "5m", 0),
    Case("NotProven", {PROVEN: f"{-36 * DAY}x70"}, "65m", 1),
    Case("NotProven", {PROVEN: f"{-34 * DAY}x70"}, "65m", 0),
    Case("NotProven", {PROVEN: f"{-36 * DAY}x70", ELSEWHERE: f"{-20 * DAY}x70"}, "65m", 0),
    Case(
        "NotProven",
        {PROVEN: f"{-20 * DAY}x5 _x90", ELSEWHERE: f"{-40 * DAY}x95", READABLE: "1x5 0x90", READABLE_ELSEWHERE: "1x95"},
        "90m",
        0,
    ),
    Case(
        "NotProven",
        {PROVEN: f"{-36 * DAY}x95", ELSEWHERE: f"{-40 * DAY}x95", READABLE: "1x95", READABLE_ELSEWHERE: "1x95"},
        "90m",
        1,
    ),
    Case("CopyRefuted", {REFUTED: "1x10"}, "5m", 1),
    Case("CopyRefuted", {REFUTED: "0x10"}, "5m", 0),
    Case("RtoAtRisk", {RTO: "1500x10", **TARGET}, "5m", 1),
    Case("RtoAtRisk", {RTO: "1400x10", **TARGET}, "5m", 0),
    Case("RtoAtRisk", {RTO: "1500x10", RTO.replace("s3", "local"): "300x10", **TARGET}, "5m", 1),
    Case("CopyMissing", {MISSING: "2x70"}, "65m", 1),
    Case("CopyMissing", {MISSING: "2x70"}, "50m", 0),
    Case("CopyMissing", {MISSING: "0x70"}, "65m", 0),
    Case("CopyDamaged", {DAMAGED: "1x10"}, "5m", 1),
    Case("CopyDamaged", {DAMAGED: "0x10"}, "5m", 0),
    Case("ScrubBehind", {REREAD: "0.8x800"}, "13h", 1),
    Case("ScrubBehind", {REREAD: "0.8x800"}, "11h", 0),
    Case("ScrubBehind", {REREAD: "0.95x800"}, "13h", 0),
    Case("KeyExpiresSoon", {KEY: f"{29 * DAY}x10"}, "5m", 1),
    Case("KeyExpiresSoon", {KEY: f"{31 * DAY}x10"}, "5m", 0),
    Case("PartUnreadable", {UP: "0x30"}, "20m", 1),
    Case("PartUnreadable", {UP: "0x10 1x20"}, "20m", 0),
    Case("PartUnreadable", {'pgfleet_up{part="broker", name=""}': "0x30"}, "20m", 0),
    Case("ExporterSilent", {}, "15m", 1),
    Case("ExporterSilent", {'pgfleet_build_info{version="1"}': "1x20"}, "15m", 0),
    Case("SpoolFull", {"pgfleet_spool_free_bytes": "50x60", **SPOOL}, "20m", 1),
    Case("SpoolFull", {"pgfleet_spool_free_bytes": "150x60", **SPOOL}, "20m", 0),
    Case("QueueStuck", {OLD_STEP: "1000x20"}, "10m", 1),
    Case("QueueStuck", {OLD_STEP: "800x20"}, "10m", 0),
    Case("NoWorkers", {WORKERS: "0x20"}, "10m", 1),
    Case("NoWorkers", {WORKERS: "1x20"}, "10m", 0),
    Case("NoWorkers", {'pgfleet_workers{queue="spool.ab12"}': "0x20"}, "10m", 0),
    Case("BeatSilent", {TICK: "0x30"}, "15m", 1),
    Case("BeatSilent", {TICK: "0+60x30"}, "15m", 0),
    Case("BeatSilent", {}, "10m", 1),
    Case("ReconcileBusy", {"pgfleet_steps_resent": "200x60"}, "40m", 1),
    Case("ReconcileBusy", {"pgfleet_steps_resent": "200x20 0x40"}, "40m", 0),
)  # fmt: skip


def test_each_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    groups = [
        {
            "name": f"{number}: {case.alert} {case.firing} at {case.at}",
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}})',
                    "eval_time": case.at,
                    "exp_samples": [{"labels": "{}", "value": case.firing}] if case.firing else [],
                }
            ],
        }
        for number, case in enumerate(CASES)
    ]
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": groups}))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("alert", "series", "ago", "said"),
    [
        ("BackupTooOld", {LAST: "{}x90", **MAX_AGE}, 31 * HOUR, "The newest verified backup is 1d 8h"),
        (
            "BackupTooOld",
            {LAST: "{}x90", **MAX_AGE},
            1_790_000_000,
            "No verified backup is there. By the schedule",
        ),
        (
            "NotProven",
            {PROVEN: "{}x90"},
            36 * DAY,
            "The last drill that proved a backup that is still there was 36d",
        ),
        ("NotProven", {PROVEN: "{}x90"}, 1_790_000_000, "No drill has proved any backup that is there."),
    ],
)
def test_never_is_not_told_as_decades_ago(
    tmp_path: Path, alert: str, series: dict[str, str], ago: int, said: str
) -> None:
    """`0` is said for never; how long that is ago is no news. What promtool says of a wish that is not met is read."""
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": text.format(-ago)} for name, text in series.items()],
        "alert_rule_test": [{"eval_time": "61m", "alertname": alert, "exp_alerts": []}],
    }
    file = tmp_path / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = promtool("test", "rules", str(file))
    assert said in " ".join((done.stdout + done.stderr).split())


def test_no_alert_was_forgotten() -> None:
    for firing in (True, False):
        assert {rule["alert"] for rule in rules()} == {
            case.alert for case in CASES if bool(case.firing) == firing
        }
