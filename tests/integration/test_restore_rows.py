"""What is put into databases, and counted: rows once and by leave only; nothing of what an extension makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.restore_scene import Scene, connect, tables
from worker.core.backup import TableCount
from worker.errors import RestoreFailed
from worker.local.postgres import Postgres
from worker.postgres import restored
from worker.postgres.queries import query
from worker.postgres.restore import load


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
