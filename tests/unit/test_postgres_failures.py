"""Words of libpq, pg_dump and servers, as they were met, and what we make of them."""

from __future__ import annotations

import pytest

from worker.config.model import Database
from worker.errors import (
    ConfigError,
    DatabaseUnavailable,
    DumpFailed,
    MissingDependency,
    PgfleetError,
    SpoolFull,
)
from worker.postgres.failures import connection_error, dump_error

DATABASE = Database(alias="goimg", host="db.example", user="backup")
TO_SERVER = 'connection to server at "db.example" (10.0.0.1), port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            TO_SERVER + 'FATAL:  no pg_hba.conf entry for host "10.0.0.9", user "backup", database "goimg"',
            ConfigError,
            "The server db.example:5432 accepts no connection from here by backup to goimg (pg_hba.conf).",
        ),
        (
            TO_SERVER + "FATAL:  the database system is starting up",
            DatabaseUnavailable,
            "The server db.example:5432 takes no connections now: the database system is starting up.",
        ),
        (
            TO_SERVER + "FATAL:  sorry, too many clients already",
            DatabaseUnavailable,
            "The server db.example:5432 has no connection left for backup.",
        ),
        (
            TO_SERVER + "SSL error: certificate verify failed",
            ConfigError,
            "No secure connection to db.example:5432: SSL error: certificate verify failed.",
        ),
        (
            TO_SERVER + 'root certificate file "/x/root.crt" does not exist\nEither provide the file',
            ConfigError,
            'No secure connection to db.example:5432: root certificate file "/x/root.crt" does not exist.',
        ),
        (
            TO_SERVER + "FATAL:  Passwort-Authentifizierung für Benutzer »backup« fehlgeschlagen",
            DatabaseUnavailable,
            "No connection to goimg on db.example:5432:"
            " Passwort-Authentifizierung für Benutzer »backup« fehlgeschlagen.",
        ),
    ],
)
def test_connections(text: str, error: type[PgfleetError], message: str) -> None:
    found = connection_error(text, DATABASE, "goimg")
    assert type(found) is error
    assert found.message == message
    assert found.hint


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            "pg_dump: error: Dumping the contents of table \"audits\" failed: PQgetResult() failed.\n"
            "pg_dump: detail: Error message from server: ERROR:  canceling statement due to conflict with recovery",
            DatabaseUnavailable,
            "The standby db.example:5432 cancelled the dump, to replay changes of its primary.",
        ),
        (
            "pg_dump: error: query failed: ERROR:  out of shared memory\n"
            "HINT:  You might need to increase max_locks_per_transaction.",
            DumpFailed,
            "The server db.example:5432 has not enough room for the locks of all tables of goimg.",
        ),
        (
            "pg_dump: error: query failed: server closed the connection unexpectedly\n"
            "\tThis probably means the server terminated abnormally",
            DatabaseUnavailable,
            "The server db.example:5432 cut the connection.",
        ),
        (
            'pg_dump: error: Dumping the contents of table "t" failed: PQgetResult() failed.\n'
            "pg_dump: detail: Error message from server: ERROR:  invalid page in block 7 of relation base/16384/16385",
            DumpFailed,
            "The data of goimg is damaged on the server db.example:5432:",
        ),
        (
            "pg_dump: error: aborting because of server version mismatch\n"
            "pg_dump: detail: server version: 18.1; pg_dump version: 17.5",
            MissingDependency,
            "The pg_dump used for goimg is older than its server.",
        ),
        (
            "pg_dump: error: could not write to output file: No space left on device",
            SpoolFull,
            "The spool filled up during the dump of goimg.",
        ),
        (
            'pg_dump: detail: ERROR:  could not write to file "base/pgsql_tmp/x": No space left on device',
            DumpFailed,
            "The server db.example:5432 has a full disk.",
        ),
        (
            "pg_dump: error: query failed: ERROR:  permission denied for schema secret",
            DumpFailed,
            "backup may not read schema secret of goimg.",
        ),
        (
            "pg_dump: error: something that nobody has seen yet\npg_dump: detail: of many lines",
            DumpFailed,
            "pg_dump of goimg failed with exit code 1: something that nobody has seen yet.",
        ),
        ("", DumpFailed, "pg_dump of goimg failed with exit code 1: it did not say why."),
    ],
)  # fmt: skip
def test_dumps(text: str, error: type[PgfleetError], message: str) -> None:
    found = dump_error("pg_dump", 1, text, DATABASE, "goimg")
    assert type(found) is error
    assert found.message.startswith(message)
    assert found.message.endswith(".")
    assert found.hint


def test_no_server_in_the_container_is_not_told_of_the_one_outside() -> None:
    """The connection for the snapshot stands: DB_HOST and DB_PORT are right, and the hint must not doubt them."""
    text = 'pg_dump: error: connection to server at "localhost" (::1), port 5432 failed: Connection refused'
    inside = DATABASE.model_copy(update={"use_docker": True, "docker_container": "db"})
    found = dump_error("pg_dump", 1, text, inside, "goimg")
    assert (type(found), found.message) == (
        DatabaseUnavailable, "pg_dump found no server in the container db: Connection refused.",
    )  # fmt: skip
    assert "DOCKER_CONTAINER" in found.hint
    assert "answers at" in dump_error("pg_dump", 1, text, DATABASE, "goimg").message
