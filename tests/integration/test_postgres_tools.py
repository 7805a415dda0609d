"""Client programs are found, told apart and asked what they can; inside of containers too.

There is no container engine here: `docker` is a stand-in that runs the command on this machine with exactly the
variables it was given, and like the real one leaves it running when the client is killed.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
from pg_cluster import PASSWORD, Cluster, bin_dir, until

from worker.config.model import Database
from worker.errors import (
    Cancelled,
    ConfigError,
    DatabaseUnavailable,
    DumpFailed,
    MissingDependency,
    SpoolFull,
)
from worker.postgres.dump import check_archive, dump_archives
from worker.postgres.globals import dump_globals
from worker.postgres.snapshot import held_snapshot
from worker.postgres.tools import Tools, client_for, discover, docker_tools, libraries

pytest_plugins = ["pg_fixtures"]
NAME = "pgfleet run test"
DOCKER = """#!{python}
import os, subprocess, sys
arguments = sys.argv[1:]
assert arguments[:2] == ["exec", "-i"], arguments
del arguments[:2]
inside = {{"PATH": "{bin}", "PGPORT": "5432"}}
while arguments[0] == "-e":
    inside[arguments[1]] = os.environ[arguments[1]]
    del arguments[:2]
container = arguments.pop(0)
if container == "none":
    sys.exit("Error response from daemon: No such container: none")
if container == "stopped":
    sys.exit("Error response from daemon: container 0c is not running")
if container == "bare":
    sys.exit('OCI runtime exec failed: exec: "pg_dump": executable file not found in $PATH: unknown')
if "PGHOST" in inside:
    inside["PGHOST"] = inside["PGHOST"].replace("localhost", "{host}")
sys.exit(subprocess.Popen(arguments, env=inside, start_new_session=True).wait())
"""


@pytest.fixture
def docker(pg17: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    program = tmp_path / "path" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER.format(python=sys.executable, bin=pg17.bin, host=pg17.root))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return pg17


def fake(directory: Path, name: str, text: str, code: int = 0) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    (directory / name).chmod(0o755)


def toolset(directory: Path, version: str, *names: str) -> Path:
    for name in names or ("pg_dump", "pg_restore", "pg_dumpall"):
        fake(directory, name, f"{name} (PostgreSQL) {version}")
    return directory


def test_installed_tools_are_found() -> None:
    found = discover()
    assert found[15].bin_dir == Path("/usr/lib/postgresql/15/bin")
    assert found[15].psql
    assert found[17].bin_dir == bin_dir(17)  # the embedded package
    assert all(tools.major == major for major, tools in found.items())
    assert found[15].path("pg_dump") == Path("/usr/lib/postgresql/15/bin/pg_dump")


def test_configured_directories_come_first(tmp_path: Path) -> None:
    mine = toolset(tmp_path / "mine", "15.99")
    found = discover((bin_dir(18), bin_dir(16), mine))
    assert (found[18].bin_dir, found[16].bin_dir) == (bin_dir(18), bin_dir(16))
    assert found[15] == Tools(15, 99, mine, psql=False)
    assert 17 in found


def test_the_path_is_searched_but_for_wrapper_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "pg_wrapper"
    fake(tmp_path, "pg_wrapper", "pg_dump (PostgreSQL) 41.0")
    shims = tmp_path / "shims"
    shims.mkdir()
    for name in ("pg_dump", "pg_restore", "pg_dumpall"):
        (shims / name).symlink_to(wrapper)
    real = toolset(tmp_path / "real", "41.1")
    monkeypatch.setenv("PATH", f"{shims}:{real}:{os.environ['PATH']}")
    assert discover.__wrapped__()[41].bin_dir == real
    monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH'].replace(str(real), '')}")
    assert discover.__wrapped__()[41].bin_dir == shims  # better than nothing


def test_a_program_on_the_path_that_is_not_ours_to_run_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file without the right to execute it, and (but for root) a directory that must not be entered."""
    for name in ("forbidden", "closed"):
        for program in (tools := toolset(tmp_path / name, "42.0")).iterdir():
            program.chmod(0o600)
    tools.chmod(0)
    monkeypatch.setenv("PATH", f"{tmp_path / 'forbidden'}:{tools}:{os.environ['PATH']}")
    try:
        assert 42 not in discover.__wrapped__()
    finally:
        tools.chmod(0o700)


