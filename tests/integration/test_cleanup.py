"""``pgfleet cleanup``, ``hold`` and ``release`` as they are typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.integration.prune_scene import Scene, add_backup, backups_in, days_ago, id_of, scene
from tests.services import wait_until
from worker import reconcile
from worker.config.model import Retention
from worker.core import plan_text
from worker.core.retention import Candidate, decide

Pgfleet = Callable[..., subprocess.CompletedProcess[str]]
OLD = [id_of(days_ago(age)) for age in range(200, 206) if days_ago(age).day != 1][:4]


@pytest.fixture
def near(tmp_path: Path) -> Scene:
    return scene(tmp_path)


@pytest.fixture
def pgfleet(near: Scene, tmp_path: Path) -> Pgfleet:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "worker", *arguments],
            env={**os.environ, "PGFLEET_CONFIG": str(tmp_path / "pgfleet.toml")},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    return call


def test_a_table_of_every_copy(near: Scene, pgfleet: Pgfleet) -> None:
    store = near.store("near")
    for backup in (OLD[0], OLD[1], id_of(days_ago(1))):
        add_backup(store, backup)
    shown = pgfleet("cleanup", "--dry-run", "--here")
    assert shown.returncode == 0, shown.stderr
    lines = {line.split()[1]: line for line in shown.stdout.splitlines() if line.startswith("near ")}
    assert " remove " in lines[OLD[0]]
    assert "No rule has kept this" in lines[OLD[0]]
    assert " keep " in lines[id_of(days_ago(1))]
    assert "near: 1 kept, 2 to remove, " in shown.stdout
    assert len(backups_in(store)) == 3
    done = pgfleet("cleanup", "--here")
    assert done.returncode == 0, done.stderr
    assert "near: 2 copies removed, " in done.stdout
    assert backups_in(store) == {id_of(days_ago(1))}


def test_json(near: Scene, pgfleet: Pgfleet) -> None:
    for backup in (OLD[0], id_of(days_ago(1))):
        add_backup(near.store("near"), backup)
    answer = json.loads(pgfleet("cleanup", "--here", "--json", "--database", "goimg").stdout)
    assert (answer["state"], answer["exit_code"], answer["kind"]) == ("succeeded", 0, "cleanup")
    assert [(row["backup_id"], row["keep"], row["rule"]) for row in answer["plan"]] == [
        (id_of(days_ago(1)), True, answer["plan"][0]["type"]),
        (OLD[0], False, "expired"),
    ]
    assert answer["result"]["destinations"]["near"]["removed"] == 1


def test_a_large_plan_asks_and_without_a_terminal_stops(near: Scene, pgfleet: Pgfleet) -> None:
    for backup in OLD:
        add_backup(near.store("near"), backup)
    stopped = pgfleet("cleanup", "--here")
    assert stopped.returncode == 1
    assert "would remove 3 of its 4 copies, more than 50%; nothing was removed" in stopped.stderr
    assert "--force" in stopped.stderr
    assert backups_in(near.store("near")) == set(OLD)
    assert pgfleet("cleanup", "--here", "--force").returncode == 0
    assert backups_in(near.store("near")) == {OLD[0]}


def test_exit_codes(near: Scene, pgfleet: Pgfleet) -> None:
    assert pgfleet("cleanup", "--here", "--database", "nobody").returncode == 3
    assert pgfleet("cleanup", "--here", "--destination", "nowhere").returncode == 3
    assert pgfleet("cleanup", "--her").returncode == 3
    assert pgfleet("cleanup", "--here").returncode == 0, "an empty directory is clean"
    path = near.adapters.settings.destinations["near"].path
    assert path is not None
    path.parent.chmod(0o755)
    shutil.rmtree(path.parent)
    gone = pgfleet("cleanup", "--here")
    assert gone.returncode == 1, "what a destination refuses is 1 here, as in the seed"
    assert "Mount the disk" in gone.stderr


def test_without_a_ledger_nothing_is_removed(near: Scene, pgfleet: Pgfleet, tmp_path: Path) -> None:
    for backup in OLD:
        add_backup(near.store("near"), backup)
    file = tmp_path / "pgfleet.toml"
    file.write_text(
        file.read_text().replace(f"sqlite:///{tmp_path}/ledger.db", "postgresql://127.0.0.1:1/none")
    )
    refused = pgfleet("cleanup", "--here", "--force")
    assert refused.returncode == 1
    assert backups_in(near.store("near")) == set(OLD)


def test_hold_and_release(near: Scene, pgfleet: Pgfleet) -> None:
    for backup in (OLD[0], OLD[1], id_of(days_ago(1))):
        add_backup(near.store("near"), backup)
    until = f"{datetime.now(UTC).date() + timedelta(days=30)}"
    held = pgfleet("hold", OLD[1], "--reason", "court case [b] [/42]", "--until", until)
    assert held.returncode == 0, held.stderr
    assert f"{OLD[1]} in near: held until" in held.stdout
    assert "held" in pgfleet("list").stdout
    plan = pgfleet("cleanup", "--here").stdout
    assert "court case [b] [/42]" in plan, "and not taken for markup"
    assert backups_in(near.store("near")) == {OLD[1], id_of(days_ago(1))}
    assert pgfleet("release", OLD[1]).returncode == 0
    assert pgfleet("cleanup", "--here").returncode == 0
    assert backups_in(near.store("near")) == {id_of(days_ago(1))}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["hold", OLD[3], "--reason", "x"], 1),
        (["release", OLD[3]], 1),
        (["hold", OLD[0]], 3),
        (["hold", OLD[0], "--reason", " "], 3),
        (["hold", OLD[0], "--reason", "x", "--until", "tomorrow"], 3),
        (["hold", OLD[0], "--reason", "x", "--until", "2020-01-01"], 3),
    ],
)
def test_holds_that_are_refused(near: Scene, pgfleet: Pgfleet, arguments: list[str], code: int) -> None:
    add_backup(near.store("near"), OLD[0])
    assert pgfleet(*arguments).returncode == code


def test_the_schedule_owes_cleanups(near: Scene) -> None:
    reconcile.schedule(near.adapters)
    reconcile.schedule(near.adapters, datetime.now(UTC) + timedelta(days=8))
    runs = {run.kind: run for run in near.adapters.ledger.runs()}
    assert runs["cleanup"].job == "cleanup:goimg"
    assert [step.name for step in near.adapters.ledger.steps(runs["cleanup"].id)] == [
        "cleanup.plan",
        "audit.record",
    ]


def test_the_cost_of_deleting_early_is_in_the_plan() -> None:
    copies = [Candidate("goimg-backup-20240105-020000", 7), Candidate("goimg-backup-20240905-020000", 7)]
    verdicts = decide(copies, Retention(), datetime(2024, 9, 6, tzinfo=UTC))
    rows = [plan_text.row("far", verdict, "GLACIER is charged for at least 90 days") for verdict in verdicts]
    assert [row["cost"] for row in rows] == [None, "GLACIER is charged for at least 90 days"]
    assert plan_text.totals(rows) == {"far": {"keep": 1, "remove": 1, "bytes": 7}}


def test_killed_for_real_and_started_again(near: Scene, tmp_path: Path) -> None:
    """kill -9 when the first manifest is gone; what is left is no backup, and the next cleanup finishes."""
    store = near.store("near")
    root = near.adapters.settings.destinations["near"].path
    assert root is not None
    recent = [id_of(days_ago(age)) for age in range(1, 8)]
    old = [id_of(days_ago(age)) for age in range(200, 300) if days_ago(age).day != 1]
    for backup in [*recent, *old]:
        add_backup(store, backup)
    command = [sys.executable, "-m", "worker", "cleanup", "--here", "--force"]
    env = {**os.environ, "PGFLEET_CONFIG": str(tmp_path / "pgfleet.toml")}
    running = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    count = len(recent) + len(old)
    assert wait_until(lambda: len(list(root.glob("*.manifest.json"))) < count, 30)
    running.kill()
    running.wait(10)
    assert len(list(root.glob("*.dump.gpg"))) > len(recent), "killed in the middle"
    again = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 0, again.stderr
    assert backups_in(store) == set(recent)
    assert {info.key.partition(".")[0] for info in store.list("goimg-")} == set(recent)


def test_show_and_list_say_what_is_not_there(pgfleet: Pgfleet, tmp_path: Path) -> None:
    two = scene(tmp_path, aliases=("near", "other"))
    for backup in OLD[:2]:
        add_backup(two.store("near"), backup)
    shown = pgfleet("show", "latest")
    assert shown.returncode == 0, shown.stderr
    first, second = shown.stdout.splitlines()[1:3]
    assert first.split()[0] == OLD[0]
    assert second.split()[:2] == ["other", "missing"]
    assert pgfleet("show", OLD[1], "--database", "nope").returncode == 3
    listed = pgfleet("list", "--database", "nope")
    assert "no database is called that here" in listed.stdout
