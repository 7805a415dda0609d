"""The throwaway server: its own, unreachable for others, and gone whatever happens; and what is asked in it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import psycopg
import pytest

from tests.conftest import PostgresOf
from tests.drill_scene import DrillScene, drill, litter, make_database
from tests.restore_scene import Scene
from tests.services import MAJORS, Database, processes_below, wait_until
from worker import here, reconcile
from worker.core.backup import Server
from worker.core.drill import Check, Question
from worker.core.fingerprint import NOTHING
from worker.core.restore_plan import preload_settings, preloads
from worker.errors import ConfigError, MissingDependency
from worker.ledger import Ledger
from worker.local import pginstall
from worker.local.postgres import Postgres
from worker.postgres import questions, soundness, throwaway
from worker.postgres.control import change_one_row
from worker.postgres.inspect_tables import plan
from worker.postgres.server import connect
from worker.steps import drill_server
from worker.steps.context import Adapters


@pytest.fixture
def run_dir(place: Path) -> Iterator[Path]:
    spool = place / f"spool-{secrets.token_hex(3)}"
    path = spool / "runs" / "run1"
    path.mkdir(parents=True)
    for folder in (spool, path.parent):
        folder.chmod(0o711)
    yield path
    throwaway.remove(path, "run1")
    shutil.rmtree(spool)


@pytest.mark.parametrize("major", MAJORS)
def test_a_server_of_each_major(run_dir: Path, major: int) -> None:
    server = throwaway.provision(run_dir, "run1", major, [pginstall.bin_dir(major)])
    assert server == throwaway.found(run_dir, "run1", major)
    with closing(connect(server.target, "postgres", application_name="test")) as connection:
        assert connection.info.server_version // 10000 == major
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
    assert throwaway.remove(run_dir, "run1")
    assert not processes_below(run_dir)
    assert list(run_dir.iterdir()) == []
    assert not throwaway.remove(run_dir, "run1")


def test_libraries_that_the_sources_extensions_need_are_preloaded(run_dir: Path) -> None:
    source = Server(
        version="17.5", version_num=170005, extensions={"pg_stat_statements": "1.11", "plpgsql": "1.0"},
        preload=("auto_explain", "pg_stat_statements"),
    )  # fmt: skip
    libraries = preloads(source)
    settings = preload_settings(libraries, "drill")
    server = throwaway.provision(run_dir, "run1", 17, [pginstall.bin_dir(17)], libraries, settings)
    with closing(connect(server.target, "postgres", application_name="test")) as connection:
        connection.execute("CREATE EXTENSION pg_stat_statements")
        assert connection.execute("SELECT count(*) >= 0 FROM pg_stat_statements").fetchone() == (True,)
    with pytest.raises(MissingDependency, match="lacks pg_cron, which the backup's extensions need"):
        throwaway.provision(run_dir, "run1", 17, [pginstall.bin_dir(17)], ("pg_cron",))


def test_the_next_newer_major_when_there_is_none_of_its_own(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = {15: Path("/nowhere"), 17: pginstall.bin_dir(17)}
    monkeypatch.setattr(throwaway, "server_programs", lambda _: installed)
    assert throwaway.provision(run_dir, "run1", 16, []).major == 17
    with pytest.raises(MissingDependency, match="needs a server of that major; installed here: 15, 17"):
        throwaway.provision(run_dir, "run1", 18, [])
    assert list(run_dir.iterdir()) == []


def test_a_killed_attempt_is_taken_away(run_dir: Path) -> None:
    first = throwaway.provision(run_dir, "run1", 17, [pginstall.bin_dir(17)])
    with closing(connect(first.target, "postgres", application_name="test")) as connection:
        connection.execute("CREATE DATABASE left_over")
    second = throwaway.provision(run_dir, "run1", 17, [pginstall.bin_dir(17)])
    with closing(connect(second.target, "postgres", application_name="test")) as connection:
        assert connection.execute("SELECT FROM pg_database WHERE datname = 'left_over'").fetchone() is None
    assert len([one for one in processes_below(run_dir).values() if "bin/postgres" in one]) == 1


def test_a_foreign_process_is_not_stopped(run_dir: Path) -> None:
    """A pid is used again: only a process that works in the data directory is the server."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        data = run_dir / "throwaway" / "data"
        data.mkdir(parents=True)
        (data / "postmaster.pid").write_text(f"{stranger.pid}\n")
        assert throwaway.remove(run_dir, "run1")
        assert stranger.poll() is None
        stranger.kill()


def test_a_long_path(place: Path) -> None:
    """A socket's path may have 107 bytes; then it is elsewhere, and found again by the run's id."""
    spool = place / f"spool-{secrets.token_hex(3)}"
    run_dir = spool / ("x" * 100) / "run2"
    run_dir.mkdir(parents=True)
    for folder in (spool, run_dir.parent):
        folder.chmod(0o711)
    server = throwaway.provision(run_dir, "run2", 17, [pginstall.bin_dir(17)])
    assert not server.socket_dir.is_relative_to(run_dir)
    connect(server.target, "postgres", application_name="test").close()
    throwaway.remove(run_dir, "run2")
    assert not server.socket_dir.exists()
    shutil.rmtree(spool)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs the server as itself")
