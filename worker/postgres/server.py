"""Connections to a PostgreSQL server, and what it says about itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import dict_row

from worker.config.model import Server as Address
from worker.core.backup import Server
from worker.core.versions import Version, from_number
from worker.postgres.failures import connection_error, query_error
from worker.postgres.queries import query
from worker.postgres.tools import KEEPALIVES

Connection = psycopg.Connection[tuple[Any, ...]]

#: Unacknowledged data is given up after a minute (milliseconds; ignored on Unix sockets).
_TCP_USER_TIMEOUT = 60_000


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """server: what a manifest keeps. managed: ``rds``, ``cloudsql``, ``azure`` or "", told by its roles."""

    server: Server
    size_bytes: int
    superuser: bool
    bypasses_rls: bool
    in_recovery: bool
    managed: str

    @property
    def version(self) -> Version:
        return from_number(self.server.version_num)


def connect(
    server: Address, dbname: str, *, application_name: str, autocommit: bool = True, options: str = ""
) -> Connection:
    """A connection for one thread's work; close it. options: the server's, as in PGOPTIONS; a pooler refuses them.

    Raises DatabaseUnavailable where another attempt may succeed, ConfigError where the settings must change.
    """
    try:
        return psycopg.connect(
            KEEPALIVES,
            host=server.host,
            port=server.port,
            user=server.user,
            password=server.password.get_secret_value() if server.password is not None else None,
            dbname=dbname,
            sslmode=server.sslmode,
            sslrootcert=str(server.sslrootcert) if server.sslrootcert is not None else None,
            connect_timeout=server.connect_timeout,
            tcp_user_timeout=_TCP_USER_TIMEOUT,
            application_name=application_name,
            client_encoding="UTF8",
            options=options or None,
            autocommit=autocommit,
            prepare_threshold=None,  # a pooler in between may change the server's session
        )
    except psycopg.Error as error:
        raise connection_error(str(error), server, dbname) from error


@contextmanager
def translated(server: Address, dbname: str) -> Iterator[None]:
    """Errors of the driver inside the block leave it as ours."""
    try:
        yield
    except psycopg.Error as error:
        raise query_error(error, server, dbname) from error


def facts(connection: Connection) -> ServerFacts:
    """What server and database this is, seen by the connected role. Raises psycopg.Error."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(query("facts")).fetchone()
    assert row is not None
    manifest = {name: row.pop(name) for name in Server.model_fields}
    return ServerFacts(server=Server(**manifest), **row)
