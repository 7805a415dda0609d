"""Connections that work, and every way in which they do not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from pg_cluster import Cluster
from pydantic import SecretStr

from worker.config.model import Database
from worker.errors import ConfigError, DatabaseUnavailable, DumpFailed, PgfleetError
from worker.postgres.server import connect, facts, translated

pytest_plugins = ["pg_fixtures"]


def refused(database: Database, error: type[PgfleetError]) -> PgfleetError:
    with pytest.raises(error) as caught:
        connect(database, database.name, application_name="pgfleet test").close()
    assert caught.value.message.endswith(".")
    assert caught.value.hint
    assert database.password is None or database.password.get_secret_value() not in str(caught.value)
    return caught.value


def test_connects_with_an_awkward_password(cluster: Cluster) -> None:
    name = cluster.new_database()
    with connect(cluster.as_role(name, name), name, application_name="pgfleet test") as connection:
        row = connection.execute("SELECT current_user::text, current_setting('application_name')").fetchone()
        assert row == (name, "pgfleet test")
        assert connection.autocommit


def test_wrong_password(cluster: Cluster) -> None:
    name = cluster.new_database()
    error = refused(cluster.as_role(name, name, password=SecretStr("guess")), ConfigError)
    assert error.message == f"The server {cluster.root}:5432 refused the password of {name}."
    refused(cluster.as_role(name, name, password=None), ConfigError)
    assert not error.retryable


def test_unknown_role_database_and_pg_hba(cluster: Cluster) -> None:
    error = refused(cluster.database("nowhere"), ConfigError)
    assert "has no database nowhere" in error.message
    cluster.sql("postgres", "DROP ROLE IF EXISTS rejected")
    error = refused(cluster.as_role("rejected", "postgres"), ConfigError)
    assert "pg_hba.conf" in error.message
    # With scram an unknown role is not told from a wrong password, on purpose; with trust it is.
    error = refused(cluster.as_role("nobody", "postgres"), ConfigError)
    assert "nobody" in error.message


def test_a_role_without_login_and_without_connect(cluster: Cluster) -> None:
    name = cluster.new_database()
    cluster.sql("postgres", f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC")
    assert "may not connect to database" in refused(cluster.as_role(name, name), ConfigError).message
    cluster.sql("postgres", f"ALTER ROLE {name} NOLOGIN")
    assert "may not log in" in refused(cluster.as_role(name, name), ConfigError).message


def test_no_connection_left_is_worth_another_try(cluster: Cluster) -> None:
    name = cluster.new_database()
    cluster.sql("postgres", f"ALTER ROLE {name} CONNECTION LIMIT 1")
    with connect(cluster.as_role(name, name), name, application_name="pgfleet test"):
        assert refused(cluster.as_role(name, name), DatabaseUnavailable).retryable


def test_nobody_answers(cluster: Cluster) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = refused(Database(alias="x", host="127.0.0.1", port=port), DatabaseUnavailable)
        assert error.message == f"No PostgreSQL server answers at 127.0.0.1:{port}."
    refused(cluster.database(port=1), DatabaseUnavailable)
    error = refused(Database(alias="x", host="no-such-host.invalid"), DatabaseUnavailable)
    assert "not known" in error.message


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_server_that_says_nothing(listener: socket.socket) -> None:
    database = Database(alias="x", host="127.0.0.1", port=listener.getsockname()[1], connect_timeout=2)
    assert "did not answer in time" in refused(database, DatabaseUnavailable).message


def test_something_else_answers(listener: socket.socket) -> None:
    def answer() -> None:
        with suppress(OSError):  # the test may be over, and the listener closed
            for _ in range(2):
                peer, _ = listener.accept()
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.close()

    threading.Thread(target=answer, daemon=True).start()
    database = Database(alias="x", host="127.0.0.1", port=listener.getsockname()[1])
    assert "not a PostgreSQL server" in refused(database, ConfigError).message


def test_a_server_without_tls(listener: socket.socket) -> None:
    def answer() -> None:
        with suppress(OSError):
            peer, _ = listener.accept()
            peer.recv(8)
            peer.sendall(b"N")
            peer.recv(1)
            peer.close()

    threading.Thread(target=answer, daemon=True).start()
    database = Database(alias="x", host="127.0.0.1", port=listener.getsockname()[1], sslmode="require")
    assert "No secure connection" in refused(database, ConfigError).message


def test_facts(cluster: Cluster) -> None:
    name = cluster.new_database("CREATE TABLE t AS SELECT generate_series(1, 1000) i")
    found = facts(cluster.connect(name))
    assert found.version[0] == found.server.major == cluster.major
    assert found.server.version.startswith(f"{cluster.major}.")
    assert found.server.encoding == "UTF8"
    assert (found.server.locale_provider, found.server.tablespaces) == ("c", ())
    assert set(found.server.extensions) == {"plpgsql"}
    assert found.size_bytes > 1_000_000
    assert (found.superuser, found.bypasses_rls, found.in_recovery, found.managed) == (True, True, False, "")
    with connect(cluster.as_role(name, name), name, application_name="x") as connection:
        assert not facts(connection).superuser


def test_facts_of_a_cloud_and_of_tablespaces(pg15: Cluster) -> None:
    directory = pg15.make_directory("space")
    name = pg15.new_database()
    pg15.sql("postgres", f"CREATE TABLESPACE other LOCATION '{directory}'", "CREATE ROLE rds_superuser")
    pg15.sql(name, "CREATE TABLE t (i int) TABLESPACE other")
    try:
        found = facts(pg15.connect(name))
        assert (found.managed, found.server.tablespaces) == ("rds", ("other",))
    finally:
        pg15.sql(
            "postgres",
            f"DROP DATABASE {name} WITH (FORCE)",
            "DROP TABLESPACE other",
            "DROP ROLE rds_superuser",
        )


def test_errors_of_queries_are_ours(cluster: Cluster) -> None:
    database = cluster.database()
    with connect(database, "postgres", application_name="x") as connection:
        with pytest.raises(DumpFailed, match="A query in postgres failed"), translated(database, "postgres"):
            connection.execute("SELECT 1/0")
        pid = connection.info.backend_pid
        cluster.sql("postgres", f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(DatabaseUnavailable), translated(database, "postgres"):
            connection.execute("SELECT 1")
        with pytest.raises(DatabaseUnavailable), translated(database, "postgres"):
            connection.execute("SELECT 1")