def test_a_spool_that_its_user_cannot_reach(run_dir: Path) -> None:
    run_dir.parent.chmod(0o700)
    with pytest.raises(ConfigError, match="cannot pass through"):
        throwaway.provision(run_dir, "run1", 17, [pginstall.bin_dir(17)])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take the network away")
def test_no_network(run_dir: Path) -> None:
    server = throwaway.provision(run_dir, "run1", 17, [pginstall.bin_dir(17)])
    with closing(connect(server.target, "postgres", application_name="test")) as connection:
        connection.execute("CREATE TABLE seen (line text)")
        connection.execute("COPY seen FROM PROGRAM 'cat /proc/net/dev'")
        lines = [row[0] for row in connection.execute("SELECT line FROM seen")]
    assert [line.split(":")[0].strip() for line in lines if ":" in line] == ["lo"]


@pytest.fixture(scope="module")
def scene(pg: Postgres, place: Path) -> Iterator[Scene]:
    root, name = place / f"killed-{secrets.token_hex(4)}", f"killed_{secrets.token_hex(3)}"
    root.mkdir(mode=0o711)
    pg.createdb(name)
    with pg.connect(name) as connection:
        make_database(connection, 2000)
    made = DrillScene(root, pg, pg, name)
    made.backup()
    yield made
    pg.dropdb(name)


def _child(scene: Scene, url: str) -> subprocess.Popen[bytes]:
    """``pgfleet drill --here`` as a process of its own."""
    scene.settings()
    env = {
        **os.environ,
        "PGFLEET_CONFIG": str(scene.root / "pgfleet.toml"),
        "PGFLEET_STATE_DIR": str(scene.root / "state"),
        "PGFLEET_SPOOL": str(scene.root / "spool"),
        "PGFLEET_PG_BIN": str(scene.source.bin_dir),
        "PGFLEET_LEDGER_URL": url,
        "PGFLEET_LEASE_SECONDS": "5",
    }
    argv = [sys.executable, "-m", "worker", "drill", "--here", "--json"]
    return subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _serving(scene: Scene) -> bool:
    return any("bin/postgres" in one for one in processes_below(scene.root / "spool").values())


def test_ctrl_c(scene: Scene) -> None:
    with _child(scene, f"sqlite:///{scene.root}/c.db") as child:
        assert wait_until(lambda: _serving(scene), 30)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
    assert child.returncode == 130
    assert litter(scene) == set()


def test_kill_9(scene: Scene) -> None:
    """The server outlives the killed process; reconcile gives the run to others, who finish it and clean up."""
    url = f"sqlite:///{scene.root}/k.db"
    with _child(scene, url) as child:
        assert wait_until(lambda: _serving(scene), 30)
        child.kill()
        child.communicate()
    assert litter(scene) != set()
    ledger = Ledger(url, lease_seconds=5)
    adapters = Adapters(scene.settings(), ledger)
    (run,) = ledger.runs(kind="drill")
    deadline = time.monotonic() + 60
    while ledger.run(run.id).open and time.monotonic() < deadline:
        reconcile.reconcile(adapters)
        here.work(adapters, run.id)
    here.work(adapters, run.id)
    assert ledger.run(run.id).state == "proven", ledger.run(run.id).error
    assert litter(scene) == set()


