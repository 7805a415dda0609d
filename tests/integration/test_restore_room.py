"""Disks that run full while a restore is at work, tablespaces that the target lacks, and where `fetch` delivers to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Literal

from tests.conftest import PostgresOf
from tests.restore_scene import Scene, connect, content_of, libpq, tables
from tests.services import KeyPair
from worker import here
from worker.ledger.model import Run
from worker.local.postgres import Postgres
from worker.local.user import server_user
from worker.owner import me
from worker.process import run as start
from worker.spool import Spool
from worker.submit import restore_locally

ROWS = 6000  # of 2 KB that do not compress
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


@pytest.fixture
def scene(pg: Postgres, tmp_path: Path, gpg_keys: KeyPair) -> Iterator[Scene]:
    scene = Scene(tmp_path, pg, pg, "roomy", gpg_keys)
    pg.createdb("roomy", template="template0")
    random = "(SELECT string_agg(md5(random()::text || i || g), '') FROM generate_series(1, 64) g)"
    tables(
        pg,
        "roomy",
        [f"CREATE TABLE big AS SELECT i, {random} AS raw FROM generate_series(1, {ROWS}) i"],
    )
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    scene.backup()
    yield scene
    for name in scene.databases() - {"sample_template"}:
        pg.dropdb(name)


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """A file system of 40 MB that the server's user can reach."""
    path = place / "disk"
    path.mkdir()
    path.chmod(0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=0755", "pgfleet-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)
        path.rmdir()


def failed(scene: Scene, run: Run, code: int, word: str) -> None:
    assert run.error is not None
    assert run.error["exit_code"] == code, run.error
    assert word in run.error["message"] + run.error["hint"], run.error
    assert not scene.litter()


def fill(disk: Path, leave: int) -> Path:
    """Somebody else's file, which takes all but `leave` bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - leave)
    return ballast


# --- full disks -----------------------------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("moment", ["Fetching", "Decrypting"])
def test_the_spool_runs_full(scene: Scene, disk: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """There was room when the step asked; then somebody else took it."""
    asked = Spool.need

    def and_then_full(spool: Spool, bytes_: int, what: str) -> None:
        asked(spool, bytes_, what)
        if what.startswith(moment):
            fill(disk, leave=1_000_000)

    monkeypatch.setattr(Spool, "need", and_then_full)
    env = {"PGFLEET_SPOOL": str(disk / "spool"), "PGFLEET_SPOOL_RESERVE_BYTES": "0"}
    failed(scene, scene.restore(env), 4, "No space left on device")
    assert not list((disk / "spool" / "runs").iterdir())
    (disk / "ballast").unlink()
    monkeypatch.undo()
    assert scene.restore(env, as_name="later").state == "succeeded"


@as_root
def test_the_server_runs_full(scene: Scene, disk: Path) -> None:
    """The database goes to a disk of its own, which the server does not tell the size of."""
    user = server_user()
    assert user is not None
    folder = disk / "tablespace"
    folder.mkdir(mode=0o700)
    os.chown(folder, user.uid, user.gid)
    with scene.target.connect() as connection:
        connection.execute(SQL("CREATE TABLESPACE tight LOCATION {}").format(Literal(str(folder))))
        connection.execute("CREATE DATABASE waiting TEMPLATE template0 TABLESPACE tight")
    try:
        ballast = fill(disk, leave=12_000_000)
        before = content_of(scene.source, "roomy")
        failed(scene, scene.restore(as_name="waiting"), 6, "No space left on device")
        assert content_of(scene.source, "roomy") == before
        assert content_of(scene.target, "waiting") == {}
        ballast.unlink()
        scene.restored(as_name="waiting")
        assert content_of(scene.target, "waiting") == before
    finally:
        scene.target.dropdb("waiting")
        with scene.target.connect() as connection:
            connection.execute("DROP TABLESPACE tight")


# --- tablespaces that the target lacks ------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("managed", [True, False])
def test_a_tablespace_that_the_target_lacks(
    scene: Scene, disk: Path, postgres_of: PostgresOf, managed: bool
) -> None:
    away = Scene(scene.root, scene.source, postgres_of(18), "roomy", scene.keys)
    user = server_user()
    assert user is not None
    folder = disk / "tablespace"
    folder.mkdir(mode=0o700)
    os.chown(folder, user.uid, user.gid)
    with scene.source.connect() as connection:
        connection.execute(SQL('CREATE TABLESPACE "Fast one" LOCATION {}').format(Literal(str(folder))))
    try:
        tables(scene.source, "roomy", ['CREATE INDEX placed ON big (i) TABLESPACE "Fast one"'])
        if managed:
            away.backup()
        else:
            by_hand = scene.root / "near" / "roomy-backup-20990101-000000.dump"
            done = start(
                [str(scene.source.bin_dir / "pg_dump"), "-Fc", "-f", str(by_hand)],
                env=libpq(scene.source, "roomy"),
            )
            assert done.returncode == 0, done.stderr
        result = away.restored(as_name="back", globals=managed)  # which brings roles only
        assert result["managed"] is managed
        assert "there lacks the tablespaces Fast one: all goes to the default one." in result["notes"]
        assert content_of(away.target, "back") == content_of(scene.source, "roomy")
        with connect(away.target, "back") as connection:
            placed = connection.execute("SELECT reltablespace FROM pg_class WHERE relname = 'placed'")
            assert placed.fetchone() == (0,)
        (record,) = (scene.root / "near").glob(f"{result['backup_id']}.restore-*.json")
        assert json.loads(record.read_text())["ok"] is True
    finally:
        for name in away.databases():
            away.target.dropdb(name)
        scene.source.dropdb("roomy")
        with scene.source.connect() as connection:
            connection.execute('DROP TABLESPACE "Fast one"')


# --- fetch ----------------------------------------------------------------------------------------------------------


def fetch(scene: Scene, output: Path, **request: Any) -> Run:
    adapters = scene.adapters()
    payload = {"database": "roomy", "backup": "latest", **request}
    run = restore_locally(adapters, payload, requested_by="test", here=me(), output=str(output))
    return here.work(adapters, run.id)


def test_fetch_makes_its_directory(scene: Scene) -> None:
    run = fetch(scene, scene.root / "out")
    assert run.state == "succeeded", run.error
    assert (scene.root / "out").stat().st_mode & 0o777 == 0o700
    (file,) = (scene.root / "out").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert fetch(scene, scene.root / "out").state == "succeeded", "it takes the place of the first"
    assert list((scene.root / "out").iterdir()) == [file]


def test_fetch_does_not_make_its_parent(scene: Scene) -> None:
    run = fetch(scene, scene.root / "no" / "out")
    failed(scene, run, 3, "is no directory")
    assert run.error is not None
    assert run.error["step"] == "restore.choose", "before anything is downloaded"
    assert not (scene.root / "no").exists()


@as_root
def test_fetch_to_a_disk_that_is_full(scene: Scene, disk: Path) -> None:
    fill(disk, leave=1_000_000)
    failed(scene, fetch(scene, disk / "out"), 4, "has no room")
    assert list((disk / "out").iterdir()) == []
