"""What is put into databases, and counted: rows once and by leave only; nothing of what an extension makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from tests.conftest import PostgresOf
from tests.restore_scene import Scene, connect, content_of, tables
from worker.core.backup import TableCount
from worker.errors import RestoreFailed
from worker.local.postgres import Postgres
from worker.postgres import restored, targets
from worker.postgres.queries import query
from worker.postgres.restore import load
from worker.steps.restore_choose import _is_done
from worker.steps.restore_prepare import _same_server, replacing


@pytest.fixture
def scene(pg: Postgres, tmp_path: Path) -> Iterator[Scene]:
    """A database with one row, and a backup of it."""
    scene = Scene(tmp_path, pg, pg, "rows")
    pg.createdb("rows", template="template0")
    tables(pg, "rows", ["CREATE TABLE thing AS SELECT 1 AS one"])
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    scene.backup()
    yield scene
    for name in scene.databases():
        pg.dropdb(name)


def test_rows_are_not_put_in_twice(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.restored(schema_only=True, as_name="shape")

    def lost(*args: Any, **kwargs: Any) -> None:
        load(*args, **kwargs)
        failure = RestoreFailed("The connection was lost.", "Try again.")
        failure.retryable = True
        raise failure

    monkeypatch.setattr("worker.steps.restore_load.load", lost)
    run = scene.restore(data_only=True, as_name="shape")
    assert run.error is not None
    assert "An earlier attempt may have committed its rows" in run.error["message"]
    with connect(scene.target, "shape") as connection:
        assert connection.execute("SELECT count(*) FROM thing").fetchone() == (1,)


def test_rows_for_a_live_database_need_its_configurations_leave(scene: Scene) -> None:
    adapters = scene.adapters()
    known = adapters.settings.targets
    known["there"] = known["there"].model_copy(update={"allow_replace": False})
    request = {"target": "there", "database": "rows", "data_only": True, "as_name": "rows", "force": True}
    run = scene.work(adapters, "restore", request)
    assert run.error is not None
    assert (run.error["exit_code"], "does not allow" in run.error["message"]) == (3, True)
    with connect(scene.target, "rows") as connection:
        assert connection.execute("SELECT count(*) FROM thing").fetchone() == (1,)


def test_tablespaces_of_another_name(scene: Scene) -> None:
    """Tables, their indexes and keys, and views go where they were told to; what is not mapped keeps its place."""
    places = {"old one": "new one", "kept": "kept"}
    for name in ("old one", "new one", "kept"):
        with scene.target.connect() as connection:
            connection.execute("SET allow_in_place_tablespaces = on")
            connection.execute(SQL("CREATE TABLESPACE {} LOCATION ''").format(Identifier(name)))
    made = [
        'CREATE TABLE "odd; Type: TABLE" (id int PRIMARY KEY USING INDEX TABLESPACE "old one", t text)'
        ' TABLESPACE "old one"',
        """INSERT INTO "odd; Type: TABLE" SELECT n, 'x' FROM generate_series(1, 100) n""",
        'CREATE INDEX by_text ON "odd; Type: TABLE" (t) TABLESPACE "old one"',
        'CREATE MATERIALIZED VIEW seen TABLESPACE "old one" AS SELECT * FROM "odd; Type: TABLE"',
        'CREATE TABLE parted (id int, UNIQUE (id) USING INDEX TABLESPACE "old one") PARTITION BY LIST (id)'
        ' TABLESPACE "old one"',
        "CREATE TABLE part PARTITION OF parted FOR VALUES IN (1)",
        "CREATE INDEX here ON thing (one)",
    ]
    with scene.target.connect() as connection:
        connection.execute("ALTER DATABASE rows SET TABLESPACE kept")
    tables(scene.source, "rows", made)
    try:
        scene.backup()
        result = scene.restored(as_name="moved", tablespaces={"old one": "new one"})
        assert not [note for note in result["notes"] if "tablespace" in note]
        before, after = (_places(scene, name) for name in ("rows", "moved"))
        assert after == {name: places.get(place, place) for name, place in before.items()}
        assert set(before.values()) == {"old one", "kept"}, "of the database itself, too"
        assert content_of(scene.target, "moved") == content_of(scene.source, "rows")
        assert "uses no tablespace fast" in str(scene.restore(tablespaces={"fast": "kept"}).error)
        assert "lacks the tablespaces none" in str(scene.restore(tablespaces={"kept": "none"}).error)
    finally:
        for name in scene.databases():
            scene.target.dropdb(name)
        with scene.target.connect() as connection:
            for name in ("old one", "new one", "kept"):
                connection.execute(SQL("DROP TABLESPACE {}").format(Identifier(name)))


def _places(scene: Scene, name: str) -> dict[str, str]:
    with connect(scene.target, name) as connection:
        found = connection.execute(
            "SELECT relname, coalesce(t.spcname, d.spcname) FROM pg_class c"
            " LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace,"
            " (SELECT spcname FROM pg_database b JOIN pg_tablespace p ON p.oid = b.dattablespace"
            "  WHERE datname = current_database()) d"
            " WHERE relnamespace = 'public'::regnamespace"
        )
        return {str(row[0]): str(row[1]) for row in found}


@pytest.mark.parametrize("name", ["localhost", "socket"])
def test_the_live_database_by_another_name_of_its_server(scene: Scene, name: str) -> None:
    """The settings know it as 127.0.0.1; asked for by a host name or a socket, it is the same database."""
    adapters = scene.adapters()
    known = adapters.settings.targets
    host = str(scene.target.socket_dir) if name == "socket" else name
    known["there"] = known["there"].model_copy(update={"host": host, "database": None})
    request = {"target": "there", "database": "rows", "data_only": True, "as_name": "rows", "force": True}
    run = scene.work(adapters, "restore", request)
    assert run.error is not None
    assert "is the live database of rows" in run.error["message"]


def test_the_same_server_is_told_by_the_server_itself(scene: Scene, postgres_of: PostgresOf) -> None:
    """Through a pooler or an address translation neither address nor port say anything."""
    live = replacing(scene.adapters().settings.databases["rows"])
    with targets.maintenance(live) as connection:
        here = targets.identity(connection)
    assert here is not None
    assert _same_server(live, here)
    other = postgres_of(16)
    changes = {
        "host": other.host,
        "port": other.port,
        "user": other.user,
        "password": SecretStr(other.password),
    }
    assert not _same_server(live.model_copy(update=changes), here)
    assert not _same_server(live.model_copy(update={"port": 1, "connect_timeout": 1}), here)


def test_a_stranger_of_the_same_name_is_not_what_was_restored(scene: Scene) -> None:
    """A run that starts again after its spool was lost knows its own database by the oid, never by the name."""
    adapters = scene.adapters()
    run = scene.work(adapters, "restore", {"target": "there", "database": "rows", "as_name": "mine"})
    assert run.state == "succeeded", run.error
    with targets.maintenance(adapters.settings.targets["there"]) as connection:
        assert _is_done(run, connection)
        scene.target.dropdb("mine")
        assert not _is_done(run, connection)
        scene.target.createdb("mine")
        assert not _is_done(run, connection)


def test_what_an_extension_makes_is_not_counted(scene: Scene) -> None:
    """As tables of postgis_topology and pg_cron: a dump has neither their keys nor their policies."""
    scene.target.createdb("extended", template="template0")
    mine = ["CREATE TABLE {0}_a (id int PRIMARY KEY)", "CREATE TABLE {0}_b (id int REFERENCES {0}_a)",
            "CREATE POLICY p ON {0}_a USING (true)", "INSERT INTO {0}_a VALUES (1)",
            "CREATE TRIGGER t BEFORE UPDATE ON {0}_a FOR EACH ROW EXECUTE FUNCTION"
            " suppress_redundant_updates_trigger()"]  # fmt: skip
    made = [statement.format(who) for who in ("own", "ext") for statement in mine]
    members = [f"ALTER EXTENSION plpgsql ADD TABLE ext_{which}" for which in "ab"]
    parted = ["CREATE TABLE parted (id int) PARTITION BY LIST (id)",
              "CREATE TABLE part PARTITION OF parted FOR VALUES IN (1)",
              "CREATE TRIGGER t AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION"
              " suppress_redundant_updates_trigger()"]  # fmt: skip
    tables(scene.target, "extended", [*made, *parted])
    assert counts(scene, "extended") == (3, 2, 2)
    tables(scene.target, "extended", [*members, "ALTER TABLE part DISABLE TRIGGER t"])
    assert counts(scene, "extended") == (3, 1, 1)  # the trigger of the partition has an entry of its own now

    there = scene.adapters().settings.targets["there"]
    expected = [TableCount(schema_name="public", name=f"{who}_a", rows=7, bytes=0) for who in ("own", "ext")]
    checked = restored.count(there, "extended", 1, expected, lambda: None)
    assert checked.detail == "public.own_a has 1 rows instead of 7"

    own = Scene(scene.root / "extended", scene.target, scene.target, "extended", scene.keys)
    for folder in ("near", "far"):
        (own.root / folder).mkdir(parents=True)
    backup = own.backup()
    named = {table.name for table in own.adapters().catalog("near").manifest(backup).tables}
    assert named == {"own_a", "own_b", "part"}


def counts(scene: Scene, name: str) -> tuple[object, ...] | None:
    with connect(scene.target, name) as connection:
        return connection.execute(query("restored_counts")).fetchone()
