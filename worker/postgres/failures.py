"""What PostgreSQL says when it fails, as our errors.

libpq's and pg_dump's own words are matched in English: children run with LC_ALL=C.UTF-8. A server with other
`lc_messages` is understood by SQLSTATE where there is one, else its words are passed on as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import psycopg

from worker.config.model import Database, Server
from worker.errors import (
    Busy,
    ConfigError,
    DatabaseUnavailable,
    DumpFailed,
    MissingDependency,
    PgfleetError,
    SpoolFull,
)


class _Rule(NamedTuple):
    """`message` and `hint` may name {where}, {user}, {dbname}, {line} and the pattern's own groups."""

    pattern: str
    error: type[PgfleetError]
    message: str
    hint: str


_NOBODY = (
    r"Connection refused|No such file or directory\s+Is the server running|No route to host"
    r"|Network is unreachable|Host is down"
)
_HBA = "Add a line for this client to pg_hba.conf, or change host, user or sslmode in the settings."
_CONNECTION = (
    _Rule(
        r"password authentication failed|no password supplied|empty password returned"
        r"|SASL authentication failed",
        ConfigError,
        "The server {where} refused the password of {user}.",
        "Check DB_USER and DB_PASSWORD (or the password of this server in the settings).",
    ),
    _Rule(
        r"(Peer|Ident|LDAP|GSSAPI|certificate|RADIUS) authentication failed for user",
        ConfigError,
        "The server {where} does not let {user} in ({line}).",
        _HBA,
    ),
    _Rule(
        r"no pg_hba\.conf entry|pg_hba\.conf rejects connection",
        ConfigError,
        "The server {where} accepts no connection from here by {user} to {dbname} (pg_hba.conf).",
        _HBA,
    ),
    _Rule(
        r'role "(?P<role>.+?)" does not exist',
        ConfigError,
        "The server {where} has no role {role}.",
        "Check DB_USER, or create the role.",
    ),
    _Rule(
        r'role "(?P<role>.+?)" is not permitted to log in',
        ConfigError,
        "The role {role} may not log in on {where}.",
        "ALTER ROLE … LOGIN, or use another DB_USER.",
    ),
    _Rule(
        r"permission denied for database|does not have CONNECT privilege",
        ConfigError,
        "{user} may not connect to database {dbname} on {where}.",
        "GRANT CONNECT ON DATABASE … TO the role.",
    ),
    _Rule(
        r'database "(?P<db>.+?)" does not exist',
        ConfigError,
        "The server {where} has no database {db}.",
        "Check DB_NAME (case matters).",
    ),
    _Rule(
        r'database ".+?" is not currently accepting connections',
        ConfigError,
        "Database {dbname} on {where} accepts no connections.",
        "ALTER DATABASE … ALLOW_CONNECTIONS true.",
    ),
    _Rule(
        r"too many (clients|connections)|remaining connection slots are reserved",
        DatabaseUnavailable,
        "The server {where} has no connection left for {user}.",
        "It is tried again; raise max_connections or the role's limit if this goes on.",
    ),
    _Rule(
        r"the database system is (starting up|shutting down|in recovery mode|not (yet )?accepting)",
        DatabaseUnavailable,
        "The server {where} takes no connections now: {line}.",
        "It is tried again.",
    ),
    _Rule(
        r"resolve host|translate host name|name resolution|Name or service not known",
        DatabaseUnavailable,
        "The host name of the server {where} is not known.",
        "Check DB_HOST and the name resolution of this machine.",
    ),
    _Rule(
        _NOBODY,
        DatabaseUnavailable,
        "No PostgreSQL server answers at {where}.",
        "Check DB_HOST and DB_PORT, and that the server runs and listens there.",
    ),
    _Rule(
        r"timeout expired|timed out",
        DatabaseUnavailable,
        "The server {where} did not answer in time.",
        "Check DB_HOST, DB_PORT and the firewalls between.",
    ),
    _Rule(
        r"server does not support SSL|root certificate file|certificate verify failed|server certificate for"
        r"|SSL error|sslmode|private key file|does not match host name|tlsv1|SSL certificate",
        ConfigError,
        "No secure connection to {where}: {line}.",
        "Check sslmode and sslrootcert in the settings, and the server's certificate.",
    ),
    _Rule(
        r"invalid response to SSL negotiation|expected authentication request|unsupported frontend protocol",
        ConfigError,
        "What answers at {where} is not a PostgreSQL server.",
        "Check DB_HOST and DB_PORT.",
    ),
)
_QUERY = (
    _Rule(
        r"canceling statement due to lock timeout|could not obtain lock on relation",
        Busy,
        "A table of {dbname} is locked by another session.",
        "It is tried again; end that session, or raise lock_timeout.",
    ),
    _Rule(
        r'row-level security policy for table "(?P<table>.+?)"',
        DumpFailed,
        "Row-level security hides rows of table {table} from {user}, so a dump would not be complete.",
        "ALTER ROLE … BYPASSRLS, or dump as the owner of the table or a superuser.",
    ),
    _Rule(
        r"permission denied for (?P<kind>materialized view|foreign table|foreign server|large object|\w+)"
        r' "?(?P<name>[^"\n]+)"?',
        DumpFailed,
        "{user} may not read {kind} {name} of {dbname}.",
        "GRANT pg_read_all_data TO the role, or exclude it from the backup.",
    ),
    _Rule(
        r"invalid snapshot identifier|snapshot \"[^\"]*\" does not exist|could not import the requested",
        DatabaseUnavailable,
        "The snapshot of {dbname} is gone: the connection that held it was lost.",
        "It is tried again with a new one.",
    ),
    _Rule(
        r"conflict with recovery",
        DatabaseUnavailable,
        "The standby {where} cancelled the dump, to replay changes of its primary.",
        "It is tried again; set hot_standby_feedback or a longer max_standby_streaming_delay there.",
    ),
    _Rule(
        r"aborting because of server version mismatch",
        MissingDependency,
        "The pg_dump used for {dbname} is older than its server.",
        "Install the client of the server's major, or put its directory into PGFLEET_PG_BIN.",
    ),
    _Rule(
        r"max_locks_per_transaction",
        DumpFailed,
        "The server {where} has not enough room for the locks of all tables of {dbname}.",
        "Raise max_locks_per_transaction there (it needs a restart).",
    ),
    _Rule(
        r"(ERROR|PANIC):.*No space left on device",
        DumpFailed,
        "The server {where} has a full disk.",
        "Free some space there.",
    ),
    _Rule(
        r"No space left on device|Disk quota exceeded|File too large",
        SpoolFull,
        "The spool filled up during the dump of {dbname}.",
        "Free some space there, or set PGFLEET_SPOOL to a larger disk.",
    ),
    _Rule(
        r"invalid page in block|missing chunk number|unexpected chunk number|compressed pglz data is corrupt"
        r"|could not read block|invalid memory alloc request size",
        DumpFailed,
        "The data of {dbname} is damaged on the server {where}: {line}.",
        "Hold the newest good backup (retention must not delete it), and look at the server's disks.",
    ),
    _Rule(
        r"server closed the connection|terminating connection|connection to server was lost|is lost"
        r"|could not receive data|could not send data|SSL SYSCALL|SSL connection has been closed"
        r"|no connection to the server|Connection reset by peer|the connection is closed",
        DatabaseUnavailable,
        "The server {where} cut the connection.",
        "It is tried again; the server's log says why.",
    ),
)
_DUMP = (
    _Rule(
        r"canceling statement due to statement timeout",  # how pg_dump sees to --lock-wait-timeout
        Busy,
        "A table of {dbname} is locked by another session.",
        "It is tried again; end that session, or raise lock_timeout.",
    ),
    *_QUERY,
    *_CONNECTION,
)
_BY_STATE = {
    "55P03": "canceling statement due to lock timeout",
    "40P01": "canceling statement due to lock timeout",
    "53200": "max_locks_per_transaction",
    "57P01": "terminating connection",
    "57P02": "terminating connection",
    "57P05": "terminating connection",
}
_PREFIX = re.compile(
    r"^(\w+: (error|fatal|detail|warning): )?(connection (failed|is bad): )?"
    r"(connection to server (at|on) .*? failed: )?((ERROR|FATAL|PANIC):\s+)?"
)


