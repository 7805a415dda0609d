"""What goes wrong with a restore has its message and exit code, leaves what was there alone, and no litter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.conftest import PostgresOf
from tests.restore_scene import Scene, connect, content_of, libpq, tables
from tests.services import KeyPair, wait_until
from worker import reconcile, runner
from worker.core.requests import RestoreRequest
from worker.errors import ConfigError
from worker.ledger import Ledger
from worker.ledger.model import Run
from worker.local.postgres import Postgres
from worker.owner import me
from worker.process import run as start
from worker.steps.context import Adapters
from worker.submit import restore_locally

STEPS = (
    "choose", "thaw", "fetch_part", "decrypt", "check", "prepare", "load", "finish", "swap", "conclude",
)  # fmt: skip
TABLES = (
    "CREATE TABLE big (id int PRIMARY KEY, raw text)",
    "INSERT INTO big SELECT i, (SELECT string_agg(md5(random()::text || i || g), '') FROM generate_series(1, 64) g)"
    " FROM generate_series(1, 9000) i",
    "CREATE TABLE other (id serial PRIMARY KEY, big_id int REFERENCES big, note text DEFAULT 'x')",
    "INSERT INTO other (big_id) SELECT i FROM generate_series(1, 500) i",
    "CREATE SCHEMA side",
    "CREATE TABLE side.thing AS SELECT 1 AS one",
    "CREATE VIEW big_ones AS SELECT * FROM big",
)


@pytest.fixture(scope="module")
def base(pg: Postgres, gpg_keys: KeyPair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A source database and its backup in two places, encrypted, in several parts."""
    root = tmp_path_factory.mktemp("restore")
    scene = Scene(root, pg, pg, "shop", gpg_keys)
    pg.createdb("shop")
    tables(pg, "shop", TABLES)
    for folder in ("near", "far"):
        (root / folder).mkdir()
    scene.backup()
    yield scene
    pg.dropdb("shop")


@pytest.fixture
def scene(base: Scene, tmp_path: Path) -> Iterator[Scene]:
    """The same with copies of its own, to be damaged."""
    for folder in ("near", "far"):
        shutil.copytree(base.root / folder, tmp_path / folder)
    before = content_of(base.source, "shop")
    yield Scene(tmp_path, base.source, base.target, "shop", base.keys)
    assert content_of(base.source, "shop") == before, "the live database was touched"
    for name in base.databases() - {"shop", "sample_template"}:
        base.target.dropdb(name)


def archive(scene: Scene, folder: str = "near") -> Path:
    (found,) = (scene.root / folder).glob("*.dump.gpg")
    return found


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def failed(scene: Scene, run: Run, code: int, word: str) -> None:
    assert run.state == "failed"
    assert run.error is not None
    assert run.error["exit_code"] == code, run.error
    assert word in run.error["message"] + run.error["hint"], run.error
    assert run.error["hint"]
    assert scene.databases() <= {"shop", "sample_template"}
    assert not scene.litter()


def test_another_part_from_another_copy(scene: Scene) -> None:
    """Both copies are damaged, in different places."""
    size = archive(scene).stat().st_size
    flip(archive(scene), size - 100)
    flip(archive(scene, "far"), 100)
    result = scene.restored(as_name="back")
    assert result["sources"] == ["far", "near"]
    assert any("differ" in damage for damage in result["damaged_parts"])
    assert content_of(scene.target, "back") == content_of(scene.source, "shop")


def test_a_copy_that_is_gone_or_cut_short(scene: Scene) -> None:
    os.truncate(archive(scene), 6 * 2**20)
    assert scene.restored(as_name="back")["sources"] == ["far"]


def test_a_destination_that_cannot_be_listed_is_told(scene: Scene) -> None:
    shutil.rmtree(scene.root / "far")
    (scene.root / "far").touch()
    for dry_run in (True, False):
        notes = scene.restored(as_name="back", dry_run=dry_run, schema_only=True)["notes"]
        assert any(note.startswith("far could not be listed, and may hold a newer") for note in notes), notes


def test_the_same_part_is_bad_in_every_copy(scene: Scene) -> None:
    flip(archive(scene), 1000)
    flip(archive(scene, "far"), 1001)
    failed(scene, scene.restore(), 4, "cannot be had")


def test_somebody_elses_key(scene: Scene, other_gpg_keys: KeyPair) -> None:
    failed(scene, scene.restore({"GNUPGHOME": str(other_gpg_keys.home)}), 5, "no private key")