def test_a_server_that_vanishes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host was restarted between two steps: no verdict, and nothing left."""
    provision = throwaway.provision

    def lost(*arguments: object) -> throwaway.Throwaway:
        made = provision(*arguments)  # type: ignore[arg-type]
        os.kill(int((made.directory / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        return made

    monkeypatch.setattr(throwaway, "provision", lost)
    run = drill(scene)
    assert run.state == "could_not_run"
    assert run.error is not None
    assert run.error["exit_code"] == 6
    assert wait_until(lambda: not processes_below(scene.root / "spool"), 10)
    assert litter(scene) == set()


def test_workers_of_another_host_leave_the_steps_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    own, asked = drill_server.place(), 0

    def elsewhere_at_times() -> str:
        nonlocal asked
        asked += 1
        return own if asked % 3 != 2 else "another/host"

    monkeypatch.setattr(drill_server, "place", elsewhere_at_times)
    run = drill(scene)
    assert run.state == "proven", run.error
    assert asked > 5


def _nobody() -> None:
    """Nobody stops this work."""


def test_foreign_keys_are_asked_and_not_trusted(database: Database) -> None:
    with database.server.connect(database.name) as connection:
        connection.execute(
            """CREATE TABLE parent (a int, b text, PRIMARY KEY (a, b));
            CREATE TABLE child (id int PRIMARY KEY, x int, y text, up int REFERENCES child,
                                CONSTRAINT pair FOREIGN KEY (x, y) REFERENCES parent);
            CREATE TABLE parts (k int, x int, y text, FOREIGN KEY (x, y) REFERENCES parent) PARTITION BY LIST (k);
            CREATE TABLE part_1 PARTITION OF parts FOR VALUES IN (1);
            INSERT INTO parent VALUES (1, 'one'), (2, 'two');
            INSERT INTO child VALUES (1, 1, 'one', NULL), (2, NULL, 'none', 1), (3, 2, 'two', 2);
            INSERT INTO parts VALUES (1, 1, 'one')"""
        )
        assert [check.ok for check in soundness.foreign_keys(connection, _nobody)] == [True, True, True]
        connection.execute("SET session_replication_role = replica; DELETE FROM parent WHERE a = 1")
        checks = soundness.foreign_keys(connection, _nobody)
    assert {check.what: check.found for check in checks if not check.ok} == {
        "public.child: pair": "1 rows without their parent",
        "public.parts: parts_x_y_fkey": "1 rows without their parent",
    }


def test_amcheck_finds_an_index_that_is_wrong(postgres_of: PostgresOf) -> None:
    server, name = postgres_of(17), f"amcheck_{secrets.token_hex(3)}"
    server.createdb(name)
    with server.connect(name) as connection:
        connection.execute(
            """CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN $1; END';
            CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100); CREATE INDEX broken ON t (f(a))"""
        )
        sound, why = soundness.indexes(connection, _nobody)
        assert not why
        assert {check.what for check in sound} == {"public.broken", "public.t"}
        assert all(check.ok for check in sound)
        connection.execute(
            "CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 101 - $1; END'"
        )
        checks, _ = soundness.indexes(connection, _nobody)
        assert [check.what for check in checks if not check.ok] == ["public.broken"]
        extension = connection.execute("SELECT FROM pg_extension WHERE extname = 'amcheck'").fetchone()
        connection.execute('CREATE SCHEMA "its own"; CREATE EXTENSION amcheck SCHEMA "its own"')
        by_its_own, why = soundness.indexes(connection, _nobody)
    server.dropdb(name)
    assert extension is None
    assert (by_its_own, why) == (checks, "")


def test_amcheck_in_spite_of_the_database(postgres_of: PostgresOf) -> None:
    """Its own timeouts and event triggers; one that is always enabled keeps amcheck away, and fails nothing."""
    server, name = postgres_of(17), f"hindered_{secrets.token_hex(3)}"
    server.createdb(name)
    with server.connect(name) as connection:
        connection.execute(
            f"""CREATE TABLE t (a int PRIMARY KEY);
            CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'no DDL here'; END$$;
            CREATE EVENT TRIGGER no ON ddl_command_start EXECUTE FUNCTION no();
            ALTER DATABASE {name} SET default_transaction_read_only = on;
            ALTER DATABASE {name} SET statement_timeout = 500;
            ALTER DATABASE {name} SET transaction_timeout = 500""".encode()
        )
    with server.connect(name) as connection:
        soundness.unhindered(connection)
        assert connection.execute("SHOW statement_timeout").fetchone() == ("0",)
        assert connection.execute("SHOW transaction_timeout").fetchone() == ("0",)
        checks, why = soundness.indexes(connection, _nobody)
        assert (len(checks), why) == (2, "")
        connection.execute("ALTER EVENT TRIGGER no ENABLE ALWAYS")
        assert soundness.indexes(connection, _nobody) == ([], "amcheck could not be made: no DDL here.")
    server.dropdb(name)


def test_questions(database: Database) -> None:
    asked = [
        Question("a", "> 0", "SELECT 1"),
        Question("b", "= 2", "SELECT 1"),
        Question("c", "= 1", "SELECT 1 UNION ALL SELECT 2"),
        Question("d", "= 1", "SELECT nothing"),
        Question("e", "= 1", "CREATE TABLE no (a int)"),
        Question("f", "= 'x'", "SELECT 'x'::text"),
        Question("g", "= 1", "SELECT NULL::int"),
    ]
    with database.server.connect(database.name) as connection:
        checks: list[Check] = questions.ask(connection, asked, datetime.now(UTC), _nobody)
    assert [check.ok for check in checks] == [True, False, False, False, False, True, False]
    assert checks[2].found == "2 row(s) instead of one value"
    with pytest.raises(psycopg.errors.UndefinedTable), database.connect() as connection:
        connection.execute("SELECT FROM no")


@pytest.mark.parametrize("content", ["full", "counts"])
def test_a_published_table_without_a_key_can_be_the_controls(
    pg: Postgres, content: Literal["full", "counts"]
) -> None:
    name = f"published_{secrets.token_hex(3)}"
    pg.createdb(name, template="template0")
    try:
        with pg.connect(name) as connection:
            connection.execute("CREATE TABLE keyless AS SELECT 1 AS n")
            connection.execute("CREATE PUBLICATION all_of_it FOR ALL TABLES")
            work = plan(connection, content, 10, NOTHING)
            changed = change_one_row(connection, work, 0)
            assert "one row" in changed.change
            found = connection.execute(
                "SELECT n, relreplident FROM public.keyless, pg_class WHERE relname = 'keyless'"
            )
            assert found.fetchone() == (1, "d"), "nothing of it stays"
    finally:
        pg.dropdb(name)
