"""`pgfleet validate`: the whole cycle on a real server, its exit codes, and nothing left of it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.services import Database, KeyPair, wait_until
from worker.local.postgres import Postgres


@dataclass
class World:
    """The command, with settings of its own."""

    root: Path
    server: Postgres
    env: Mapping[str, str]

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "worker", "validate", "--rows", "200", *arguments],
            env={**os.environ, **self.env, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: str, **more: str) -> tuple[int, dict[str, Any]]:
        with self.start("--json", *arguments, **more) as child:
            out, err = child.communicate(timeout=120)
        assert out, err
        return child.returncode, json.loads(out.strip().splitlines()[-1])

    def litter(self) -> list[str]:
        """Test databases, and objects in the destination."""
        with self.server.connect() as connection:
            rows = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE 'pgfleet%'"
            ).fetchall()
        stored = [path.name for path in (self.root / "backups").glob("pgfleet*")]
        runs = self.root / "spool" / "runs"
        return [str(row[0]) for row in rows] + stored + (os.listdir(runs) if runs.exists() else [])


@pytest.fixture
def world(place: Path, pg: Postgres, database: Database, gpg_keys: KeyPair) -> Iterator[World]:
    root = place / f"validate-{secrets.token_hex(4)}"
    root.mkdir(mode=0o711)
    env = {
        **database.env,
        "BACKUP_DIR": str(root / "backups"),
        "GPG_RECIPIENT": gpg_keys.fingerprint,
        "GNUPGHOME": str(gpg_keys.home),
        "PGFLEET_STATE_DIR": str(root / "state"),
        "PGFLEET_SPOOL": str(root / "spool"),
        "PGFLEET_PG_BIN": str(pg.bin_dir),
        "PGFLEET_MAX_ATTEMPTS": "1",
    }
    made = World(root, pg, env)
    yield made
    assert made.litter() == []


def test_the_full_cycle(world: World) -> None:
    report = world.root / "report.md"
    code, said = world("--output-report", str(report))
    assert (code, said["verdict"], said["ok"]) == (0, "proven", True), said["error"]
    assert said["differences"] == []
    assert said["compared"]["tables"] == 7
    assert said["compared"]["rows"] > 400
    assert said["control"]["ok"]
    assert 0 < said["rto_seconds"] < said["rto_target_seconds"]
    assert [phase["name"] for phase in said["phases"]] == [
        "seed", "fingerprint", "backup", "disaster", "restore", "compare",
    ]  # fmt: skip
    assert report.read_text().startswith("# Validation of the full cycle")
    assert "| S9-PROD-003 | Database backups are encrypted | pass |" in report.read_text()


def test_two_at_once(world: World) -> None:
    """On one server, into one destination: neither takes the other's database or backup for litter."""
    both = [world.start("--json", PGFLEET_SPOOL=str(world.root / f"spool{number}")) for number in (1, 2)]
    for child in both:
        out, err = child.communicate(timeout=240)
        assert child.returncode == 0, err
        assert json.loads(out.strip().splitlines()[-1])["verdict"] == "proven"


def test_a_page_by_default(world: World) -> None:
    with world.start() as child:
        out, _ = child.communicate(timeout=120)
    assert child.returncode == 0
    (page,) = (world.root / "state" / "reports").iterdir()
    assert f"report: {page}" in out
    assert "the same as before" in page.read_text()


def test_configuration(world: World) -> None:
    assert world(GPG_RECIPIENT="", ALLOW_UNENCRYPTED="false")[0] in (3, 5)
    assert world("--database", "nothing")[1]["error"]["exit_code"] == 3
    nowhere = world("--output-report", "/proc/nowhere/report.html")[1]["error"]
    assert (nowhere["exit_code"], "/proc/nowhere" in nowhere["message"]) == (3, True)


def test_seed_fails(world: World) -> None:
    with world.server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS nobody_special")
        connection.execute("CREATE ROLE nobody_special LOGIN PASSWORD 'secret'")
    code, said = world(DB_USER="nobody_special", DB_PASSWORD="secret")
    with world.server.connect() as connection:
        connection.execute("DROP ROLE nobody_special")
    assert (code, said["error"]["exit_code"], said["verdict"]) == (4, 4, "could_not_run")


def test_backup_fails(world: World) -> None:
    (world.root / "backups").write_text("in the way")
    code, said = world()
    (world.root / "backups").unlink()
    assert code == 5, said["error"]


def test_restore_fails(world: World, other_gpg_keys: KeyPair, gpg_keys: KeyPair) -> None:
    """The public key alone encrypts, and nobody here can decrypt."""
    folder = world.root / "keys"
    folder.mkdir()
    (folder / "public.asc").write_bytes(gpg_keys.public_key.read_bytes())
    code, said = world(GNUPGHOME=str(other_gpg_keys.home), PGFLEET_GPG_KEYS_DIR=str(folder))
    assert code == 6, said["error"]
    assert [phase["name"] for phase in said["phases"]][-1] == "restore"


def test_slower_than_allowed(world: World) -> None:
    """A pg_restore that takes longer than the allowed second, however fast the machine is."""
    programs = world.root / "programs"
    programs.mkdir()
    for program in world.server.bin_dir.iterdir():
        (programs / program.name).symlink_to(program)
    slow = programs / "pg_restore"
    slow.unlink()
    slow.write_text(f'#!/bin/sh\nsleep 1.1\nexec "{world.server.bin_dir}/pg_restore" "$@"\n')
    slow.chmod(0o755)
    code, said = world(PGFLEET_RTO_SECONDS="1", PGFLEET_PG_BIN=str(programs))
    assert (code, said["verdict"]) == (8, "proven"), said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("phase", ["backup", "restore"])
def test_interrupted(world: World, number: signal.Signals, phase: str) -> None:
    with world.start() as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == f"· {phase}":
                child.send_signal(number)
                break
        said = child.communicate(timeout=120)
    assert child.returncode in (130, 128 + number), said


def test_what_a_killed_one_left_is_taken_away(world: World) -> None:
    with world.start() as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "· backup":
                child.kill()
                break
        child.communicate()
    assert any(name.startswith("pgfleet_validate_") for name in world.litter())
    assert wait_until(lambda: world()[0] == 0, 60)
    for path in (world.root / "spool" / "runs").iterdir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()


def test_a_role_that_may_create_databases_is_enough(world: World) -> None:
    role = f"owner_{secrets.token_hex(3)}"
    with world.server.connect() as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN CREATEDB PASSWORD 'secret'".encode())
    code, said = world(DB_USER=role, DB_PASSWORD="secret")
    with world.server.connect() as connection:
        connection.execute(f"DROP ROLE {role}".encode())
    assert (code, said["verdict"]) == (0, "proven"), said
    assert said["control"]["ok"]
