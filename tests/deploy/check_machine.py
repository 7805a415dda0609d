"""The units at work, in a machine with a real systemd: one host of a fleet, then one without a fleet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.deploy.engine import until
from tests.deploy.machine import BROKER_PASSWORD, FLOWER_PASSWORD, Machine

pytestmark = pytest.mark.timeout(1200)  # images are built, and a busy machine is slow
WORKER, VERIFIER = "pgfleet-worker@dump,control", "pgfleet-worker@verify"
SERVICES = (WORKER, VERIFIER, "pgfleet-beat", "pgfleet-exporter", "pgfleet-flower")
METRICS = "http://127.0.0.1:9769/metrics"
FLOWER = "http://127.0.0.1:5555/"
PGFLEET = "/usr/local/sbin/pgfleet"
_SOON = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/5\nRandomizedDelaySec=0\nAccuracySec=1\n"
LEDGER = "setpriv --reuid=pgfleet --regid=pgfleet --clear-groups psql -qAt -d pgfleet -c"


@pytest.fixture(scope="module")
def machine(image: None) -> Iterator[Machine]:
    made = Machine()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def fleet(machine: Machine) -> Machine:
    machine.sh(f"systemctl enable --now {' '.join(SERVICES)}")
    until(lambda: healthy(machine), 600, lambda: "\n".join(machine.journal(unit) for unit in SERVICES))
    return machine


def healthy(machine: Machine) -> bool:
    """Each by what it does: workers and beat have signed the ledger, the pages answer."""
    signed = machine.sh(f"{LEDGER} 'SELECT name FROM workers'", ok=False)
    return (
        all(machine.show(unit, "ActiveState") == "active" for unit in SERVICES)
        and all(name in signed for name in ("dump,control@", "verify@", "reconcile"))
        and machine.http(METRICS)[0] == 200
        and machine.http(FLOWER, f"pgfleet:{FLOWER_PASSWORD}")[0] == 200
    )


# --- a host of a fleet ---


def test_a_backup_goes_through_the_fleet(fleet: Machine) -> None:
    told = json.loads(fleet.sh(f"{PGFLEET} backup --json").strip().splitlines()[-1])
    assert told["state"] == "verified", told
    assert "pgfleet_" in fleet.http(METRICS)[1]


def test_roots_command_hands_words_and_codes_through(fleet: Machine) -> None:
    assert "dump,control@" in fleet.sh(f"{PGFLEET} doctor")
    for words in ("run show 'no $HOME %h'", "'no $HOME %h'"):
        told = fleet.sh(f"{PGFLEET} {words} 2>&1", ok=False)
        assert told.startswith("1 " if "run" in words else "3 ")
        assert "'no $HOME %h'" in told


def test_flower_asks_for_its_password(fleet: Machine) -> None:
    assert fleet.http(FLOWER)[0] == 401
    assert fleet.http(FLOWER, "pgfleet:wrong")[0] == 401


def test_secrets_are_seen_by_nobody_else(fleet: Machine) -> None:
    for word in (BROKER_PASSWORD, FLOWER_PASSWORD):
        for unit in SERVICES:
            assert word not in fleet.sh(
                f"systemctl show '{unit}'; systemctl cat '{unit}'; systemctl status '{unit}'"
            )
            assert word not in fleet.sh(f"tr '\\0' '\\n' </proc/{fleet.pid(unit)}/cmdline")
        assert word not in fleet.sh("journalctl --no-pager")
    for unit in (
        WORKER,
        VERIFIER,
        "pgfleet-beat",
        "pgfleet-exporter",
    ):  # Flower takes its login from there alone
        assert BROKER_PASSWORD not in fleet.sh(f"cat /proc/{fleet.pid(unit)}/environ")
    files = "/etc/pgfleet/secrets/* /etc/pgfleet/pgfleet.env /run/credentials/*/* /proc/[0-9]*/environ"
    looks = f"cat {files}; systemctl show '*'"
    seen = fleet.stranger(looks)
    assert "Permission denied" in seen
    assert BROKER_PASSWORD not in seen
    assert FLOWER_PASSWORD not in seen
    # The same look by somebody who may: it would have found them.
    found = fleet.sh(looks, ok=False)
    assert BROKER_PASSWORD in found
    assert FLOWER_PASSWORD in found


def test_a_role_gets_no_more_secrets_than_it_needs(fleet: Machine) -> None:
    listed = {
        unit: fleet.sh(f"ls /run/credentials/{unit}.service").split()
        for unit in ("pgfleet-beat", "pgfleet-flower")
    }
    assert listed == {
        "pgfleet-beat": ["secret_PGFLEET_BROKER_URL"],
        "pgfleet-flower": ["secret_PGFLEET_BROKER_URL", "secret_PGFLEET_FLOWER_PASSWORD"],
    }


@pytest.mark.parametrize("unit", SERVICES)
def test_a_killed_service_is_started_again(fleet: Machine, unit: str) -> None:
    before = fleet.pid(unit)
    fleet.sh(f"kill -KILL {before}")
    until(lambda: fleet.pid(unit) not in (0, before), 120, lambda: fleet.journal(unit))
    until(lambda: healthy(fleet), 300, lambda: fleet.journal(unit))


def test_a_wrong_setting_is_told_at_once_and_not_tried_again(fleet: Machine) -> None:
    fleet.sh(
        "echo S3_BUKET=typo >/etc/pgfleet/pgfleet-none.env; systemctl start pgfleet-worker@none", ok=False
    )
    until(
        lambda: fleet.show("pgfleet-worker@none", "ActiveState") == "failed",
        60,
        lambda: fleet.journal("pgfleet-worker@none"),
    )
    assert fleet.show("pgfleet-worker@none", "ExecMainStatus") == "3"
    assert fleet.show("pgfleet-worker@none", "NRestarts") == "0"
    assert "S3_BUCKET" in fleet.journal("pgfleet-worker@none")
    until(
        lambda: "pgfleet-worker@none.service failed on" in fleet.told(),
        60,
        lambda: fleet.journal("pgfleet-failed@*"),
    )


def test_a_worker_that_dumps_gives_its_step_back_when_it_is_stopped(fleet: Machine) -> None:
    """An upgrade need not wait for the end of a dump: here one that a lock holds up for a minute, were it let."""
    locks = "psql -qd shop -c 'BEGIN; LOCK TABLE t; SELECT pg_sleep(300)'"
    fleet.sh(
        f"systemd-run --quiet --unit=lock setpriv --reuid=pgfleet --regid=pgfleet --clear-groups {locks}"
    )
    try:
        run = json.loads(fleet.sh(f"{PGFLEET} backup --no-wait --json").strip().splitlines()[-1])["run_id"]
        dump = f"SELECT state FROM steps WHERE run_id = '{run}' AND name = 'backup.dump'"
        until(lambda: fleet.sh(f'{LEDGER} "{dump}"').strip() == "running", 60, "the dump did not begin")
        began = time.monotonic()
        fleet.sh(f"systemctl stop '{WORKER}'")
        assert time.monotonic() - began < 45
        assert fleet.show(WORKER, "Result") == "success", fleet.journal(WORKER)
        assert fleet.sh(f'{LEDGER} "{dump}"').strip() == "due"
    finally:
        # The server does not look whether psql is still there.
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'"
        fleet.sh(f"{LEDGER} \"{end}\"; systemctl start '{WORKER}'")
    ended = f"SELECT state FROM runs WHERE id = '{run}'"
    until(lambda: fleet.sh(f'{LEDGER} "{ended}"').strip() == "verified", 180, lambda: fleet.journal(WORKER))


def test_a_stop_is_a_goodbye(fleet: Machine) -> None:
    """So an upgrade need not wait. It stops the fleet."""
    fleet.sh(f"systemctl disable --now {' '.join(SERVICES)}")
    for unit in SERVICES:
        assert fleet.show(unit, "Result") == "success", fleet.journal(unit)
    alive = "SELECT name FROM workers WHERE stopped_at IS NULL AND name LIKE '%@%' AND name NOT LIKE 'none@%'"
    assert fleet.sh(f'{LEDGER} "{alive}"').strip() == ""


# --- one machine, no fleet ---


@pytest.fixture
def soon(machine: Machine, request: pytest.FixtureRequest) -> Iterator[str]:
    """That timer fires every five seconds."""
    name = str(request.param)
    folder = f"/etc/systemd/system/pgfleet-{name}.timer.d"
    machine.sh(f"mkdir -p {folder}; cat >{folder}/soon.conf <<'E'\n{_SOON}E\nsystemctl daemon-reload")
    machine.sh(f"rm -f /tmp/told; systemctl start pgfleet-{name}.timer")
    yield name
    machine.sh(f"systemctl stop pgfleet-{name}.timer")
    until(
        lambda: machine.show(f"pgfleet-{name}.service", "ActiveState") != "activating",
        120,
        f"pgfleet-{name} goes on",
    )
    machine.sh(f"rm -r {folder}; systemctl daemon-reload; systemctl reset-failed")


@pytest.mark.parametrize("soon", ["backup", "cleanup", "drill"], indirect=True)
def test_the_timer_fires_and_its_service_does_its_work(machine: Machine, soon: str) -> None:
    """The drill with a throwaway server of its own, under the system call filter."""
    unit = f"pgfleet-{soon}"
    until(
        lambda: machine.show(f"{unit}.service", "ActiveState") == "activating",
        60,
        f"{unit}.timer does not fire",
    )
    assert machine.show(f"{unit}.service", "TriggeredBy") == f"{unit}.timer"
    machine.sh(f"systemctl stop {unit}.timer")  # it would begin again at once
    until(lambda: machine.ended(unit), 600, lambda: machine.journal(unit))
    assert machine.ended(unit) == "success", machine.journal(unit)
    newest = f"kind = '{soon}' AND requested_by LIKE 'pgfleet@%' ORDER BY created_at DESC LIMIT 1"
    state = machine.sh(f'{LEDGER} "SELECT state FROM runs WHERE {newest}"').strip()
    assert state == {"backup": "verified", "cleanup": "succeeded", "drill": "proven"}[soon]
    assert machine.sh("stat -c %U:%a /var/backups/postgres").strip() == "pgfleet:750"
    assert machine.sh("ls /var/backups/postgres/*.manifest.json")


def test_a_failure_is_told(machine: Machine) -> None:
    machine.sh("rm -f /tmp/told; echo DB_NAME=none >/etc/pgfleet/pgfleet-backup.env")
    try:
        assert machine.sh("systemctl start pgfleet-backup.service", ok=False).startswith("1 ")
        until(
            lambda: "pgfleet-backup.service failed on" in machine.told(),
            120,
            lambda: machine.journal("pgfleet-failed@*"),
        )
    finally:
        machine.sh("rm /etc/pgfleet/pgfleet-backup.env")
    assert machine.ended("pgfleet-backup") == "failure"


def test_a_secret_in_two_places_is_a_contradiction(machine: Machine) -> None:
    machine.sh(
        "echo DB_PASSWORD=one >/etc/pgfleet/pgfleet-backup.env; echo two >/etc/pgfleet/secrets/DB_PASSWORD"
    )
    try:
        machine.sh("systemctl start pgfleet-backup.service", ok=False)
        assert machine.show("pgfleet-backup.service", "ExecMainStatus") == "3"
    finally:
        machine.sh("rm /etc/pgfleet/pgfleet-backup.env /etc/pgfleet/secrets/DB_PASSWORD")
