"""`pgfleet status` over real destinations and a real ledger: its answers, its exit code, what it tells to do."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.integration import monitoring_scene as scene
from tests.services import wait_until
from worker import reconcile
from worker.cli.status import _fitting
from worker.ledger.model import WorkerInfo
from worker.metrics.collector import samples
from worker.metrics.holdings import Holdings
from worker.metrics.readings import Readings
from worker.status import CRITICAL, OK, UNKNOWN, WARNING, Status, headline, status, verdict
from worker.steps.context import Adapters
from worker.storage import ObjectInfo
from worker.storage.directory import DirectoryStore


@pytest.fixture
def here(tmp_path: Path) -> Adapters:
    return scene.adapters(tmp_path)


def look(here: Adapters, **later: float) -> Status:
    readings = Readings(here.settings, max_age=60)
    readings.read(30)
    return status(readings, datetime.now(UTC) + timedelta(**later))


def told(found: Status) -> str:
    return "\n".join(problem.what for problem in found.problems)


def test_all_is_well(here: Adapters) -> None:
    backup = scene.back_up(here, 5)
    scene.drill(here, backup, "near", seconds=600)
    found = look(here)
    (one,) = found.databases
    assert (found.exit_code, found.problems) == (OK, [])
    assert (one.restorable, one.backup_id, one.proven_id) == (True, backup, backup)
    assert one.copies == {"near": "proven", "far": "verified"}
    assert one.restore_seconds == 600
    assert one.target_seconds == 1800
    assert one.next_at
    assert one.next_at > found.at


def test_nothing_is_there(here: Adapters) -> None:
    found = look(here)
    assert found.exit_code == CRITICAL
    assert found.databases[0].restorable is False
    (problem,) = found.problems
    assert problem.command == "pgfleet backup goimg"


def test_nobody_answers(here: Adapters) -> None:
    scene.back_up(here, 5)
    scene.lose(here, "near")
    scene.lose(here, "far")
    found = look(here)
    assert found.exit_code == UNKNOWN
    assert found.databases[0].restorable is None
    assert found.databases[0].copies == {"near": "down", "far": "down"}


def test_one_destination_is_down(here: Adapters) -> None:
    backup = scene.back_up(here, 5)
    scene.drill(here, backup, "near")
    scene.lose(here, "near")
    found = look(here)
    assert found.exit_code == WARNING
    assert found.databases[0].restorable is True
    assert found.databases[0].copies == {"near": "down", "far": "verified"}
    assert "near cannot be listed" in told(found)
    assert "proven" not in told(found), "the proof may be where nobody answers"


def test_too_old(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 29), "near")
    assert look(here).exit_code == OK
    found = look(here, hours=2)
    assert found.exit_code == CRITICAL
    assert "1 d 6 h are allowed" in told(found)
    since = found.problems[0].since
    assert since is not None
    assert timedelta(minutes=50) < found.at - since < timedelta(minutes=70)


def test_damaged_missing_refuted(here: Adapters) -> None:
    first = scene.back_up(here, 28)
    second = scene.back_up(here, 20, "near")
    third = scene.back_up(here, 5)
    scene.drill(here, first, "near")
    scene.damage(here, first, "far")
    scene.drill(here, third, "near", "refuted")
    found = look(here)
    assert found.exit_code == CRITICAL
    assert f"The copy of {first} in far is damaged." in told(found)
    assert f"A drill refuted {third} in near" in told(found)
    assert f"far lacks {second} of goimg" in told(found)
    assert [problem.severity for problem in found.problems] == ["critical", "critical", "warning"]


def test_what_a_drill_has_refuted_is_not_what_one_restores(here: Adapters) -> None:
    """The other copy has the same bytes, and restores to the same."""
    good, bad = scene.back_up(here, 28), scene.back_up(here, 5)
    scene.drill(here, bad, "near", "refuted")
    (one,) = look(here).databases
    assert (one.restorable, one.backup_id, one.backups) == (True, good, 1)
    assert one.copies == {"near": "verified", "far": "verified"}
    scene.drill(here, good, "far", "refuted")
    found = look(here)
    assert (found.databases[0].restorable, found.exit_code) == (False, CRITICAL)
    assert "Every backup of goimg is damaged, incomplete, or refuted by a drill." in told(found)
    scene.drill(here, bad, "far")
    (one,) = look(here).databases
    assert (one.restorable, one.backup_id, one.copies) == (True, bad, {"near": "refuted", "far": "proven"})


def test_only_to_an_old_state(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 29), "near")
    (one,) = look(here).databases
    assert (one.overdue, verdict(one)) == (False, "can be restored now")
    (one,) = look(here, hours=2).databases
    assert (one.overdue, verdict(one)) == (True, "can be restored, but only to an old state")
    assert headline(look(here, hours=2)) == "goimg can be restored, but only to an old state."


def test_a_destination_that_hangs_hides_no_other(here: Adapters, monkeypatch: pytest.MonkeyPatch) -> None:
    """A listing that never ends, as of a network disk whose server is gone; nothing raises an error there."""
    backup = scene.back_up(here, 5)
    scene.drill(here, backup, "near")
    let_go, listed = threading.Event(), DirectoryStore.list

    def slow(store: DirectoryStore, prefix: str = "") -> Iterator[ObjectInfo]:
        if store.root.name == "far":
            let_go.wait(30)
        return listed(store, prefix)

    monkeypatch.setattr(DirectoryStore, "list", slow)
    readings = Readings(here.settings, max_age=0, patience=0.5)
    readings.read(30)
    (one,) = status(readings).databases
    assert (one.restorable, one.copies) == (True, {"near": "proven", "far": "down"})
    assert "far cannot be listed: No answer from far within 0.5 s." in told(status(readings))
    let_go.set()
    assert wait_until(lambda: (readings.read(30), not status(readings).databases[0].down)[1], 30)


def test_a_disk_that_hangs_is_not_told_as_it_was_before(here: Adapters) -> None:
    """No error is raised then, and the last answer gets older and older."""
    scene.back_up(here, 5)
    hangs, answers = threading.Event(), threading.Event()
    readings = Readings(here.settings, max_age=60)
    readings.read(30)
    slow = readings.destinations
    held = slow.value
    assert held is not None

    def stuck() -> Holdings:
        hangs.set()
        answers.wait(30)
        return held

    slow._read, slow._due = stuck, 0.0
    readings.read(0)
    assert hangs.wait(30)
    assert status(readings).databases[0].restorable is True, "it may just be slow"
    slow._began -= 119
    readings.read(0)
    assert status(readings).databases[0].restorable is True
    slow._began -= 2
    readings.read(0)
    found = status(readings)
    assert (found.databases[0].restorable, found.exit_code) == (None, UNKNOWN)
    assert "No answer about the destinations for 2 min" in told(found)
    assert ("pgfleet_up", ("destinations", ""), 0) in list(samples(readings))
    answers.set()
    assert wait_until(lambda: slow.value is held, 30)
    assert status(readings).databases[0].restorable is True


def test_never_proven_or_long_ago(here: Adapters) -> None:
    backup = scene.back_up(here, 5)
    found = look(here)
    assert found.exit_code == WARNING
    assert found.problems[0].command == "pgfleet drill latest --database goimg"
    scene.drill(here, backup, "near")
    assert "older than 35 days" not in told(look(here, days=34))
    assert "older than 35 days" in told(look(here, days=36))


def test_slower_than_the_target(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 5), "near", seconds=2000)
    found = look(here)
    assert found.exit_code == WARNING
    assert "longer than its target of 30 min" in told(found)


def test_a_run_that_failed_and_one_at_work(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 5), "near")
    failed = scene.end(here, "failed")
    scene.end(here, "cancelled")
    going = scene.begin(here)
    found = look(here)
    assert f"pgfleet run show {failed.id}" in [problem.command for problem in found.problems]
    assert [run.id for run, _ in found.runs] == [going.id]


def test_workers_are_missed_only_where_there_is_a_fleet(here: Adapters) -> None:
    scene.drill(here, scene.back_up(here, 5), "near")
    assert look(here).exit_code == OK, "one machine, cron and --here"
    here.ledger.beat(WorkerInfo("w1", "h", ("dump", "control"), "abcd1234", "0", 0.0))
    reconcile.reconcile(here)
    found = look(here)
    assert "No worker takes queue verify or restore." in told(found)
    assert "reconcile" not in told(found)
    assert "reconcile does not run" in told(look(here, minutes=6))


def test_a_ledger_that_is_down(tmp_path: Path) -> None:
    scene.drill(scene.adapters(tmp_path), scene.back_up(scene.adapters(tmp_path), 5), "near")
    (tmp_path / "ledger.db").write_text("no database" * 200)
    found = look(scene.adapters(tmp_path))
    assert found.exit_code == WARNING
    assert found.databases[0].restorable is True
    assert "ledger" in told(found)


def pgfleet(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "worker", "status", *arguments],
        env={**scene.environment(directory), "PATH": os.defpath},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


class Terminal:
    """`pgfleet status` on a terminal of that width."""

    def __init__(self, env: dict[str, str], *arguments: str, width: int = 100) -> None:
        self._leader, follower = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker", "status", *arguments],
            env={**env, "PATH": os.defpath, "TERM": "xterm", "COLUMNS": str(width), "LINES": "40"},
            stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        )  # fmt: skip
        os.close(follower)
        self._told = b""

    def told(self) -> str:
        """All so far, without colours and without the blanks at the lines' ends."""
        while select.select([self._leader], [], [], 0.05)[0]:
            try:
                chunk = os.read(self._leader, 65536)
            except OSError:  # its end of the terminal is closed
                break
            self._told += chunk
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._told.decode(errors="replace"))
        return re.sub(r" *\r?\n", "\n", plain)

    def end(self) -> tuple[int, str]:
        """(exit code, what it said)."""
        assert wait_until(lambda: (self.told(), self.process.poll())[1] is not None, 60)
        told = self.told()
        os.close(self._leader)
        return self.process.returncode, told