def test_no_room_on_the_spool(scene: Scene) -> None:
    failed(scene, scene.restore({"PGFLEET_SPOOL_RESERVE_BYTES": "900TB"}), 4, "spool")


@pytest.mark.parametrize(
    ("request_", "code", "word"),
    [
        ({"tables": ["bigg"]}, 3, "Did you mean public.big"),
        ({"schemas": ["sid"]}, 3, "side"),
        ({"as_name": "shop"}, 6, "not empty"),
        ({"data_only": True}, 6, "no database"),
        ({"data_only": True, "as_name": "shop"}, 3, "was not confirmed"),
        ({"data_only": True, "as_name": "shop", "confirm": "shop2"}, 3, "was not confirmed"),
        ({"globals": True, "as_name": "shop"}, 6, "not empty"),
    ],
)
def test_refused_before_anything_is_written(
    scene: Scene, request_: dict[str, Any], code: int, word: str
) -> None:
    failed(scene, scene.restore(**request_), code, word)


def test_unknown_target_and_backup(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="no target"):
        scene.restore(target="elsewhere")
    with pytest.raises(ConfigError, match="no destination"):
        scene.restore(destination="elsewhere")
    with pytest.raises(ConfigError, match="no database of this configuration"):
        scene.restore(target=None, database=None, backup="legacy-backup-20250101-010203")
    failed(scene, scene.restore(backup="shop-backup-20010101-000000"), 1, "shop-backup-20010101-000000")


def test_an_older_server_is_refused(scene: Scene, postgres_of: PostgresOf) -> None:
    old = Scene(scene.root, scene.source, postgres_of(15), "shop", scene.keys)
    failed(old, old.restore(), 6, "PostgreSQL 17")


def test_a_statement_that_fails_in_the_middle(pg: Postgres, tmp_path: Path) -> None:
    scene = Scene(tmp_path, pg, pg, "broken")
    pg.createdb("broken")
    tables(
        pg,
        "broken",
        (
            "CREATE TABLE zz (id int)",
            "CREATE FUNCTION peek(int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT count(*) >= 0 FROM zz'",
            "CREATE TABLE aa (id int CHECK (peek(id)))",
            "INSERT INTO aa VALUES (1)",
        ),
    )
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    try:
        scene.backup()
        run = scene.restore()
        assert run.error is not None
        assert run.error["exit_code"] == 6
        assert 'table "aa"' in run.error["message"]
        assert 'relation "zz" does not exist' in run.error["message"]
        assert not scene.litter()
        record = next((tmp_path / "near").glob("*.restore-*.json")).read_text()
        assert '"ok": false' in record
        assert '"requested_by": "test"' in record
    finally:
        pg.dropdb("broken")


def test_the_target_goes_away_in_the_middle(scene: Scene, place: Path) -> None:
    server = Postgres(place / "goes-away", 17, fsync=False)
    server.start()
    away = Scene(scene.root, scene.source, server, "shop", scene.keys)
    adapters, runs = away.adapters(), list[Run]()
    thread = threading.Thread(target=lambda: runs.append(away.work(adapters, "restore", {"target": "there"})))
    thread.start()
    try:
        assert wait_until(
            lambda: bool(away.litter() - {"x"}) and any("_restore_" in name for name in away.databases())
        )
        server.stop()
        assert wait_until(lambda: not adapters.ledger.runs()[0].open, 60)
        server.start()
        thread.join(60)
        assert runs
        assert runs[0].error is not None
        assert runs[0].error["exit_code"] == 6
        assert not away.litter()
    finally:
        server.stop()


KILLED = """
import os, signal, sys
from worker import here, runner
from worker.config.load import load
from worker.owner import me
from worker.steps.context import Adapters
from worker.submit import submit
name = sys.argv[1]
adapters = Adapters(load())
work = runner.STEPS[name]
def killed(context):
    work(context)
    os.kill(os.getpid(), signal.SIGKILL)  # all is done, and the ledger does not know
runner.STEPS = {**runner.STEPS, name: killed}
(run,) = submit(adapters, "restore", {"target": "there", "as_name": "back"}, requested_by="test", here=me())
print(run.id, flush=True)
here.work(adapters, run.id)
"""