def test_a_configured_directory_must_be_good(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no pg_dump"):
        discover((tmp_path,))
    toolset(tmp_path, "17.1", "pg_dump", "pg_restore")
    with pytest.raises(ConfigError, match="there is no pg_dumpall"):
        discover((tmp_path, tmp_path))
    fake(tmp_path, "pg_dumpall", "Error: You must install a client", 1)
    with pytest.raises(ConfigError, match="pg_dumpall does not run"):
        discover((tmp_path, tmp_path, tmp_path))
    toolset(tmp_path, "16.1", "pg_dumpall")
    with pytest.raises(ConfigError, match="different majors"):
        discover((tmp_path, tmp_path, tmp_path, tmp_path))


def test_compression_libraries_are_asked_for() -> None:
    found = discover((bin_dir(16), bin_dir(18)))
    assert libraries(found[15]) == {"gzip"}
    assert libraries(found[16]) == libraries(found[18]) == {"gzip"}  # built without
    assert libraries(found[17]) == {"gzip", "zstd", "lz4"}


def test_the_right_client_for_a_server() -> None:
    database = Database(alias="goimg")
    assert client_for(database, (17, 1), ()).major == 17
    assert client_for(database, (16, 1), (bin_dir(16),)).major == 16
    with pytest.raises(MissingDependency, match=r"The server of goimg is PostgreSQL 99\.1"):
        client_for(database, (99, 1), ())


def test_variables_of_a_child() -> None:
    tools = discover()[15]
    database = Database(
        alias="x", host="db", port=5433, user="u", name="n", password="p a s s", sslmode="require"
    )
    env = tools.connection_env(database, "other", application_name="pgfleet run 1")
    assert env == {
        "PGHOST": "db", "PGPORT": "5433", "PGUSER": "u", "PGDATABASE": "other", "PGSSLMODE": "require",
        "PGPASSWORD": "p a s s", "PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "pgfleet run 1",
    }  # fmt: skip
    assert "PGPASSWORD" not in tools.connection_env(Database(alias="x"), "n", application_name="x")


def test_a_dump_out_of_a_container(docker: Cluster, tmp_path: Path) -> None:
    name = docker.new_database("CREATE TABLE t AS SELECT generate_series(1, 2000) i")
    docker.sql("postgres", f"GRANT pg_read_all_data TO {name}")
    database = docker.as_role(name, name, use_docker=True, docker_container="db")
    tools = client_for(database, (17, 0), ())
    assert (tools.major, tools.container) == (17, "db")
    assert "zstd" in libraries(tools)
    command = tools.command("pg_dump", tools.connection_env(database, name, application_name="x"))
    assert not any(PASSWORD in part for part in command)
    directory = tmp_path / "run"
    directory.mkdir()
    with held_snapshot(database, application_name=NAME) as snapshot:
        (archive,) = dump_archives(snapshot, tools, directory, stop=threading.Event())
    assert archive.entries == check_archive(discover()[17], archive.path)
    assert archive.path.stat().st_mode & 0o777 == 0o600
    assert dump_globals(tools, database, directory / "globals.sql", application_name=NAME) == []
    assert f"CREATE ROLE {name};" in (directory / "globals.sql").read_text()


@pytest.mark.parametrize(
    ("container", "error", "message"),
    [
        ("none", ConfigError, "no Docker container called none"),
        ("stopped", DatabaseUnavailable, "stopped is not running"),
        ("bare", MissingDependency, "no pg_dump in the Docker container bare"),
    ],
)
def test_containers_that_cannot_be_used(
    docker: Cluster, container: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        docker_tools(container)


def test_without_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="docker is not installed"):
        docker_tools("db")


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs a docker client")
def test_without_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(MissingDependency, match="docker exec into db does not work"):
        docker_tools("db")


def test_a_server_newer_than_the_containers_client(docker: Cluster) -> None:
    database = docker.database(use_docker=True, docker_container="db")
    with pytest.raises(MissingDependency, match=r"PostgreSQL 18\.1, but the newest client tools here are 17"):
        client_for(database, (18, 1), ())


def test_stopping_reaches_into_the_container(docker: Cluster, tmp_path: Path) -> None:
    name = docker.new_database("CREATE TABLE t (i int)")
    database = docker.database(name, use_docker=True, docker_container="db", lock_timeout=100)
    stop, directory = threading.Event(), tmp_path / "run"
    directory.mkdir()
    count = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{NAME} pg_dump'"

    def halt() -> None:
        until(lambda: docker.sql("postgres", count) == [(1,)])
        stop.set()

    with held_snapshot(database, application_name=NAME) as snapshot, docker.migrating(name, "t"):
        helper = threading.Thread(target=halt)
        helper.start()
        with pytest.raises(Cancelled):
            dump_archives(snapshot, docker_tools("db"), directory, stop=stop)
        helper.join()
        until(lambda: docker.sql("postgres", count) == [(0,)])
    assert not list(directory.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_full_disk_while_a_container_streams(docker: Cluster, tmp_path: Path, small_disk: Path) -> None:
    name = docker.new_database(
        "CREATE TABLE t AS SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 100) i,"
        " generate_series(1, 1500) j GROUP BY j"
    )
    database = docker.database(name, use_docker=True, docker_container="db")
    with held_snapshot(database, application_name=NAME) as snapshot, pytest.raises(SpoolFull):
        dump_archives(snapshot, docker_tools("db"), small_disk, stop=threading.Event())
    assert not list(small_disk.iterdir())


def test_a_failure_inside_a_container_is_told_as_any_other(docker: Cluster, tmp_path: Path) -> None:
    name = docker.new_database("CREATE TABLE t (i int)")
    docker.sql("postgres", f"GRANT pg_read_all_data TO {name}")
    database = docker.as_role(name, name, use_docker=True, docker_container="db")
    with held_snapshot(database, application_name=NAME) as snapshot:
        docker.sql("postgres", f"REVOKE pg_read_all_data FROM {name}")
        with pytest.raises(DumpFailed, match="may not read table t"):
            dump_archives(snapshot, docker_tools("db"), tmp_path, stop=threading.Event())
