"""pg_dump for real: what it writes restores, and every way to fail is told apart and leaves nothing behind."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import threading
from pathlib import Path

import pytest
from pg_cluster import PASSWORD, Cluster, bin_dir, until

from worker.config.model import Database
from worker.errors import (
    Busy,
    Cancelled,
    ConfigError,
    DatabaseUnavailable,
    DumpFailed,
    MissingDependency,
    PgfleetError,
    SpoolFull,
)
from worker.postgres.dump import Archive, check_archive, compression, dump_archives
from worker.postgres.gaps import gaps
from worker.postgres.globals import dump_globals
from worker.postgres.snapshot import held_snapshot
from worker.postgres.tables import count_rows
from worker.postgres.tools import Tools, discover

pytest_plugins = ["pg_fixtures"]
NAME = "pgfleet run test"
SCHEMA = (
    "CREATE TABLE users (id serial PRIMARY KEY, name text)",
    "INSERT INTO users (name) SELECT 'user ' || i FROM generate_series(1, 500) i",
    'CREATE TABLE "Odd ""na.me$" (i int REFERENCES users, t text)',
    """INSERT INTO "Odd ""na.me$" SELECT 1 + i % 500, repeat(md5(i::text), 20) FROM generate_series(1, 3000) i""",
    "CREATE TABLE log (at int, line text) PARTITION BY RANGE (at)",
    "CREATE TABLE log_1 PARTITION OF log FOR VALUES FROM (0) TO (2000)",
    "CREATE TABLE log_2 PARTITION OF log DEFAULT",
    "INSERT INTO log SELECT i, repeat(md5(i::text), 5) FROM generate_series(1, 5000) i",
    "CREATE TABLE empty (i int)",
    "CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM users",
    "SELECT lo_from_bytea(0, decode(md5(i::text), 'hex')) FROM generate_series(1, 9) i",
)


def tools_of(major: int) -> Tools:
    return discover((bin_dir(major),))[major]


def dump(database: Database, tools: Tools, directory: Path) -> list[Archive]:
    with held_snapshot(database, application_name=NAME) as snapshot:
        return dump_archives(snapshot, tools, directory, stop=threading.Event())


def fails(
    database: Database,
    tools: Tools,
    directory: Path,
    error: type[PgfleetError],
    stop: threading.Event | None = None,
) -> PgfleetError:
    with held_snapshot(database, application_name=NAME) as snapshot, pytest.raises(error) as caught:
        dump_archives(snapshot, tools, directory, stop=stop or threading.Event())
    assert not list(directory.iterdir()), "something is left behind"
    assert PASSWORD not in str(caught.value)
    return caught.value


def restore(cluster: Cluster, archives: list[Archive]) -> str:
    """By hand, as the manifest says."""
    name = cluster.new_database()
    base = [
        bin_dir(cluster.major) / "pg_restore",
        "--exit-on-error",
        "-h",
        cluster.root,
        "-U",
        "postgres",
        "-d",
        name,
    ]
    sections = ["pre-data", "data", "post-data"] if len(archives) > 1 else [None]
    for section in sections:
        for archive in archives if section == "data" else archives[:1]:
            chosen = [f"--section={section}"] if section else []
            subprocess.run([*base, *chosen, archive.path], check=True)
    return name


def sessions(cluster: Cluster) -> list[int]:
    rows = cluster.sql(
        "postgres", f"SELECT pid FROM pg_stat_activity WHERE application_name = '{NAME} pg_dump'"
    )
    return [pid for (pid,) in rows]


@pytest.mark.parametrize("major", [15, 16, 17, 18])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_dump_restores(request: pytest.FixtureRequest, tmp_path: Path, major: int, jobs: int) -> None:
    cluster: Cluster = request.getfixturevalue(f"pg{major}")
    name = cluster.new_database(*SCHEMA)
    database = cluster.database(name, jobs=jobs, split_bytes=0)
    tools, seen = tools_of(major), list[int]()
    with held_snapshot(database, application_name=NAME) as snapshot, snapshot.reader() as reader:
        cluster.sql(name, "INSERT INTO users (name) SELECT 'late' FROM generate_series(1, 70)")
        cluster.sql(name, "DELETE FROM log WHERE at % 2 = 0")
        archives = dump_archives(snapshot, tools, tmp_path, stop=threading.Event(), progress=seen.append)
        expected = count_rows(reader, snapshot.tables)
    assert [archive.stem for archive in archives] == ["dump", "data-01.dump", "data-02.dump"][:jobs]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(archive.stem for archive in archives)
    for archive in archives:
        assert archive.size == archive.path.stat().st_size > 0
        assert archive.entries > 0
        assert archive.path.stat().st_mode & 0o777 == 0o600
    assert seen == sorted(seen)
    restored = restore(cluster, archives)
    with held_snapshot(cluster.database(restored), application_name=NAME) as other, other.reader() as reader:
        found = count_rows(reader, other.tables)
    assert [(c.name, c.rows) for c in found] == [(c.name, c.rows) for c in expected]
    assert {c.name: c.rows for c in found}["users"] == 500
    assert cluster.sql(restored, "SELECT count(*) FROM pg_largeobject_metadata") == [(9,)]
    assert cluster.sql(restored, "SELECT nextval('users_id_seq') > 500") == [(True,)]
    assert cluster.sql(restored, "SELECT count(*) FROM pg_constraint WHERE contype = 'f'") == [(1,)]


def test_the_rows_of_a_big_table_are_in_one_archive_only(pg17: Cluster, tmp_path: Path) -> None:
    name = pg17.new_database(
        "CREATE TABLE big AS SELECT repeat('x', 100) t FROM generate_series(1, 20000)", *SCHEMA
    )
    archives = dump(pg17.database(name, jobs=2, split_bytes=0), tools_of(17), tmp_path)
    listings = [
        subprocess.run(
            [bin_dir(17) / "pg_restore", "-l", archive.path], check=True, capture_output=True, text=True
        )
        for archive in archives
    ]
    assert "TABLE DATA public big" not in listings[0].stdout
    assert "TABLE public big" in listings[0].stdout
    assert "TABLE DATA public big" in listings[1].stdout
    assert "BLOBS" not in listings[1].stdout
    small = pg17.database(name, jobs=2)  # below the default split_bytes
    assert [archive.stem for archive in dump(small, tools_of(17), tmp_path)] == ["dump"]


@pytest.mark.parametrize(
    ("major", "setting", "listed"),
    [
        (17, "auto", "zstd"),
        (17, "lz4", "lz4"),
        (17, "9", "gzip"),
        (17, "none", "none"),
        (15, "auto", "6"),
        (15, "9", "9"),
    ],
)
def test_compression(
    request: pytest.FixtureRequest, tmp_path: Path, major: int, setting: str, listed: str
) -> None:
    cluster: Cluster = request.getfixturevalue(f"pg{major}")
    name = cluster.new_database("CREATE TABLE t AS SELECT repeat('x', 100) FROM generate_series(1, 10000)")
    (archive,) = dump(cluster.database(name, compression=setting), tools_of(major), tmp_path)
    text = subprocess.run(
        [bin_dir(major) / "pg_restore", "-l", archive.path], check=True, capture_output=True
    ).stdout
    assert f"Compression: {listed}".encode() in text or (major == 15 and b"Compression: -1" in text)
    assert (archive.size > 500_000) == (setting == "none")


def test_a_compression_that_cannot_be_is_refused_before_work(pg15: Cluster, tmp_path: Path) -> None:
    database = pg15.database(pg15.new_database(), compression="zstd:3")
    with pytest.raises(ConfigError):
        compression(database, tools_of(15))
    fails(database, tools_of(15), tmp_path, ConfigError)


def test_an_empty_database(cluster: Cluster, tmp_path: Path) -> None:
    (archive,) = dump(cluster.database(cluster.new_database()), tools_of(cluster.major), tmp_path)
    assert archive.entries > 0


def test_a_restricted_role_with_an_awkward_password(cluster: Cluster, tmp_path: Path) -> None:
    name = cluster.new_database("CREATE TABLE t (i int)")
    cluster.sql("postgres", f"GRANT pg_read_all_data TO {name}")
    (archive,) = dump(cluster.as_role(name, name), tools_of(cluster.major), tmp_path)
    assert archive.stem == "dump"


def test_exclusions_mean_what_pg_dump_takes_them_for(pg15: Cluster, tmp_path: Path) -> None:
    more = [
        'CREATE TABLE "Price$" ()',
        "CREATE TABLE price$ ()",
        "CREATE SCHEMA s",
        "CREATE TABLE s.users ()",
    ]
    name = pg15.new_database(*SCHEMA, *more)
    line = re.compile(r"\d (?:TABLE|MATERIALIZED VIEW) ((?:public|s) .*) postgres$", re.MULTILINE)
    patterns = [
        "users", "LOG*", "public.log_?", '"Odd ""na.me$"', "s.*", "s*.users", "log_[12]", "(users|log)", "Price$",
        '"Price$"', "pub*.*", "mv", "*", "*.*e*",
    ]  # fmt: skip
    everything = 11
    for pattern in patterns:
        database = pg15.database(name, exclude_tables=(pattern,))
        with held_snapshot(database, application_name=NAME) as snapshot:
            ours = {f"{table.schema} {table.name}" for table in snapshot.tables}
            (archive,) = dump_archives(snapshot, tools_of(15), tmp_path, stop=threading.Event())
        command = [bin_dir(15) / "pg_restore", "-l", archive.path]
        listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert ours == set(line.findall(listing)), pattern
        assert len(ours) < everything


def test_names_in_another_encoding_than_utf_8(pg15: Cluster, tmp_path: Path) -> None:
    name = "latin_" + pg15.new_database()
    pg15.sql("postgres", f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with pg15.connect(name, client_encoding="UTF8") as connection:
        connection.execute(
            "CREATE TABLE \"größe\" AS SELECT 'é' || i AS text FROM generate_series(1, 2000) i"
        )
        connection.execute('CREATE TABLE "maß" (i int)')
    database = pg15.database(name, jobs=2, split_bytes=0, exclude_tables=("ma?",))
    archives = dump(database, tools_of(15), tmp_path)
    assert [archive.stem for archive in archives] == ["dump"]  # one table that is everything needs no other
    command = [bin_dir(15) / "pg_restore", "-l", archives[0].path]
    listing = subprocess.run(command, check=True, capture_output=True).stdout
    assert "größe".encode("latin-1") in listing
    assert "maß".encode("latin-1") not in listing
    archives = dump(pg15.database(name, exclude_tables=("maß",)), tools_of(15), tmp_path)
    command = [bin_dir(15) / "pg_restore", "-l", archives[0].path]
    listing = subprocess.run(command, check=True, capture_output=True).stdout
    assert "größe".encode() in listing
    assert "maß".encode() not in listing


def test_a_table_that_a_migration_waits_for(cluster: Cluster, tmp_path: Path) -> None:
    name = cluster.new_database(*SCHEMA)
    database = cluster.database(name)
    with held_snapshot(database, application_name=NAME) as snapshot, cluster.migrating(name, "users"):
        with pytest.raises(
            Busy, match=r"Table public\.users of .* was locked for longer than 1 s by"
        ) as caught:
            dump_archives(snapshot, tools_of(cluster.major), tmp_path, stop=threading.Event())
        assert caught.value.retryable
    assert not list(tmp_path.iterdir())


def test_a_privilege_that_is_lost_meanwhile(pg15: Cluster, tmp_path: Path) -> None:
    name = pg15.new_database("CREATE TABLE t (i int)", "CREATE TABLE u (i int)")
    pg15.sql("postgres", f"GRANT pg_read_all_data TO {name}")
    with held_snapshot(pg15.as_role(name, name), application_name=NAME) as snapshot:
        pg15.sql("postgres", f"REVOKE pg_read_all_data FROM {name}")
        with pytest.raises(DumpFailed, match="may not read table t of") as caught:
            dump_archives(snapshot, tools_of(15), tmp_path, stop=threading.Event())
    assert "pg_read_all_data" in caught.value.hint


def test_row_level_security_that_comes_meanwhile(pg15: Cluster, tmp_path: Path) -> None:
    name = pg15.new_database("CREATE TABLE t (i int)")
    pg15.sql("postgres", f"GRANT pg_read_all_data TO {name}")
    with held_snapshot(pg15.as_role(name, name), application_name=NAME) as snapshot:
        pg15.sql(name, "UPDATE pg_class SET relrowsecurity = true WHERE relname = 't'")
        with pytest.raises(DumpFailed, match="Row-level security hides rows of table t from") as caught:
            dump_archives(snapshot, tools_of(15), tmp_path, stop=threading.Event())
    assert "BYPASSRLS" in caught.value.hint


def test_a_lost_snapshot(cluster: Cluster, tmp_path: Path) -> None:
    database = cluster.database(cluster.new_database())
    with held_snapshot(database, application_name=NAME) as snapshot:
        pid = snapshot._connection.info.backend_pid
        cluster.sql("postgres", f"SELECT pg_terminate_backend({pid})")
        until(lambda: not cluster.sql("postgres", f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid}"))
        with pytest.raises(DatabaseUnavailable, match="snapshot") as caught:
            dump_archives(snapshot, tools_of(cluster.major), tmp_path, stop=threading.Event())
    assert caught.value.retryable


def test_stop_and_a_cut_connection_and_a_timeout(cluster: Cluster, tmp_path: Path) -> None:
    """While pg_dump waits behind a migration."""
    name = cluster.new_database(*SCHEMA)
    tools = tools_of(cluster.major)

    def cut(stop: threading.Event) -> None:
        until(lambda: len(sessions(cluster)) == 3)
        cluster.sql("postgres", f"SELECT pg_terminate_backend({sessions(cluster)[1]})")

    def halt(stop: threading.Event) -> None:
        until(lambda: len(sessions(cluster)) == 3)
        stop.set()

    for action, error, changes in (
        (halt, Cancelled, {}),
        (cut, DatabaseUnavailable, {}),
        (lambda _: None, DumpFailed, {"dump_timeout": 1}),
    ):
        database = cluster.database(name, jobs=3, split_bytes=0, lock_timeout=50, **changes)
        stop = threading.Event()
        with (
            held_snapshot(database, application_name=NAME) as snapshot,
            cluster.migrating(name, "users"),
        ):
            helper = threading.Thread(target=action, args=(stop,))
            helper.start()
            with pytest.raises(error):
                dump_archives(snapshot, tools, tmp_path, stop=stop)
            helper.join()
            until(lambda: not sessions(cluster))
        assert not list(tmp_path.iterdir())


def test_a_password_is_in_no_command_line(pg15: Cluster, tmp_path: Path) -> None:
    name = pg15.new_database("CREATE TABLE users (i int)")
    pg15.sql("postgres", f"GRANT pg_read_all_data TO {name}")
    database = pg15.as_role(name, name, lock_timeout=50)
    stop, lines = threading.Event(), list[bytes]()

    def look() -> None:
        until(lambda: bool(sessions(pg15)))
        for process in Path("/proc").glob("[0-9]*"):
            try:
                line = (process / "cmdline").read_bytes()
                if b"pg_dump" in line and str(tmp_path).encode() in line:
                    lines.append(line)
                    assert PASSWORD.encode() in (process / "environ").read_bytes()
            except OSError:
                continue
        stop.set()

    with held_snapshot(database, application_name=NAME) as snapshot, pg15.migrating(name, "users"):
        helper = threading.Thread(target=look)
        helper.start()
        with pytest.raises(Cancelled):
            dump_archives(snapshot, tools_of(15), tmp_path, stop=stop)
        helper.join()
    assert len(lines) == 1
    assert PASSWORD.encode() not in lines[0]


def test_what_progress_raises_ends_the_dump(pg17: Cluster, tmp_path: Path) -> None:
    name = pg17.new_database("CREATE TABLE users (i int)")

    def full(written: int) -> None:
        raise SpoolFull("No room is left.", "Make some.")

    database = pg17.database(name, lock_timeout=50)
    with held_snapshot(database, application_name=NAME) as snapshot, pg17.migrating(name, "users"):
        with pytest.raises(SpoolFull):
            dump_archives(snapshot, tools_of(17), tmp_path, stop=threading.Event(), progress=full)
        until(lambda: not sessions(pg17))
    assert not list(tmp_path.iterdir())


INCOMPRESSIBLE = (
    "CREATE TABLE t AS SELECT string_agg(md5((i * j)::text), '') FROM generate_series(1, 100) i,"
    " generate_series(1, 3000) j GROUP BY j"
)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk(pg17: Cluster, small_disk: Path) -> None:
    name = pg17.new_database(INCOMPRESSIBLE)
    error = fails(pg17.database(name), tools_of(17), small_disk, SpoolFull)
    assert "spool" in error.message
    disk = os.statvfs(small_disk)
    assert disk.f_bavail == disk.f_blocks, "the space was not given back"


def test_a_limit_on_the_size_of_files(cluster: Cluster, tmp_path: Path) -> None:
    name = cluster.new_database(INCOMPRESSIBLE)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        fails(cluster.database(name), tools_of(cluster.major), tmp_path, SpoolFull)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_leftovers_of_a_killed_dump_are_cleared(pg15: Cluster, tmp_path: Path) -> None:
    for stale in ("dump.0badc0de.partial", "dump"):
        (tmp_path / stale).write_bytes(b"half of an archive")
    (tmp_path / "facts.json").write_text("{}")
    (archive,) = dump(pg15.database(pg15.new_database()), tools_of(15), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dump", "facts.json"]
    assert archive.path.read_bytes()[:5] == b"PGDMP"


def test_an_archive_that_is_none(pg15: Cluster, tmp_path: Path) -> None:
    (archive,) = dump(pg15.database(pg15.new_database(*SCHEMA)), tools_of(15), tmp_path)
    whole = archive.path.read_bytes()
    for content in (b"", b"not an archive at all", whole[:2000], b"X" + whole[1:]):
        archive.path.write_bytes(content)
        with pytest.raises(DumpFailed, match="cannot read the archive dump"):
            check_archive(tools_of(15), archive.path)


def test_a_client_that_is_too_old(pg17: Cluster, tmp_path: Path) -> None:
    fails(pg17.database(pg17.new_database()), tools_of(15), tmp_path, MissingDependency)


def test_globals(cluster: Cluster, tmp_path: Path) -> None:
    name = cluster.new_database()
    path, tools = tmp_path / "globals.sql", tools_of(cluster.major)
    assert dump_globals(tools, cluster.database(name), path, application_name=NAME) == []
    text = path.read_text()
    assert f"CREATE ROLE {name};" in text
    assert f"ALTER ROLE {name} WITH" in text
    assert "SCRAM-SHA-256" in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_globals_without_the_right_to_see_passwords(cluster: Cluster, tmp_path: Path) -> None:
    name = cluster.new_database()
    path, tools = tmp_path / "globals.sql", tools_of(cluster.major)
    (gap,) = dump_globals(tools, cluster.as_role(name, name), path, application_name=NAME)
    assert gap.what == "passwords of roles"
    assert f"CREATE ROLE {name};" in path.read_text()
    assert "SCRAM" not in path.read_text()


def test_globals_where_nothing_may_be_seen(fresh: Cluster, tmp_path: Path) -> None:
    name = fresh.new_database()
    fresh.sql(name, "REVOKE SELECT ON pg_roles FROM PUBLIC")
    path = tmp_path / "globals.sql"
    (gap,) = dump_globals(tools_of(15), fresh.as_role(name, name), path, application_name=NAME)
    assert gap.what == "roles and tablespaces"
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="refused the password"):
        dump_globals(tools_of(15), fresh.as_role(name, name, password=None), path, application_name=NAME)
    with pytest.raises(DatabaseUnavailable, match="No PostgreSQL server answers"):
        dump_globals(tools_of(15), fresh.database(name, port=1), path, application_name=NAME)
    assert not list(tmp_path.iterdir())


def test_gaps(pg15: Cluster) -> None:
    name = pg15.new_database(
        "CREATE FOREIGN DATA WRAPPER f",
        "CREATE SERVER s FOREIGN DATA WRAPPER f",
        "CREATE FOREIGN TABLE far (i int) SERVER s",
        "CREATE MATERIALIZED VIEW mv AS SELECT 1",
        "CREATE SUBSCRIPTION sub CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false, slot_name = NONE)",
    )
    try:
        for database, subscription in (
            (pg15.database(name), "the state of subscription sub"),
            (pg15.as_role(name, name), "subscription sub"),
        ):
            with held_snapshot(database, application_name=NAME) as snapshot, snapshot.reader() as reader:
                found = gaps(reader, database, snapshot.facts, snapshot.tables)
            assert [gap.what for gap in found] == [
                "rows of foreign table public.far (server s)",
                "rows of materialized view public.mv",
                subscription,
            ]
    finally:
        pg15.sql(name, "DROP SUBSCRIPTION sub")
