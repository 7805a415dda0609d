"""Ledgers of other versions: migrated, refused, or worked on together."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ledger_scenes import maybe, start, take
from sqlalchemy import create_engine, inspect

from tests.services import Database
from worker.errors import ConfigError, LedgerTooNew, UpgradeBlocked
from worker.ledger import Ledger, NewStep, engine, migrations, schema, workers
from worker.ledger.migrations import Migration
from worker.ledger.model import WorkerInfo
from worker.ledger.workers import RECONCILE
from worker.owner import me

pytest_plugins = ["ledger_fixtures"]
DATA = Path(__file__).parents[1] / "data" / "ledger"
ALIVE, DEAD = 5.0, 61.0  # seconds since a worker was seen
#: A process of this machine that has ended.
GONE = "/".join([*me().split("/")[:2], "999999999", "1"])


#: The same thing by two names.
KINDS = {"REAL": "DOUBLE", "DOUBLE PRECISION": "DOUBLE"}


class Old:
    """A ledger as version 1 left it, with rows, and a look at it that knows nothing of pgfleet's."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ledger = Ledger(url)
        self.kind = "sqlite" if url.startswith("sqlite") else "postgresql"
        for part in (self.kind, "rows"):
            self.execute((DATA / f"version-1.{part}.sql").read_text())
        if self.kind == "postgresql":
            self.execute("SELECT setval('steps_id_seq', 3), setval('notices_id_seq', 1)")

    def execute(self, script: str) -> list[Any]:
        if self.kind == "sqlite":
            conn = sqlite3.connect(self.url.removeprefix("sqlite:///"))
            try:
                if script.lstrip().upper().startswith("SELECT"):
                    return conn.execute(script).fetchall()
                conn.executescript(script)
                return []
            finally:
                conn.close()
        with psycopg.connect(self.url, autocommit=True) as pg:
            answer = pg.execute(script.encode())
            return answer.fetchall() if answer.description else []

    def worker(self, name: str, seconds_ago: float) -> None:
        """As a worker of version 1 signs."""
        self.execute(
            "INSERT INTO workers (name, host, queues, spool_id, version, seen_at) "
            f"VALUES ('{name}', 'a', '[\"dump\"]', 's1', '0.0.9', {time.time() - seconds_ago})"
        )

    def run_here(self, owner: str, lease: float) -> None:
        self.execute(
            f"UPDATE runs SET here = '{owner}' WHERE id = 'r2';"
            f"UPDATE steps SET state = 'running', owner = '{owner}', lease_until = {time.time() + lease} WHERE id = 2"
        )

    def rows(self) -> dict[str, list[Any]]:
        """Everything that version 1 knows."""
        columns = {"workers": "name, host, queues, spool_id, version, seen_at"}
        names = ("jobs", "runs", "steps", "notices", "workers")
        return {
            name: self.execute(f"SELECT {columns.get(name, '*')} FROM {name} ORDER BY 1") for name in names
        }

    def tables(self) -> dict[str, Any]:
        """Columns, keys and indexes."""
        return reflected(self.url)

    @property
    def version(self) -> int:
        return int(self.execute("SELECT version FROM ledger_version")[0][0])


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Old]:
    if request.param == "sqlite":
        made = Old(f"sqlite:///{tmp_path}/old.sqlite")
    else:
        database: Database = request.getfixturevalue("database")
        made = Old(database.dsn)
    yield made
    made.ledger.close()


def reflected(url: str) -> dict[str, Any]:
    made = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    found = inspect(made)

    def table(name: str) -> dict[str, Any]:
        columns = [
            (c["name"], KINDS.get(str(c["type"]), str(c["type"])), c["nullable"], c["default"])
            for c in found.get_columns(name)
        ]
        return {
            "columns": columns,
            "keys": (found.get_pk_constraint(name)["constrained_columns"], found.get_foreign_keys(name)),
            "unique": sorted(str(c["column_names"]) for c in found.get_unique_constraints(name)),
            "indexes": sorted((str(i["name"]), str(i["column_names"])) for i in found.get_indexes(name)),
        }

    try:
        return {name: table(name) for name in found.get_table_names()}
    finally:
        made.dispose()