def connection_error(text: str, server: Server, dbname: str) -> PgfleetError:
    """For what libpq said when it could not connect."""
    return _classify(text, _CONNECTION, server, dbname) or DatabaseUnavailable(
        f"No connection to {dbname} on {place(server)}: {_line(text)}.", "The server's log may say more."
    )


def query_error(error: psycopg.Error, server: Server, dbname: str) -> PgfleetError:
    """For an error of a running connection."""
    text = f"{_BY_STATE.get(error.sqlstate or '', '')}\n{error}".strip()
    found = _classify(text, _QUERY, server, dbname)
    if found is not None:
        return found
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        return DatabaseUnavailable(f"The server {place(server)} cut the connection: {_line(text)}.", "")
    return DumpFailed(f"A query in {dbname} failed: {_line(text)}.", "The server's log may say more.")


def dump_error(program: str, returncode: int, text: str, server: Server, dbname: str) -> PgfleetError:
    """For what pg_dump, pg_dumpall or `docker exec` wrote to stderr before it failed."""
    if isinstance(server, Database) and server.use_docker and re.search(_NOBODY, text):
        return DatabaseUnavailable(
            f"{program} found no server in the container {server.docker_container}: {_line(text)}.",
            "It asks the container's own localhost at the default port. Is DOCKER_CONTAINER the database's? "
            "If it listens elsewhere: USE_DOCKER=false.",
        )
    return _classify(text, _DUMP, server, dbname) or DumpFailed(
        f"{program} of {dbname} failed with exit code {returncode}: {_line(text) or 'it did not say why'}.",
        "The server's log may say more.",
    )


def place(server: Server) -> str:
    """Where a server is, as people write it."""
    return f"{server.host}:{server.port}"


def _classify(text: str, rules: Iterable[_Rule], server: Server, dbname: str) -> PgfleetError | None:
    for rule in rules:
        match = re.search(rule.pattern, text)
        if match is not None:
            line = text[text.rfind("\n", 0, match.start()) + 1 :]
            names = {
                "where": place(server),
                "user": server.user,
                "dbname": dbname,
                "line": _line(line),
                **match.groupdict(),
            }
            return rule.error(rule.message.format_map(names), rule.hint)
    return None


def _line(text: str) -> str:
    """The first line that says something, without what programs put before it, and without a full stop."""
    lines = [line for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"error:|ERROR:|FATAL:|fatal:", line)] or lines
    return _PREFIX.sub("", telling[0].strip()).rstrip(".")[:300] if telling else ""
