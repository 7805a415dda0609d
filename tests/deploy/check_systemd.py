"""The units: what the repository shows is what is installed, systemd accepts it, little is exposed, timers fire."""

from __future__ import annotations

import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engine import REPOSITORY, docker, run, until
from worker.cli.install import rendered, systemd
from worker.errors import ConfigError

PGFLEET = (sys.executable, "-m", "worker")
PROGRAMS = Path("/opt/pgfleet/bin")
HIGHEST_EXPOSURE = 3.0
MACHINE = "pgfleet-test/systemd"
_SETTINGS = """\
DB_HOST=/var/run/postgresql
DB_NAME=shop
DB_USER=pgfleet
GPG_RECIPIENT=machine@pgfleet.example
PGFLEET_GPG_KEYS_DIR=/etc/pgfleet/keys
BACKUP_DIR=/var/backups/postgres
"""


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


def test_a_unit_with_a_mistake_is_noticed(units: Path) -> None:
    unit = units / "etc/systemd/system/pgfleet-backup.service"
    unit.write_text(unit.read_text().replace("Type=oneshot", "Type=one-shot"))
    assert "one-shot" in run("systemd-analyze", "verify", "--man=no", unit, ok=False)


_DATABASE = 'createuser --superuser pgfleet; createdb -O pgfleet shop; psql -qd shop -c "CREATE TABLE t AS TABLE pg_am"'
_SOON = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/5\nRandomizedDelaySec=0\nAccuracySec=1\n"


class Machine:
    def __init__(self) -> None:
        self.name = f"pgfleet-test-{secrets.token_hex(3)}"
        # systemd needs its cgroups and mounts; this is the one privileged container here.
        docker("run", "--detach", "--privileged", "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
               "--tmpfs=/run", "--tmpfs=/tmp", "--name", self.name, MACHINE)  # fmt: skip

    def sh(self, script: str, ok: bool = True) -> str:
        return docker("exec", self.name, "bash", "-euo", "pipefail", "-c", script, ok=ok)

    def is_up(self) -> bool:
        return (
            "starting" not in (state := self.sh("systemctl is-system-running", ok=False))
            and "offline" not in state
        )

    def journal(self, unit: str) -> str:
        return self.sh(f"journalctl --no-pager --lines=60 --output=cat --unit='{unit}'")

    def succeeded(self, unit: str) -> bool:
        """It has run, and to a good end."""
        told = self.sh(f"systemctl show --property=Result,ExecMainExitTimestampMonotonic {unit}.service")
        return "Result=success" in told and "ExecMainExitTimestampMonotonic=0\n" not in told

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name, ok=False)


@pytest.fixture(scope="module")
def machine(image: None) -> Iterator[Machine]:
    docker("build", "--quiet", "--tag", MACHINE, REPOSITORY / "tests/deploy/images/systemd")
    machine = Machine()
    try:
        until(machine.is_up, 60, "systemd did not start")
        machine.sh("pgfleet install systemd")
        machine.sh(
            "chmod 0755 /etc/pgfleet; rm -rf /var/lib/pgfleet /var/spool/pgfleet /var/backups/postgres"
        )
        machine.sh("systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload")
        machine.sh(f"cat >/etc/pgfleet/pgfleet.env <<'E'\n{_SETTINGS}E")
        machine.sh(
            "export GNUPGHOME=/root/gnupg; mkdir -m 700 $GNUPGHOME; gpg --batch --quiet --pinentry-mode loopback "
            "--passphrase '' --quick-generate-key machine@pgfleet.example default default 1y; "
            "gpg --batch --armor --export >/etc/pgfleet/keys/machine.asc; gpgconf --kill all"
        )
        machine.sh(
            "systemctl start postgresql; for i in $(seq 50); do pg_isready -q && break; sleep .2; done"
        )
        machine.sh(f"setpriv --reuid=postgres --regid=postgres --clear-groups bash -c '{_DATABASE}'")
        yield machine
    finally:
        machine.remove()


def test_the_timers_fire_and_back_up(machine: Machine) -> None:
    for name in ("backup", "cleanup"):
        folder = f"/etc/systemd/system/pgfleet-{name}.timer.d"
        machine.sh(f"mkdir -p {folder}; cat >{folder}/soon.conf <<'E'\n{_SOON}E")
    machine.sh("systemctl daemon-reload; systemctl start pgfleet-backup.timer")
    manifests = "ls /var/backups/postgres/*.manifest.json"
    until(
        lambda: machine.sh(manifests, ok=False).startswith("0 "),
        120,
        lambda: machine.journal("pgfleet-backup"),
    )
    machine.sh("systemctl stop pgfleet-backup.timer; systemctl start pgfleet-cleanup.timer")
    until(lambda: machine.succeeded("pgfleet-cleanup"), 90, lambda: machine.journal("pgfleet-cleanup"))
    machine.sh("systemctl stop pgfleet-cleanup.timer")
    assert machine.sh("stat -c %U:%a /var/backups/postgres").strip() == "pgfleet:750"


def test_a_drill_in_its_sandbox_proves_the_backup(machine: Machine) -> None:
    """With a throwaway server of its own, under the system call filter."""
    machine.sh("systemctl start pgfleet-backup.service")
    private = "/etc/pgfleet/private-keys"
    machine.sh(
        f"install -d -m 0700 -o pgfleet {private}; export GNUPGHOME=/root/gnupg; gpg --batch --armor "
        f"--export-secret-keys >{private}/machine.asc; gpgconf --kill all; chown pgfleet {private}/machine.asc; "
        f"echo PGFLEET_GPG_PRIVATE_KEYS_DIR={private} >/etc/pgfleet/pgfleet-drill.env"
    )
    assert machine.sh("systemctl start pgfleet-drill.service", ok=False) == "0 ", machine.journal(
        "pgfleet-drill"
    )


def test_a_failure_is_told(machine: Machine) -> None:
    machine.sh(
        "echo wrong >/etc/pgfleet/secrets/DB_PASSWORD; echo DB_NAME=none >/etc/pgfleet/pgfleet-backup.env"
    )
    assert machine.sh("systemctl start pgfleet-backup.service", ok=False).startswith("1 ")
    failed = "pgfleet-failed@*"
    until(
        lambda: "pgfleet-backup.service failed on" in machine.journal(failed),
        20,
        lambda: machine.journal(failed),
    )
