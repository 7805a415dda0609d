"""Replacing the live database: under load, killed at each line, undone; nothing of the old one is lost."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from tests.conftest import PostgresOf
from tests.restore_scene import Scene, connect, tables
from tests.services import wait_until
from worker.config.model import Target
from worker.errors import ConfigError, RestoreFailed
from worker.local.postgres import Postgres
from worker.postgres import replace, targets

LINES = ("begin", "ending sessions", "old renamed", "new renamed", "committed")
KILLED = """
import json, os, signal, sys
from pydantic import SecretStr
from worker.config.model import Target
from worker.postgres.replace import swap
server, line = json.loads(sys.argv[1]), sys.argv[2]
target = Target(alias="t", host=server["host"], port=server["port"], user=server["user"],
                password=SecretStr(server["password"]))
def reached(passed):
    if passed == line:
        os.kill(os.getpid(), signal.SIGKILL)
swap(target, live="live", new="fresh", before="kept", reached=reached)
"""


@pytest.fixture
def scene(pg: Postgres, tmp_path: Path) -> Iterator[Scene]:
    """A live database on the server that it is restored to, and a verified backup of it."""
    scene = Scene(tmp_path, pg, pg, "live")
    pg.createdb("live")
    tables(
        pg,
        "live",
        [
            "CREATE TABLE notes (id bigserial PRIMARY KEY, t text)",
            "INSERT INTO notes (t) SELECT 'old' FROM generate_series(1, 1000)",
        ],
    )
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    yield scene
    for name in scene.databases():
        pg.dropdb(name)


@pytest.fixture
def pair(pg: Postgres) -> Iterator[Target]:
    """Databases `live` and `fresh`, each with its name in it."""
    for name in ("live", "fresh"):
        pg.createdb(name)
        tables(pg, name, [f"CREATE TABLE who AS SELECT '{name}'::text AS name"])
    yield target_of(pg)
    for name in ("live", "fresh", "kept", "undone"):
        pg.dropdb(name)


def target_of(server: Postgres, **changes: object) -> Target:
    known = {
        "alias": "t",
        "host": server.host,
        "port": server.port,
        "user": server.user,
        "password": SecretStr(server.password),
    }
    return Target.model_validate({**known, **changes})


def who(server: Postgres, name: str) -> str:
    with connect(server, name) as connection:
        return str(connection.execute("SELECT name FROM who").fetchone()[0])  # type: ignore[index]


class Writers:
    """Clients that never stop writing, and reconnect at once."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.written: list[float] = []
        self.acknowledged = 0
        self.refused: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(server, name)) for _ in range(3)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        assert wait_until(lambda: len(self.written) > 100)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, server: Postgres, name: str) -> None:
        connection: psycopg.Connection[object] | None = None
        while not self._stop.is_set():
            try:
                connection = connection or connect(server, name)
                connection.execute("INSERT INTO notes (t) VALUES ('new')")
                self.written.append(time.monotonic())
            except psycopg.Error as error:
                self.refused.append(str(error))
                connection = None

    @property
    def longest_gap(self) -> float:
        written = sorted(self.written)
        return max(after - before for before, after in pairwise(written))


def notes(server: Postgres, name: str) -> int:
    with connect(server, name) as connection:
        return int(connection.execute("SELECT count(*) FROM notes").fetchone()[0])  # type: ignore[index]


def test_live_database_under_load(scene: Scene) -> None:
    scene.backup()
    adapters = scene.adapters()
    with connect(scene.target, "live") as connection:
        connection.execute('ALTER DATABASE live SET search_path TO "$user", public, "Odd Schema"')
        connection.execute("ALTER DATABASE live CONNECTION LIMIT 50")
    with Writers(scene.target, "live") as writers:
        run = scene.work(adapters, "restore", {"target": "there", "replace": True, "confirm": "live"})
        after = len(writers.written)
        assert wait_until(lambda: len(writers.written) > after + 100)
    assert run.state == "succeeded", run.error
    assert run.result["swap_seconds"] < 1
    assert writers.longest_gap < 1, writers.longest_gap
    kept = run.result["kept_as"]
    assert kept == f"live_before_{run.id}"
    # Every write that was acknowledged is in one of the two; the one that was cut may be there without an answer.
    rows = notes(scene.target, "live") + notes(scene.target, kept) - 2000
    assert len(writers.written) <= rows <= len(writers.written) + len(writers.refused)
    with targets.maintenance(adapters.settings.targets["there"]) as found:
        assert replace.settings_of(found, "live") == [(None, "search_path", '"$user", public, "Odd Schema"')]
        assert targets.find(found, "live").connection_limit == 50  # type: ignore[union-attr]
    assert not scene.litter()

    undone = scene.after(adapters, "undo", run.id)
    assert undone.state == "succeeded", undone.error
    assert notes(scene.target, "live") > 1000 + after // 2
    with scene.target.connect() as connection:
        connection.execute("ALTER DATABASE live RENAME TO elsewhere")
        refused = scene.after(adapters, "finish", run.id)
        assert "may be all that is left" in refused.error["message"]  # type: ignore[index]
        connection.execute("ALTER DATABASE elsewhere RENAME TO live")
    finished = scene.after(adapters, "finish", run.id)
    assert finished.state == "succeeded", finished.error
    assert scene.databases() == {"live"}