def additive(monkeypatch: pytest.MonkeyPatch, oldest: int) -> None:
    """This program is one that knows a further version."""
    original = migrations.script
    for module in (schema, workers):
        monkeypatch.setattr(module, "VERSION", 3)
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, Migration(3, oldest)))
    added = "-- More.\nALTER TABLE runs ADD COLUMN mood TEXT;\nCREATE INDEX runs_mood ON runs (mood);\n"
    monkeypatch.setattr(migrations, "script", lambda number: added if number == 3 else original(number))


# --- older tables ---


def test_the_list_of_migrations_is_complete() -> None:
    assert [migration.version for migration in migrations.MIGRATIONS] == list(range(2, schema.VERSION + 1))
    assert migrations.MIGRATIONS[-1].oldest == schema.OLDEST
    oldest = [migration.oldest for migration in migrations.MIGRATIONS]
    assert oldest == sorted(oldest)
    assert all(one.oldest <= one.version for one in migrations.MIGRATIONS)


def test_an_old_ledger_is_migrated_and_keeps_everything(old: Old) -> None:
    old.worker("dump@a", DEAD)
    before = old.rows()
    old.ledger.migrate()
    assert old.rows() == before
    assert old.version == schema.VERSION
    run = old.ledger.run("r2")
    assert [hint.step_id for hint in old.ledger.take_due()] == [2, 3]
    claim = take(old.ledger, run, "backup.upload_part", "2")
    assert (claim.fence, claim.step.data) == (3, {"part": 2, "tried": True})
    old.ledger.commit(claim, {"bytes": 3})
    old.ledger.beat(WorkerInfo("dump@a", "a", ("dump",), "s1", "0.2.0", 0.0))
    assert [worker.name for worker in old.ledger.workers(alive_within=60)] == ["dump@a"]