def killed_here(scene: Scene, step: str) -> tuple[str, Adapters]:
    """(run, adapters of its ledger): a restore that died with a step done and not recorded."""
    ledger_url = f"sqlite:///{scene.root}/ledger.db"
    settings = scene.settings(PGFLEET_LEDGER_URL=ledger_url)
    env = {
        "PATH": os.environ["PATH"], "HOME": str(scene.root), "GNUPGHOME": str(scene.keys.home),
        "PGFLEET_CONFIG": str(scene.root / "pgfleet.toml"), "PGFLEET_SPOOL": str(settings.spool),
        "PGFLEET_STATE_DIR": str(settings.state_dir), "PGFLEET_LEDGER_URL": ledger_url,
        "PGFLEET_PG_BIN": str(scene.target.bin_dir), "PYTHONPATH": str(Path(__file__).parents[2]),
    }  # fmt: skip
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, f"restore.{step}"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert killed.returncode == -9, killed.stderr
    return killed.stdout.strip(), Adapters(settings, Ledger(ledger_url, max_attempts=5))


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_each_step(scene: Scene, step: str) -> None:
    """The process dies with its work done and not recorded; the fleet takes over, and the restore ends well."""
    run_id, adapters = killed_here(scene, step)
    ledger = adapters.ledger
    reconcile.take_over(adapters)
    while (hints := ledger.take_due(resend_after=0)) or ledger.next_due_at() is not None:
        for hint in hints:
            runner.perform(adapters, hint.run_id, hint.step_id)
    run = ledger.run(run_id)
    assert run.state == "succeeded", run.error
    assert content_of(scene.target, "back") == content_of(scene.source, "shop")
    assert not scene.litter()


# --- other ways to restore ------------------------------------------------------------------------------------------


def test_without_a_fleet_the_next_command_cleans_up_after_one_that_was_killed(scene: Scene) -> None:
    run_id, adapters = killed_here(scene, "load")
    assert len(scene.litter()) == 2, "a database that was half loaded, and plain archives"
    done = scene.work(adapters, "restore", {"target": "there", "as_name": "back", "dry_run": True})
    assert done.state == "succeeded", done.error
    killed = adapters.ledger.run(run_id)
    assert killed.state == "failed"
    assert "was killed" in killed.error["message"]  # type: ignore[index]
    assert not scene.litter()


def test_parts_of_a_backup(scene: Scene) -> None:
    some = scene.restored(tables=["other"], as_name="some")
    assert content_of(scene.target, "some").keys() == {"public.other", "public.other_id_seq"}
    assert some["left_out"] == ["fk constraint public.other other_big_id_fkey"]
    scene.restored(schemas=["side"], as_name="side")
    assert content_of(scene.target, "side").keys() == {"side.thing"}
    rest = scene.restored(exclude_tables=["big"], as_name="rest")
    assert content_of(scene.target, "rest").keys() == {"public.other", "public.other_id_seq", "side.thing"}
    assert rest["left_out"] == ["fk constraint public.other other_big_id_fkey", "view public.big_ones"]
    scene.restored(schema_only=True, as_name="shape")
    assert content_of(scene.target, "shape")["public.big"].startswith("0 ")
    scene.restored(data_only=True, as_name="shape")
    assert content_of(scene.target, "shape") == content_of(scene.source, "shop")


def test_into_an_empty_database_of_a_role_that_may_not_create_any(scene: Scene) -> None:
    with scene.target.connect() as connection:
        connection.execute("CREATE ROLE tenant LOGIN PASSWORD 'x'")
        connection.execute("CREATE DATABASE tenancy OWNER tenant")
    try:
        other = Scene(scene.root, scene.source, scene.target, "shop", scene.keys)
        adapters = other.adapters()
        there = adapters.settings.targets["there"]
        weak = there.model_copy(update={"user": "tenant", "password": SecretStr("x")})
        adapters.settings.targets["there"] = weak
        failing = other.work(adapters, "restore", {"target": "there", "as_name": "new", "no_owner": True})
        assert failing.error is not None
        assert "may not create databases" in failing.error["message"]
        run = other.work(
            adapters, "restore", {"target": "there", "as_name": "tenancy", "no_owner": True, "no_acl": True}
        )
        assert run.state == "succeeded", run.error
        assert content_of(scene.target, "tenancy") == content_of(scene.source, "shop")
    finally:
        scene.target.dropdb("tenancy")
        with scene.target.connect() as connection:
            connection.execute("DROP ROLE tenant")


def test_an_empty_database_keeps_what_it_is_as_a_database(scene: Scene) -> None:
    scene.target.createdb("waiting")
    with scene.target.connect() as connection:
        connection.execute("ALTER DATABASE waiting SET work_mem TO '9MB'")
    scene.restored(as_name="waiting")
    with connect(scene.target, "waiting") as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("9MB",)
    assert scene.databases() - {"sample_template"} == {"shop", "waiting"}