def test_a_replace_is_refused(scene: Scene) -> None:
    scene.backup()
    with pytest.raises(ConfigError, match="not confirmed"):
        scene.restore(replace=True, confirm="lice")
    with pytest.raises(ConfigError, match="does not allow"):
        scene.restore(replace=True, confirm="live", target="live")
    assert scene.databases() == {"live"}


@pytest.mark.parametrize("line", LINES)
def test_killed_at_each_line_of_the_swap(pair: Target, pg: Postgres, line: str) -> None:
    server = {"host": pg.host, "port": pg.port, "user": pg.user, "password": pg.password}
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps(server), line], check=False)
    assert killed.returncode == -9
    names = ["live", "fresh"] if line != "committed" else ["kept", "live"]
    assert wait_until(lambda: _settled(pg, names[0]))
    assert [who(pg, name) for name in names] == ["live", "fresh"]

    replace.swap(pair, live="live", new="fresh", before="kept")

    assert [who(pg, name) for name in ("kept", "live")] == ["live", "fresh"]
    assert replace.swap(pair, live="live", new="fresh", before="kept").kept


def test_a_name_that_was_free_is_not_taken_from_anybody(pair: Target, pg: Postgres) -> None:
    with pytest.raises(RestoreFailed, match="live was made while this restore ran"):
        replace.swap(pair, live="live", new="fresh", before="kept", displace=False)
    assert [who(pg, name) for name in ("live", "fresh")] == ["live", "fresh"]
    pg.dropdb("live")
    for _ in range(2):
        assert not replace.swap(pair, live="live", new="fresh", before="kept", displace=False).kept
    assert who(pg, "live") == "fresh"


def test_a_stranger_that_took_the_name_is_not_what_was_loaded(pair: Target, pg: Postgres) -> None:
    """Done again after a kill: the name is there and what was loaded is not, but this is another database."""
    with targets.maintenance(pair) as connection:
        found = targets.find(connection, "fresh")
        assert found is not None
    pg.dropdb("fresh")
    with pytest.raises(RestoreFailed, match="live is another database"):
        replace.swap(pair, live="live", new="fresh", before="kept", displace=False, loaded=found.oid)
    assert who(pg, "live") == "live"


def test_what_was_loaded_has_vanished(pair: Target, pg: Postgres) -> None:
    pg.dropdb("fresh")
    with pytest.raises(RestoreFailed, match="fresh, is not on the server any more"):
        replace.swap(pair, live="live", new="fresh", before="kept")
    assert who(pg, "live") == "live"


