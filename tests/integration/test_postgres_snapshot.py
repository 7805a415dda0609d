"""A held snapshot: it says who holds it, waits for nobody for long, and misses no table."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from pg_cluster import Cluster

from worker.config.model import Database
from worker.errors import Busy, ConfigError, DatabaseUnavailable, DumpFailed
from worker.postgres import snapshot as module
from worker.postgres.privileges import privilege_problems
from worker.postgres.server import Connection, connect
from worker.postgres.snapshot import advisory_key, held_snapshot
from worker.postgres.tables import count_rows

pytest_plugins = ["pg_fixtures"]
NAME = "pgfleet run test"
ODD = 'we "ird.$na%me'


def take(database: Database) -> None:
    with held_snapshot(database, application_name=NAME):
        pass


def test_a_snapshot_shows_one_instant_to_all_its_readers(cluster: Cluster) -> None:
    name = cluster.new_database("CREATE TABLE t (i int)", "INSERT INTO t VALUES (1), (2)")
    database = cluster.database(name)
    with held_snapshot(database, application_name=NAME) as snapshot:
        assert abs(snapshot.taken_at - datetime.now(UTC)) < timedelta(minutes=5)
        assert snapshot.taken_at.tzinfo is not None
        assert snapshot.facts.server.major == cluster.major
        cluster.sql(name, "INSERT INTO t VALUES (3)", "CREATE TABLE later (i int)")
        with snapshot.reader() as one, snapshot.reader() as two:
            for reader in (one, two):
                assert [count.rows for count in count_rows(reader, snapshot.tables)] == [2]
                assert reader.execute("SHOW row_security").fetchone() == ("off",)
                with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                    reader.execute("INSERT INTO public.t VALUES (9)")
        snapshot.alive()
    assert cluster.sql("postgres", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


def test_what_is_counted(cluster: Cluster) -> None:
    name = cluster.new_database(
        "CREATE TABLE parent (i int)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO parent SELECT generate_series(1, 3)",
        "INSERT INTO child SELECT generate_series(1, 5)",
        "CREATE TABLE parts (i int) PARTITION BY RANGE (i)",
        "CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        "INSERT INTO parts SELECT generate_series(1, 7)",
        "CREATE MATERIALIZED VIEW mv AS SELECT * FROM parent",
        "CREATE UNLOGGED TABLE fast AS SELECT 1 AS i",
        "CREATE FOREIGN DATA WRAPPER f",
        "CREATE SERVER s FOREIGN DATA WRAPPER f",
        "CREATE FOREIGN TABLE far (i int) SERVER s",
        f"""CREATE SCHEMA "{ODD.replace('"', '""')}" """,
        f"""CREATE TABLE "{ODD.replace('"', '""')}"."{ODD.replace('"', '""')}" AS SELECT repeat('x', 9000) AS text""",
    )
    seen = []
    with held_snapshot(cluster.database(name), application_name=NAME) as snapshot:
        kinds = {table.name: table.kind for table in snapshot.tables}
        assert (kinds["far"], kinds["mv"], kinds["parts"]) == ("foreign", "matview", "partitioned")
        with snapshot.reader() as reader:
            counts = count_rows(reader, snapshot.tables, seen.append)
    assert seen == counts
    assert {count.name: count.rows for count in counts} == {
        "parent": 3, "child": 5, "parts_1": 7, "fast": 1, ODD: 1,
    }  # fmt: skip
    assert all(count.bytes > 0 for count in counts)
    assert {count.schema_name for count in counts} == {"public", ODD}


def test_tables_of_others_that_are_no_business_of_a_dump(cluster: Cluster) -> None:
    name = cluster.new_database("CREATE TABLE t (i int)")
    with cluster.connect(name) as other:
        other.execute("CREATE TEMPORARY TABLE mine AS SELECT 1")
        with held_snapshot(cluster.database(name), application_name=NAME) as snapshot:
            assert [table.name for table in snapshot.tables] == ["t"]


def test_tables_of_extensions(pg15: Cluster) -> None:
    """pg_dump leaves them to CREATE EXTENSION, but for the rows that the extension wants dumped."""
    name = pg15.new_database(
        "CREATE EXTENSION pg_trgm", "CREATE TABLE own (i int)", "CREATE TABLE config (i int)"
    )
    pg15.sql(name, "ALTER EXTENSION pg_trgm ADD TABLE own", "ALTER EXTENSION pg_trgm ADD TABLE config")
    pg15.sql(
        name, "UPDATE pg_extension SET extconfig = ARRAY['config'::regclass::oid] WHERE extname = 'pg_trgm'"
    )
    with held_snapshot(pg15.database(name), application_name=NAME) as snapshot:
        assert [table.name for table in snapshot.tables] == ["config"]