def test_migrated_tables_are_like_new_ones(old: Old, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    before = old.tables()
    old.ledger.migrate()
    url = (
        f"sqlite:///{tmp_path}/new.sqlite"
        if old.kind == "sqlite"
        else request.getfixturevalue("shared_ledger")
    )
    new = Ledger(url)
    new.migrate()
    new.close()
    assert old.tables() == reflected(url)
    assert before != reflected(url)


def test_what_does_not_migrate_says_what_to_do(old: Old) -> None:
    with pytest.raises(ConfigError, match=f"have version 1, this pgfleet needs version {schema.VERSION}"):
        old.ledger.runs()


def test_many_processes_migrate_an_old_ledger_at_once(old: Old) -> None:
    children = [get_context("fork").Process(target=old.ledger.migrate) for _ in range(6)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 6
    assert old.execute("SELECT version, oldest FROM ledger_version") == [(schema.VERSION, schema.OLDEST)]


def test_a_migration_that_breaks_off_leaves_the_ledger_as_it_was(
    old: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, rows = old.tables(), old.rows()
    additive(monkeypatch, oldest=2)
    monkeypatch.setattr(migrations, "script", lambda number: SCRIPTS[number])
    with pytest.raises(Exception, match="nowhere"):
        old.ledger.migrate()
    assert (old.tables(), old.rows(), old.version) == (tables, rows, 1)


SCRIPTS = {2: migrations.script(2), 3: "CREATE TABLE more (id INTEGER);\nINSERT INTO nowhere VALUES (1);\n"}


# --- who is at work ---


def test_a_worker_that_could_not_go_on_stops_the_migration(old: Old) -> None:
    tables = old.tables()
    old.worker("dump@a", ALIVE)
    old.worker("verify@b", DEAD)
    with pytest.raises(UpgradeBlocked) as caught:
        old.ledger.migrate()
    assert "dump@a (pgfleet 0.0.9)" in caught.value.message
    assert "verify@b" not in caught.value.message
    assert "Stop them" in caught.value.hint
    assert (caught.value.exit_code, caught.value.retryable) == (1, True)
    assert (old.tables(), old.version) == (tables, 1)
    old.execute("UPDATE workers SET seen_at = seen_at - 60")
    old.ledger.migrate()
    assert old.version == schema.VERSION


def test_many_workers_are_not_all_named(old: Old) -> None:
    for number in range(8):
        old.worker(f"dump@{number}", ALIVE)
    with pytest.raises(UpgradeBlocked, match=r"dump@4 \(pgfleet 0\.0\.9\) and 3 more\.") as caught:
        old.ledger.migrate()
    assert "dump@5" not in caught.value.message


def test_the_mark_of_reconcile_is_no_worker(old: Old) -> None:
    old.worker(RECONCILE, ALIVE)
    old.ledger.migrate()
    assert old.version == schema.VERSION


@pytest.mark.parametrize(
    ("owner", "lease", "blocks"),
    [(me(), 60.0, True), (me(), -1.0, False), (GONE, 60.0, False)],
    ids=["at work", "lease over", "dead"],
)
def test_a_run_here_stops_the_migration_while_it_works(
    old: Old, owner: str, lease: float, blocks: bool
) -> None:
    old.run_here(owner, lease)
    if blocks:
        with pytest.raises(UpgradeBlocked, match=r"backup --here, run r2\."):
            old.ledger.migrate()
    else:
        old.ledger.migrate()
    assert old.version == (1 if blocks else schema.VERSION)


# --- from this version on ---


@pytest.fixture
def present(old: Old) -> Old:
    """Migrated to this version, with a worker of it at work."""
    old.ledger.migrate()
    old.ledger.beat(WorkerInfo("dump@a", "a", ("dump",), "s1", "0.1.0", 0.0))
    return old


def test_workers_of_both_versions_work_after_a_migration_that_only_adds(
    present: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The roll: a new program migrates under a worker of this version, and both go on."""
    with monkeypatch.context() as newer:
        additive(newer, oldest=2)
        program = Ledger(present.url)
        program.migrate()
        run = start(program, NewStep("backup.dump", queue="dump"))
        program.beat(WorkerInfo("dump@b", "b", ("dump",), "s2", "0.2.0", 0.0))
    assert present.execute("SELECT version, oldest FROM ledger_version") == [(3, 2)]
    late = Ledger(present.url)
    for older in (present.ledger, late):  # one that was running, one that starts afterwards
        older.migrate()
        older.beat(WorkerInfo("dump@a", "a", ("dump",), "s1", "0.1.0", 0.0))
        start(older, NewStep("backup.dump", queue="dump"))
    late.commit(take(late, run, "backup.dump"), {})
    assert maybe(program, run, "backup.dump") is None
    assert present.version == 3
    told = present.execute("SELECT name, schema FROM workers ORDER BY 1")
    assert told == [("dump@a", schema.VERSION), ("dump@b", 3)]
    late.close()
    program.close()


def test_a_migration_that_breaks_with_the_past_waits_for_goodbyes(
    present: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as newer:
        additive(newer, oldest=3)
        program = Ledger(present.url)
        with pytest.raises(UpgradeBlocked, match=r"from version 2 to 3.*dump@a \(pgfleet 0\.1\.0\)"):
            program.migrate()
    assert present.version == 2
    present.ledger.stopped("dump@a")
    with monkeypatch.context() as newer:
        additive(newer, oldest=3)
        program.migrate()
    program.close()
    assert present.execute("SELECT version, oldest FROM ledger_version") == [(3, 3)]
    with pytest.raises(LedgerTooNew, match="Upgrade pgfleet on this host"):
        Ledger(present.url).migrate()


def test_a_worker_that_starts_again_is_alive_again(present: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    present.ledger.stopped("dump@a")
    present.ledger.beat(WorkerInfo("dump@a", "a", ("dump",), "s1", "0.1.0", 0.0))
    additive(monkeypatch, oldest=3)
    with pytest.raises(UpgradeBlocked):
        Ledger(present.url).migrate()


def test_a_program_that_was_frozen_meanwhile_touches_nothing(
    present: Old, monkeypatch: pytest.MonkeyPatch
) -> None:
    present.ledger.runs()
    present.execute("UPDATE ledger_version SET version = 99, oldest = 99")
    present.ledger.runs()  # it has just looked: nobody counts as dead so soon
    assert engine.CHECKED_SECONDS < migrations.ALIVE_SECONDS
    monkeypatch.setattr(engine, "CHECKED_SECONDS", 0.0)  # as if that were long ago
    for act in (present.ledger.runs, present.ledger.take_due, lambda: present.ledger.stopped("dump@a")):
        with pytest.raises(LedgerTooNew, match="version 99, this pgfleet knows version 2"):
            act()
    present.execute("UPDATE ledger_version SET oldest = 2")
    assert present.ledger.runs()