def test_for_people_and_for_programs(tmp_path: Path) -> None:
    here = scene.adapters(tmp_path)
    backup = scene.back_up(here, 5)
    shown = pgfleet(tmp_path)
    assert shown.returncode == WARNING
    for words in (
        "1 thing needs attention",
        "can be restored now",
        backup,
        "never",
        "near verified",
        "1 thing to",
    ):
        assert words in shown.stdout
    assert "  Run a drill.\n  $ pgfleet drill latest --database goimg\n" in re.sub(
        r" +\n", "\n", shown.stdout
    )
    answer = pgfleet(tmp_path, "--json")
    found: dict[str, Any] = json.loads(answer.stdout)
    assert answer.returncode == found["exit_code"] == WARNING
    assert found["databases"][0]["backup_id"] == backup
    assert found["problems"][0]["command"] == "pgfleet drill latest --database goimg"


def test_on_a_narrow_screen_commands_stay_whole(tmp_path: Path) -> None:
    """What is folded cannot be copied."""
    here = scene.adapters(tmp_path)
    scene.drill(here, scene.back_up(here, 5), "near", "refuted")
    going = scene.begin(here)
    code, shown = Terminal(scene.environment(tmp_path), width=50).end()
    assert code == CRITICAL
    command = r"^  \$ pgfleet evidence list goimg-backup-\S+ --kind drill --json$"
    assert re.search(command, shown, re.MULTILINE), shown
    assert re.search(rf"^▸ backup of goimg  {going.id}  running for", shown, re.MULTILINE), shown
    assert re.search(r"^  dump +─+", shown, re.MULTILINE), shown


