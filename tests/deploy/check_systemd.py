"""The units: what the repository shows is what is installed, systemd accepts it, little is exposed."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.deploy.engine import REPOSITORY, run
from worker.cli.install import rendered, systemd
from worker.errors import ConfigError

PGFLEET = (sys.executable, "-m", "worker")
PROGRAMS = Path("/opt/pgfleet/bin")
HIGHEST_EXPOSURE = 3.0


@pytest.fixture
def units(tmp_path: Path) -> Path:
    run(*PGFLEET, "install", "systemd", "--root", tmp_path, "--bin", PROGRAMS)
    return tmp_path


def test_the_repository_shows_what_is_installed() -> None:
    shown = {
        path.name: path.read_text() for path in (REPOSITORY / "systemd").iterdir() if path.name != "README.md"
    }
    made = {
        Path(file.path).name: file.content
        for file in rendered(PROGRAMS)
        if file.path.startswith("etc/systemd")
    }
    assert shown == made, "renew it: pgfleet install systemd --root DIR --bin /opt/pgfleet/bin"


def test_settings_that_are_there_are_kept(units: Path) -> None:
    settings = units / "etc/pgfleet/pgfleet.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    settings.write_text("DB_NAME=mine\n")
    run(*PGFLEET, "install", "systemd", "--root", units, "--bin", PROGRAMS)
    assert settings.read_text() == "DB_NAME=mine\n"


def test_roots_command_passes_words_on_and_refuses_others(units: Path) -> None:
    command = units / "usr/local/sbin/pgfleet"
    assert command.stat().st_mode & 0o777 == 0o755
    run("sh", "-n", command)
    refused = run(
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "sh",
        "-c",
        command.read_text(),
        "pgfleet",
        "list",
        ok=False,
    )
    assert refused.startswith("3 Error: Only root")
    assert "sudo pgfleet list" in refused


def test_programs_that_services_cannot_see_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/root/venv/bin/python")
    with pytest.raises(ConfigError, match="not allowed to see"):
        systemd.main(["--root", "/nowhere"], standalone_mode=False)


def test_systemd_accepts_them_and_little_is_exposed(units: Path) -> None:
    assert shutil.which("systemd-analyze"), "systemd-analyze is not here: Debian's package systemd has it"
    folder = units / "etc/systemd/system"
    for name in ("worker", "failed"):
        shutil.copy(folder / f"pgfleet-{name}@.service", folder / f"pgfleet-{name}@dump.service")
    services = sorted(folder.glob("*[!@].service"))
    assert run("systemd-analyze", "verify", "--man=no", *folder.glob("*.timer"), *services, ok=False) == "0 "
    for unit in services:
        told = run("systemd-analyze", "security", "--offline=true", unit, ok=False)
        level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
        assert level, told
        print(unit.name, level[1])
        assert float(level[1]) < HIGHEST_EXPOSURE


def test_the_times_are_those_that_were_promised(units: Path) -> None:
    folder = units / "etc/systemd/system"
    wanted = {
        "backup": ("2026-11-26 01:59:00 UTC", "Thu 2026-11-26 02:00:00"),
        "cleanup": ("2026-11-26 00:00:00 UTC", "Sun 2026-11-29 03:00:00"),
        "drill": ("2026-11-26 00:00:00 UTC", "Wed 2026-12-02 04:00:00"),
    }
    for name, (now, expected) in wanted.items():
        line = re.search("^OnCalendar=(.+)$", (folder / f"pgfleet-{name}.timer").read_text(), re.MULTILINE)
        assert line
        told = run("env", "TZ=UTC", "systemd-analyze", "calendar", f"--base-time={now}", line[1])
        assert expected in told, told
        assert f"pgfleet {name} --here" in (folder / f"pgfleet-{name}.service").read_text()


def test_an_open_unit_is_noticed(units: Path) -> None:
    unit = units / "etc/systemd/system/pgfleet-backup.service"
    lines = unit.read_text().splitlines(keepends=True)
    unit.write_text(
        "".join(
            line for line in lines if not line.startswith(("Protect", "Private", "SystemCall", "Restrict"))
        )
    )
    told = run("systemd-analyze", "security", "--offline=true", unit, ok=False)
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert level
    assert float(level[1]) > HIGHEST_EXPOSURE


def test_a_unit_with_a_mistake_is_noticed(units: Path) -> None:
    unit = units / "etc/systemd/system/pgfleet-backup.service"
    unit.write_text(unit.read_text().replace("Type=oneshot", "Type=one-shot"))
    assert "one-shot" in run("systemd-analyze", "verify", "--man=no", unit, ok=False)
