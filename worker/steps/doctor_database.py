"""What a doctor asks a database: can it be reached, dumped in full, by a client that is there, in this space?"""

from __future__ import annotations

import time
from collections.abc import Iterator

from worker.config.model import Database
from worker.core import human
from worker.core.versions import compression_argument, dotted, warnings_for
from worker.errors import PgfleetError
from worker.postgres import server, tools
from worker.postgres.privileges import privilege_problems
from worker.postgres.queries import query
from worker.postgres.server import Connection, ServerFacts
from worker.steps.context import Adapters
from worker.steps.examine import Check, failed, from_error, ok, warning

SKEW_SECONDS = 2.0
_MANAGED = {"rds": "Amazon RDS", "cloudsql": "Google Cloud SQL", "azure": "Azure"}


def checks(adapters: Adapters, database: Database) -> Iterator[Check]:
    """connection, client, privileges, clock and space, as far as there is a connection."""
    name = f"database {database.alias}"
    try:
        connection = server.connect(database, database.name, application_name="pgfleet doctor")
    except PgfleetError as error:
        yield _no_connection(f"{name}: connection", database, error)
        return
    with connection, server.translated(database, database.name):
        facts = server.facts(connection)
        yield _connected(f"{name}: connection", database, facts)
        yield from client(f"{name}: client", adapters, database, facts)
        yield from privileges(f"{name}: privileges", database, facts, connection)
        yield clock(f"{name}: clock", connection)
    yield space(f"{name}: space", adapters, facts)


def _no_connection(name: str, database: Database, error: PgfleetError) -> Check:
    check = from_error(name, error)
    if database.password is None and "password" in error.message:
        return failed(name, f"{error.message} None is set.", "Set DB_PASSWORD or DB_PASSWORD_FILE.", 3)
    return check


def _connected(name: str, database: Database, facts: ServerFacts) -> Check:
    parts = [
        f"PostgreSQL {dotted(facts.version)} at {database.host}:{database.port}",
        human.size(facts.size_bytes),
        f"role {database.user}" + (" (superuser)" if facts.superuser else ""),
    ]
    if facts.managed:
        parts.append(f"managed by {_MANAGED[facts.managed]}")
    if facts.in_recovery:
        parts.append("standby")
    found = warnings_for(facts.version)
    if found:
        return warning(name, f"{', '.join(parts)}. {' '.join(found)}", "Update the server.")
    return ok(name, ", ".join(parts))


def client(name: str, adapters: Adapters, database: Database, facts: ServerFacts) -> Iterator[Check]:
    """Raises nothing: what is wrong with the tools leaves the other checks to be made."""
    try:
        chosen = tools.client_for(database, facts.version, adapters.settings.pg_bin)
        compression = compression_argument(database.compression, chosen.major, tools.libraries(chosen))
    except PgfleetError as error:
        yield from_error(name, error)
        return
    where = f"in container {chosen.container}" if chosen.container else f"in {chosen.bin_dir}"
    detail = f"pg_dump {chosen.version} {where}, compression {compression}"
    if chosen.major > facts.version[0]:
        hint = (
            f"Install postgresql-client-{facts.version[0]}: an archive of a newer pg_dump may not load there."
        )
        yield warning(name, f"{detail}, newer than the server", hint)
    elif found := warnings_for((chosen.major, chosen.minor)):
        yield warning(name, f"{detail}. {' '.join(found)}", "Update the client.")
    else:
        yield ok(name, detail)


def privileges(name: str, database: Database, facts: ServerFacts, connection: Connection) -> Iterator[Check]:
    """What is excluded from the backup need not be readable. It pins the session."""
    try:
        problems = privilege_problems(connection, database)
    except PgfleetError as error:
        yield from_error(name, error)
        return
    for problem in problems:
        yield failed(name, problem.message, problem.hint)
    if not problems and facts.superuser:
        yield ok(name, "it may read everything")
    elif not problems:
        yield ok(name, "it may read all data; not the passwords of roles, so the backup has none")


def clock(name: str, connection: Connection) -> Check:
    before = time.time()
    row = connection.execute(query("doctor_clock")).fetchone()
    after = time.time()
    assert row is not None
    skew = skew_seconds(float(row[0]), before, after)
    if abs(skew) > SKEW_SECONDS:
        word = "ahead of" if skew > 0 else "behind"
        detail = f"the server's clock is {human.duration(abs(skew))} {word} this machine's"
        return warning(
            name, detail, "Let both follow an NTP server: schedules and retention go by the clock."
        )
    return ok(name, f"within {SKEW_SECONDS:g} s of this machine's")


def skew_seconds(theirs: float, before: float, after: float) -> float:
    """How far a clock read between two readings of ours surely is ahead (or, negative, behind)."""
    if theirs > after:
        return theirs - after
    return min(0.0, theirs - before)


def space(name: str, adapters: Adapters, facts: ServerFacts) -> Check:
    """An archive and its encrypted copy lie side by side; each is at most about as large as the database."""
    free, size = adapters.spool.free(), facts.size_bytes
    detail = f"the spool has room for {human.size(free)}, the database has {human.size(size)}"
    if free < size // 10:
        return failed(name, detail, "Free some space, or set PGFLEET_SPOOL to a larger disk.")
    if free < 2 * size:
        return warning(name, detail, "It may do, as archives are compressed; twice the database surely does.")
    return ok(name, detail)