def test_only_one_backup_of_a_database_at_a_time(cluster: Cluster) -> None:
    database = cluster.database(cluster.new_database())
    with (
        held_snapshot(database, application_name="pgfleet run first"),
        pytest.raises(
            Busy, match=r'goimg is being backed up already by "pgfleet run first" \(pid \d+, role'
        ) as caught,
        held_snapshot(database, application_name=NAME),
    ):
        pass
    assert caught.value.retryable
    take(database)
    take(database.model_copy(update={"alias": "another"}))


def test_the_advisory_key_is_stable_and_signed() -> None:
    """Workers of different releases must agree on it: this number never changes."""
    database = Database(alias="goimg", name="goimg")
    assert advisory_key(database) == 123668951425207455
    keys = {advisory_key(Database(alias=f"a{number}", name="x")) for number in range(100)}
    assert len(keys) == 100
    assert min(keys) < 0 <= max(keys) < 2**63


def test_a_holder_with_a_negative_key_is_named_too(cluster: Cluster) -> None:
    name = cluster.new_database()
    alias = next(f"a{n}" for n in range(99) if advisory_key(Database(alias=f"a{n}", name=name)) < 0)
    database = cluster.database(name, alias=alias)
    with held_snapshot(database, application_name="holder"), pytest.raises(Busy, match="holder"):
        take(database)


def test_a_locked_table_and_its_locker_are_named(cluster: Cluster) -> None:
    name = cluster.new_database("CREATE TABLE users (i int)", "CREATE TABLE zebras (i int)")
    with cluster.connect(name, application_name="migration") as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(Busy) as caught:
            take(cluster.database(name))
        assert 0.9 < time.monotonic() - started < 8
        pid = other.info.backend_pid
        assert "Table public.users of" in caught.value.message
        assert f'by "migration" (pid {pid}, role postgres, since ' in caught.value.message
        other.execute("ROLLBACK")
    _take_soon(cluster.database(name))


def _take_soon(database: Database) -> None:
    """The server lets go of the lock of a closed session within moments."""
    deadline = time.monotonic() + 10
    while True:
        try:
            take(database)
        except Busy:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        else:
            return


def test_a_role_that_may_not_read_everything(cluster: Cluster) -> None:
    name = cluster.new_database(
        "CREATE TABLE a (i serial)", "CREATE TABLE b (i int)", "CREATE SCHEMA s", "CREATE TABLE s.c (i int)",
        "SELECT lo_from_bytea(0, 'x')",
    )  # fmt: skip
    database = cluster.as_role(name, name)
    with closing(connect(database, name, application_name="x")) as connection:
        problems = privilege_problems(connection, database)
    assert [problem.message for problem in problems] == [
        f"{name} may not read 1 schema of {name}: s.",
        f"{name} may not read 2 tables of {name}: public.a, public.b.",
        f"{name} may not read 1 sequence of {name}: public.a_i_seq.",
        f"{name} may not read 1 large objects of {name}.",
    ]
    with pytest.raises(DumpFailed, match="may not read 1 schema"):
        take(database)
    cluster.sql("postgres", f"GRANT pg_read_all_data TO {name}")
    with pytest.raises(DumpFailed, match="large objects") as caught:
        take(database)
    assert "GRANT SELECT ON LARGE OBJECT" in caught.value.hint
    cluster.sql(name, "DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP"
                f" EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO {name}', o); END LOOP; END $$")  # fmt: skip
    take(database)


def test_what_is_excluded_needs_no_privilege_and_no_lock(cluster: Cluster) -> None:
    name = cluster.new_database("CREATE TABLE a (i int)", "CREATE SCHEMA s", "CREATE TABLE s.c (i int)")
    cluster.sql(name, f"GRANT SELECT ON a TO {name}")
    database = cluster.as_role(name, name, exclude_schemas=("s",))
    with cluster.connect(name) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE s.c IN ACCESS EXCLUSIVE MODE")
        with held_snapshot(database, application_name=NAME) as snapshot:
            assert [table.name for table in snapshot.tables] == ["a"]


def test_row_level_security(cluster: Cluster) -> None:
    name = cluster.new_database(
        "CREATE TABLE t (i int)",
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY p ON t USING (true)",
    )
    cluster.sql("postgres", f"GRANT pg_read_all_data TO {name}")
    database = cluster.as_role(name, name)
    with pytest.raises(
        DumpFailed, match=r"Row-level security hides rows from .* in 1 table of .*: public\.t"
    ) as caught:
        take(database)
    assert "BYPASSRLS" in caught.value.hint
    take(cluster.database(name))
    cluster.sql("postgres", f"ALTER ROLE {name} BYPASSRLS")
    take(database)


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [
        ("exclude_tables", "nosuch"), ("exclude_schemas", "publik"), ("exclude_tables", "a.b.c"),
        ("exclude_tables", "(t"), ("exclude_schemas", "public.t"), ("exclude_tables", "other.t"),
    ],
)  # fmt: skip
def test_an_exclusion_that_means_nothing_is_an_error(pg15: Cluster, setting: str, pattern: str) -> None:
    name = pg15.new_database("CREATE TABLE t (i int)")
    with pytest.raises(ConfigError, match=setting):
        take(pg15.database(name, **{setting: (pattern,)}))