def test_roles_come_along_on_request(scene: Scene, postgres_of: PostgresOf) -> None:
    away = Scene(scene.root, scene.source, postgres_of(18), "shop", scene.keys)
    with scene.source.connect() as connection:
        connection.execute(
            "CREATE ROLE clerk PASSWORD 'secret' VALID UNTIL '2030-01-01'; CREATE ROLE staff; GRANT staff TO clerk;"
            " COMMENT ON ROLE clerk IS 'at the till'; GRANT SET ON PARAMETER log_min_messages TO clerk"
        )
        connection.execute("CREATE DATABASE roles OWNER clerk")
    roles = Scene(scene.root, scene.source, away.target, "roles", scene.keys)
    try:
        tables(
            scene.source,
            "roles",
            ["CREATE TABLE t (id int)", "ALTER TABLE t OWNER TO clerk", "GRANT SELECT ON t TO staff"],
        )
        roles.backup()
        run = roles.restore()
        assert run.error is not None
        assert "lacks roles that the backup names: clerk" in run.error["message"]
        result = roles.restored(globals=True, as_name="back")
        assert {"clerk", "staff"} <= set(result["roles_created"])
        assert any("left as they are" in note and "pgfleet" in note for note in result["notes"])
        with connect(away.target, "back") as connection:
            found = connection.execute(
                "SELECT rolpassword LIKE 'SCRAM%', rolvaliduntil IS NOT NULL FROM pg_authid WHERE rolname = 'clerk'"
            )
            assert found.fetchone() == (True, True)
            assert connection.execute("SELECT pg_has_role('clerk', 'staff', 'MEMBER')").fetchone() == (True,)
            found = connection.execute(
                "SELECT shobj_description('clerk'::regrole, 'pg_authid'),"
                " has_parameter_privilege('clerk', 'log_min_messages', 'SET')"
            )
            assert found.fetchone() == ("at the till", True)
    finally:
        scene.source.dropdb("roles")
        for name in roles.databases():
            away.target.dropdb(name)
        for server in (scene.source, away.target):
            with server.connect() as connection:
                if connection.execute("SELECT to_regrole('clerk')").fetchone() != (None,):
                    connection.execute("DROP OWNED BY clerk; DROP ROLE clerk")
                connection.execute("DROP ROLE IF EXISTS staff")


def test_what_scripts_left_behind(scene: Scene) -> None:
    """No manifest: listed as unmanaged, restored all the same, with the checks that are possible."""
    name = "shop-backup-20990101-000000.dump"
    done = start(
        [str(scene.source.bin_dir / "pg_dump"), "-Fc", "-Z9", "-f", str(scene.root / "near" / name)],
        env=libpq(scene.source, "shop"),
    )
    assert done.returncode == 0, done.stderr
    result = scene.restored(as_name="back")
    assert result["backup_id"] == name.removesuffix(".dump")
    assert result["managed"] is False
    assert content_of(scene.target, "back") == content_of(scene.source, "shop")
    os.truncate(scene.root / "near" / name, 2**20)
    run = scene.restore(as_name="back2")
    assert run.error is not None
    assert run.error["exit_code"] == 6


def local(scene: Scene, path: Path, **request: Any) -> Run:
    from worker import here

    adapters = scene.adapters()
    payload = RestoreRequest(target="there", database="shop", **request).to_payload()
    run = restore_locally(adapters, payload, requested_by="test", here=me(), file=str(path))
    return here.work(adapters, run.id)


def test_a_local_file(scene: Scene) -> None:
    assert local(scene, archive(scene), as_name="managed").result["managed"] is True
    alone = scene.root / "x.dump.gpg"
    shutil.copyfile(archive(scene), alone)
    run = local(scene, alone, as_name="alone")
    assert run.state == "succeeded", run.error
    assert content_of(scene.target, "alone") == content_of(scene.source, "shop")
    assert alone.exists()
    os.truncate(alone, alone.stat().st_size - 1000)
    cut = local(scene, alone)
    assert cut.error is not None
    assert cut.error["exit_code"] == 5
    assert not scene.litter()


def test_a_dry_run_writes_nothing(scene: Scene) -> None:
    with connect(scene.source, "shop"):
        result = scene.restored(replace=True, dry_run=True)
        assert result["sessions"] >= 1
    assert result["mode"] == "replace"
    assert result["needed_bytes"] > 10_000_000
    assert result["free_bytes"] > 0
    assert scene.databases() <= {"shop", "sample_template"}