@pytest.mark.parametrize("mode", ["new", "empty"])
def test_somebody_fills_the_name_while_the_restore_runs(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    scene.backup()
    if mode == "empty":
        scene.target.createdb("waiting", template="template0")
    swap = replace.swap

    def late(target: Target, **names: Any) -> replace.Swapped:
        if mode == "new":
            scene.target.createdb("waiting", template="template0")
        tables(scene.target, "waiting", ["CREATE TABLE who AS SELECT 'theirs' AS name"])
        return swap(target, **names)

    monkeypatch.setattr(replace, "swap", late)
    run = scene.restore(as_name="waiting")
    if mode == "new":
        assert run.error is not None
        assert "is left alone" in run.error["message"]
        assert who(scene.target, "waiting") == "theirs"
    else:
        assert run.state == "succeeded", run.error
        assert notes(scene.target, "waiting") == 1000
        assert who(scene.target, run.result["kept_as"]) == "theirs"
        assert any("not empty any more" in note for note in run.result["notes"])
    assert not scene.litter()


@pytest.mark.parametrize(
    "inside",
    [
        "CREATE TYPE mood AS ENUM ('good')",
        "CREATE SCHEMA planned",
        "CREATE PUBLICATION planned",
        "CREATE TABLE kept AS SELECT 1 AS id; ALTER EXTENSION plpgsql ADD TABLE kept;"
        " SET allow_system_table_mods = on; UPDATE pg_extension"
        " SET extconfig = ARRAY['kept'::regclass::oid], extcondition = ARRAY['WHERE id > 0'] WHERE extname = 'plpgsql'",
    ],
)
def test_a_database_without_tables_is_not_empty_for_that(scene: Scene, inside: str) -> None:
    """What is taken for empty is dropped once it has been filled anew."""
    scene.backup()
    scene.target.createdb("waiting", template="template0")
    tables(scene.target, "waiting", [inside])
    run = scene.restore(as_name="waiting")
    assert run.error is not None
    assert "is not empty" in run.error["message"]


def _settled(server: Postgres, name: str) -> bool:
    """The killed client's transaction has been rolled back."""
    try:
        return bool(who(server, name))
    except psycopg.OperationalError:
        return False


@pytest.fixture
def weak(pg: Postgres, pair: Target) -> Iterator[Target]:
    """The server as a role sees it that owns both databases, and is no superuser."""
    with pg.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS renamer")
        connection.execute("CREATE ROLE renamer LOGIN CREATEDB PASSWORD 'x'")
        for name in ("live", "fresh"):
            connection.execute(SQL("ALTER DATABASE {} OWNER TO renamer").format(Identifier(name)))
    yield target_of(pg, user="renamer", password=SecretStr("x"))
    with pg.connect() as connection:
        connection.execute("REASSIGN OWNED BY renamer TO pgfleet; DROP ROLE renamer")


def test_a_session_that_we_may_not_end(pg: Postgres, weak: Target) -> None:
    with connect(pg, "live"), targets.maintenance(weak) as connection:
        found = targets.find(connection, "live")
        assert found is not None
        with pytest.raises(ConfigError, match="may not end 1 of the sessions"):
            replace.check_replace(connection, weak, found, "live")


def test_one_session_that_cannot_be_ended_keeps_no_other(
    pg: Postgres, weak: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pg.connect() as connection:
        connection.execute("GRANT pg_signal_backend TO renamer")
        own = connection.info.backend_pid
        wrong = targets.Session(own, "pgfleet", "a superuser's", ours_to_end=True)
        monkeypatch.setattr(replace, "sessions", lambda *of: [wrong, *targets.sessions(*of)])
        with targets.session(weak, "live"):
            done = replace.swap(weak, live="live", new="fresh", before="kept")
    assert done.ended == 1
    assert who(pg, "live") == "fresh"


def test_autovacuum_is_in_nobodys_way(pg: Postgres, weak: Target) -> None:
    """Only a superuser may end it; the rename does so by itself."""
    lasting = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 0"
    with pg.connect() as connection:
        connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        connection.execute("SELECT pg_reload_conf()")
        vacuuming = (
            "SELECT FROM pg_stat_activity WHERE datname = 'live' AND backend_type = 'autovacuum worker'"
        )
        try:
            made = f"CREATE TABLE slow WITH ({lasting}) AS SELECT repeat('x', 500) FROM generate_series(1, 20000)"
            tables(pg, "live", [made, "DELETE FROM slow"])
            assert wait_until(lambda: connection.execute(vacuuming).fetchone() is not None)
        finally:
            connection.execute("ALTER SYSTEM RESET autovacuum_naptime")
            connection.execute("SELECT pg_reload_conf()")
        with targets.maintenance(weak) as ours:
            found = targets.find(ours, "live")
            assert found is not None
            replace.check_replace(ours, weak, found, "live")
        assert connection.execute(vacuuming).fetchone() is not None
        assert replace.swap(weak, live="live", new="fresh", before="kept").ended == 0


def test_a_prepared_transaction_is_told_before_the_load(
    postgres_of: PostgresOf, pair: Target, pg: Postgres
) -> None:
    with targets.maintenance(pair) as connection:
        found = targets.find(connection, "live")
        assert found is not None
        object.__setattr__(found, "prepared", 2)
        with pytest.raises(RestoreFailed, match="2 prepared transactions"):
            replace.check_replace(connection, pair, found, "live")