def test_many_databases_have_a_line_each(tmp_path: Path) -> None:
    more = "\n".join(f"[databases.d{number}]\nallow_unencrypted = true" for number in range(6))
    here = scene.adapters(tmp_path, database=more)
    scene.back_up(here, 5)
    code, shown = Terminal(scene.environment(tmp_path, database=more)).end()
    assert code == CRITICAL
    assert re.search(r"^✓ +goimg ", shown, re.MULTILINE), shown
    assert len(re.findall(r"^✗ {2,}d[0-9] ", shown, re.MULTILINE)) == 6
    assert "d0, d1, d2, d3, d4 and d5 cannot be restored." in shown


def test_watched_on_a_small_screen(tmp_path: Path) -> None:
    """It cannot be scrolled: what is critical has to be on it, and what is not on it is counted."""
    here = scene.adapters(tmp_path, database="[databases.other]\nallow_unencrypted = true")
    refuted = scene.back_up(here, 5)
    scene.back_up(here, 3)
    scene.drill(here, refuted, "near", "refuted")
    for _ in range(3):
        scene.begin(here)
    found = look(here)
    small, large = (Console(width=80, height=height, record=True, file=io.StringIO()) for height in (16, 60))
    small.print(_fitting(small, found), end="")
    large.print(_fitting(large, found), end="")
    shown = small.export_text().splitlines()
    assert len(shown) == 16
    assert [line for line in shown if f"A drill refuted {refuted} in near" in line]
    assert re.fullmatch(r"… \d+ more lines: pgfleet status", shown[-1])
    whole = large.export_text()
    assert "more lines" not in whole
    assert re.search(r"^  copies +● near verified", whole, re.MULTILINE)
    assert whole.index("things to look at") < whole.index("Running")


def test_watched(tmp_path: Path) -> None:
    """It stays on the screen, takes up what happens, and ends without a word at ctrl-C."""
    here = scene.adapters(tmp_path)
    watching = Terminal(scene.environment(tmp_path), "--watch")
    assert wait_until(lambda: "goimg cannot be restored." in watching.told(), 60)
    run = scene.begin(here)
    assert wait_until(lambda: run.id in watching.told(), 60)
    watching.process.send_signal(signal.SIGINT)
    code, told = watching.end()
    assert code in (130, -signal.SIGINT)
    assert "Traceback" not in told