class Interference:
    """Does something with the tables at the moment between listing and locking them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, action: Callable[[int], object]) -> None:
        self.calls = 0
        real = module._lock

        def lock(connection: Connection, *arguments: object) -> None:
            self.calls += 1
            action(self.calls)
            real(connection, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(module, "_lock", lock)


def test_a_table_created_meanwhile_is_not_missed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    name = cluster.new_database("CREATE TABLE a (i int)")

    def action(call: int) -> None:
        if call == 1:
            cluster.sql(name, "CREATE TABLE b (i int)")

    moment = Interference(monkeypatch, action)
    with held_snapshot(cluster.database(name), application_name=NAME) as snapshot:
        assert [table.name for table in snapshot.tables] == ["a", "b"]
        locked = cluster.sql(
            name, "SELECT count(*) FROM pg_locks WHERE relation IN ('a'::regclass, 'b'::regclass)"
        )
        assert locked == [(2,)]
    assert moment.calls == 2


def test_a_table_dropped_or_replaced_meanwhile(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    name = cluster.new_database("CREATE TABLE a (i int)", "CREATE TABLE b (i int)")

    def action(call: int) -> None:
        if call == 1:
            cluster.sql(name, "DROP TABLE a")
        if call == 2:
            cluster.sql(name, "DROP TABLE b", "CREATE TABLE b (i text)")

    moment = Interference(monkeypatch, action)
    with held_snapshot(cluster.database(name), application_name=NAME) as snapshot:
        assert [table.name for table in snapshot.tables] == ["b"]
    assert moment.calls == 3


def test_a_database_that_never_rests_is_busy(pg15: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    name = pg15.new_database()
    Interference(monkeypatch, lambda call: pg15.sql(name, f"CREATE TABLE t{call} (i int)"))
    with pytest.raises(Busy, match="change faster"):
        take(pg15.database(name))


def test_many_tables_are_locked_in_batches(pg17: Cluster) -> None:
    name = pg17.new_database(
        "DO $$ BEGIN FOR i IN 1..1100 LOOP EXECUTE format('CREATE TABLE t%s (i int)', i); END LOOP; END $$"
    )
    with held_snapshot(pg17.database(name), application_name=NAME) as snapshot:
        held = pg17.sql(
            name, "SELECT count(*) FROM pg_locks WHERE mode = 'AccessShareLock' AND relation >= 16384"
        )
        assert held[0][0] >= 1100
        assert len(snapshot.tables) == 1100


def test_no_timeout_of_the_role_ends_it(cluster: Cluster) -> None:
    name = cluster.new_database("CREATE TABLE t (i int)")
    settings = ["idle_in_transaction_session_timeout", "statement_timeout"]
    settings += ["transaction_timeout"] if cluster.major >= 17 else []
    for setting in settings:
        cluster.sql("postgres", f"ALTER DATABASE {name} SET {setting} = 1000")
    with (
        held_snapshot(cluster.database(name), application_name=NAME) as snapshot,
        snapshot.reader() as reader,
    ):
        for connection in (snapshot._connection, reader):
            for setting in settings:
                assert connection.execute(f"SHOW {setting}").fetchone() == ("0",)


def test_a_lost_connection_is_noticed(cluster: Cluster) -> None:
    database = cluster.database(cluster.new_database())
    with held_snapshot(database, application_name=NAME) as snapshot:
        pid = snapshot._connection.info.backend_pid
        cluster.sql("postgres", f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(DatabaseUnavailable):
            snapshot.alive()
        with pytest.raises(DatabaseUnavailable), snapshot.reader():
            pass
        with pytest.raises(DatabaseUnavailable):
            snapshot.alive()
    take(database)


def test_a_reader_does_not_wait_for_ever_behind_a_migration(cluster: Cluster) -> None:
    name = cluster.new_database("CREATE TABLE t (i int)")
    with (
        held_snapshot(cluster.database(name), application_name=NAME) as snapshot,
        cluster.migrating(name, "t"),
        pytest.raises(Busy, match=r"Table public\.t of"),
        snapshot.reader(),
    ):
        pass


def test_a_standby(fresh: Cluster) -> None:
    name = fresh.new_database(
        "CREATE TABLE t AS SELECT generate_series(1, 4) i", "CREATE UNLOGGED TABLE u (i int)"
    )
    arguments = ["-U", "postgres", "-D", fresh.root / "standby", "-R", "-c", "fast", "--no-sync"]
    fresh.call("pg_basebackup", "-h", fresh.root, *arguments)
    fresh.start("standby", port=5433)
    database = fresh.database(name, port=5433)
    with held_snapshot(database, application_name=NAME) as snapshot, snapshot.reader() as reader:
        assert snapshot.facts.in_recovery
        assert [(count.name, count.rows) for count in count_rows(reader, snapshot.tables)] == [("t", 4)]
        with pytest.raises(Busy, match="being backed up"):
            take(database)
