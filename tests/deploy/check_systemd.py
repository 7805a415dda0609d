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
from worker.cli.install import rendered

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
    shown = {path.name: path.read_text() for path in (REPOSITORY / "systemd").iterdir() if path.name != "README.md"}
    made = {Path(file.path).name: file.content for file in rendered(PROGRAMS) if file.path.startswith("etc/systemd")}
    assert shown == made, "renew it: pgfleet install systemd --root DIR --bin /opt/pgfleet/bin"


def test_settings_that_are_there_are_kept(units: Path) -> None:
    settings = units / "etc/pgfleet/pgfleet.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    settings.write_text("DB_NAME=mine\n")
    run(*PGFLEET, "install", "systemd", "--root", units, "--bin", PROGRAMS)
    assert settings.read_text() == "DB_NAME=mine\n"


def test_systemd_accepts_them_and_little_is_exposed(units: Path) -> None:
    assert shutil.which("systemd-analyze"), "systemd-analyze is not here: Debian's package systemd has it"
    folder = units / "etc/systemd/system"
    for name in ("worker", "failed"):
        shutil.copy(folder / f"pgfleet-{name}@.service", folder / f"pgfleet-{name}@dump.service")
    said = run("systemd-analyze", "verify", "--man=no", *folder.glob("*.timer"), *folder.glob("*[!@].service"), ok=False)
    assert said == "0 "
    for unit in folder.glob("*[!@].service"):
        told = run("systemd-analyze", "security", "--offline=true", unit, ok=False)
        level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
        assert level, told
        print(unit.name, level[1])
        assert float(level[1]) < HIGHEST_EXPOSURE


def test_a_unit_with_a_mistake_is_noticed(units: Path) -> None:
    unit = units / "etc/systemd/system/pgfleet-backup.service"
    unit.write_text(unit.read_text().replace("Type=oneshot", "Type=one-shot"))
    assert "one-shot" in run("systemd-analyze", "verify", "--man=no", unit, ok=False)


class Machine:
    def __init__(self) -> None:
        self.name = f"pgfleet-test-{secrets.token_hex(3)}"
        # systemd needs its cgroups and mounts; this is the one privileged container here.
        docker("run", "--detach", "--privileged", "--cgroupns=host", "--volume=/sys/fs/cgroup:/sys/fs/cgroup:rw",
               "--tmpfs=/run", "--tmpfs=/tmp", "--name", self.name, MACHINE)  # fmt: skip

    def sh(self, script: str, ok: bool = True) -> str:
        return docker("exec", self.name, "bash", "-euo", "pipefail", "-c", script, ok=ok)

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.name, ok=False)


@pytest.fixture(scope="module")
def machine(image: None) -> Iterator[Machine]:
    docker("build", "--quiet", "--tag", MACHINE, REPOSITORY / "tests/deploy/images/systemd")
    machine = Machine()
    try:
        until(lambda: machine.sh("systemctl is-system-running", ok=False).split()[1:2] in (["running"], ["degraded"]), 60,
              "systemd did not start")  # fmt: skip
        machine.sh("pgfleet install systemd")
        machine.sh("chmod 0755 /etc/pgfleet; rm -rf /var/lib/pgfleet /var/spool/pgfleet /var/backups/postgres")
        machine.sh("systemd-sysusers; systemd-tmpfiles --create; systemctl daemon-reload")
        machine.sh(f"cat >/etc/pgfleet/pgfleet.env <<'E'\n{_SETTINGS}E")
        machine.sh(
            "export GNUPGHOME=/root/gnupg; mkdir -m 700 $GNUPGHOME; gpg --batch --quiet --pinentry-mode loopback "
            "--passphrase '' --quick-generate-key machine@pgfleet.example default default 1y; "
            "gpg --batch --armor --export >/etc/pgfleet/keys/machine.asc; gpgconf --kill all"
        )
        machine.sh("systemctl start postgresql; for i in $(seq 50); do pg_isready -q && break; sleep .2; done")
        machine.sh("setpriv --reuid=postgres --regid=postgres --clear-groups bash -c '"
                   'createuser --superuser pgfleet; createdb -O pgfleet shop; psql -qd shop -c "CREATE TABLE t AS SELECT 1 AS a"'
                   "'")  # fmt: skip
        yield machine
    finally:
        machine.remove()


def test_the_timers_fire_and_back_up(machine: Machine) -> None:
    for name in ("backup", "cleanup"):
        machine.sh(
            f"mkdir -p /etc/systemd/system/pgfleet-{name}.timer.d; printf '[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/5\\n"
            f"RandomizedDelaySec=0\\nAccuracySec=1\\n' >/etc/systemd/system/pgfleet-{name}.timer.d/soon.conf"
        )
    machine.sh("systemctl daemon-reload; systemctl start pgfleet-backup.timer")
    until(lambda: machine.sh("ls /var/backups/postgres/*.manifest.json", ok=False).startswith("0 "), 120,
          machine.sh("journalctl --no-pager -n 40 -u pgfleet-backup", ok=False))  # fmt: skip
    machine.sh("systemctl stop pgfleet-backup.timer; systemctl start pgfleet-cleanup.timer")
    finished = "systemctl show -P ExecMainExitTimestampMonotonic -P Result pgfleet-cleanup.service"
    until(lambda: machine.sh(finished).split()[-1] != "0" or machine.sh(finished).split()[0] != "0", 60, "no cleanup")
    assert "success" in machine.sh(finished)
    assert machine.sh("stat -c %U:%a /var/backups/postgres").strip() == "pgfleet:750"


def test_a_failure_is_told(machine: Machine) -> None:
    machine.sh("echo wrong >/etc/pgfleet/secrets/DB_PASSWORD; echo DB_NAME=nothing >/etc/pgfleet/pgfleet-backup.env")
    assert machine.sh("systemctl start pgfleet-backup.service", ok=False).startswith("1 ")
    told = "journalctl --no-pager -o cat -u 'pgfleet-failed@*'"
    until(lambda: "pgfleet-backup.service failed on" in machine.sh(told, ok=False), 20, machine.sh(told, ok=False))
