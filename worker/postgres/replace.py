"""One database in the place of another, in one transaction: the server does all of it or nothing.

ALTER DATABASE … RENAME may run in a transaction block. It takes an exclusive lock on the database that every new
session needs too, then waits five seconds at most for the sessions that are left (RenameDatabase, CountOtherDBBackends
in the server's source). So the first rename is asked for first, and the sessions are ended while it waits: whoever
reconnects at once stands behind the lock, and nobody ever meets a database that refuses connections. A client that is
killed at any line, or a server that loses power, leaves the old names.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg.sql import SQL, Composed, Identifier, Literal

from worker.config.model import Target
from worker.core.statements import list_items
from worker.errors import ConfigError, RestoreFailed
from worker.postgres.queries import query
from worker.postgres.server import Connection
from worker.postgres.targets import Found, Session, find, maintenance, sessions

log = logging.getLogger("pgfleet.postgres")

_ATTEMPTS = 4
_EVERY_SECONDS = 0.02
#: Settings that are lists of names, stored quoted (GUC_LIST_QUOTE in the server's source).
_LISTS = frozenset({
    "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
    "temp_tablespaces", "unix_socket_directories",
})  # fmt: skip

Reached = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Swapped:
    """seconds: how long the name was not to be had. ended: sessions that were cut. kept: an old one is there."""

    seconds: float
    ended: int
    kept: bool


def swap(
    target: Target,
    *,
    live: str,
    new: str,
    before: str,
    displace: bool = True,
    loaded: int | None = None,
    reached: Reached = lambda line: None,
) -> Swapped:
    """Rename `live`, if there is one, to `before`, and `new` to `live`. Done twice is done once.

    displace=False: the name was free, and a database that has it by now is not ours to rename. loaded: the oid of
    `new`, which tells it from another of its name once it is called `live`. `reached` is told each line that was
    passed. Raises RestoreFailed when a session does not end, when we may not rename, or when the names
    are not there; then nothing has changed.
    """
    with maintenance(target) as connection:
        old = find(connection, live)
        if find(connection, new) is None:
            if old is None:
                raise RestoreFailed(f"Neither {live} nor {new} is on the server.", "Restore again.")
            kept = find(connection, before) is not None
            ours = old.oid == loaded if loaded is not None else kept or not displace
            if not ours:  # `live` is there, and it is not what was loaded
                raise RestoreFailed(
                    f"What was loaded, {new}, is not on the server any more, and {live} is another database.",
                    f"See what {live} is and who dropped or renamed {new}, then restore again.",
                )
            return Swapped(0.0, 0, kept=kept)
        if old is not None and not displace:
            raise _made_meanwhile(live)
        if old is not None and find(connection, before) is not None:
            raise RestoreFailed(
                f"There is a database {before} already.", "Drop or rename it, then try again."
            )
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return _swap(connection, target, (live, new, before), old is not None, reached)
            except psycopg.errors.DuplicateDatabase as error:
                raise _made_meanwhile(live) from error
            except psycopg.errors.ObjectInUse as error:
                left = sessions(connection, live) + sessions(connection, new)
                log.warning("sessions do not end", extra={"action": "swap.wait", "count": len(left)})
                if attempt == _ATTEMPTS:
                    raise _in_use(live, left, str(error)) from error
        raise AssertionError("unreachable")


def _swap(
    connection: Connection, target: Target, names: tuple[str, str, str], replace: bool, reached: Reached
) -> Swapped:
    live, new, before = names
    ended = 0
    reached("begin")
    began = time.monotonic()
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '10s'")
        if replace:
            with _ending_sessions(target, live) as ended_pids:
                reached("ending sessions")
                connection.execute(_rename(live, before))
                ended = len(ended_pids)
            reached("old renamed")
        connection.execute(_rename(new, live))
        reached("new renamed")
    seconds = time.monotonic() - began
    reached("committed")
    log.info("swapped", extra={"action": "swap", "seconds": round(seconds, 3), "sessions": ended})
    return Swapped(seconds, ended, kept=replace)


def _rename(old: str, new: str) -> Composed:
    return SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(old), Identifier(new))


@contextmanager
def _ending_sessions(target: Target, name: str) -> Iterator[set[int]]:
    """End the sessions of a database, those too that come meanwhile, until the block is done."""
    done, ended = threading.Event(), set[int]()
    with maintenance(target) as connection:
        thread = threading.Thread(target=_end_sessions, args=(connection, name, done, ended), name="sessions")
        thread.start()
        try:
            yield ended
        finally:
            done.set()
            thread.join()


def _end_sessions(connection: Connection, name: str, done: threading.Event, ended: set[int]) -> None:
    try:
        while not done.is_set():
            for session in sessions(connection, name):
                if session.ours_to_end and _terminate(connection, session.pid):
                    ended.add(session.pid)
            done.wait(_EVERY_SECONDS)
    except psycopg.Error as error:
        log.warning("sessions cannot be ended", extra={"action": "swap.end", "error": str(error).strip()})


def _terminate(connection: Connection, pid: int) -> bool:
    """False for a session that we may not end after all: the others have to go all the same."""
    try:
        connection.execute("SELECT pg_terminate_backend(%s)", [pid])
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def check_replace(connection: Connection, target: Target, found: Found, name: str) -> None:
    """Raises ConfigError or RestoreFailed for what would make the swap fail, hours before it."""
    if not found.ours:
        raise ConfigError(
            f"{target.user} may not rename {name}: it belongs to {found.owner}.",
            f"GRANT {found.owner} TO {target.user}, or use that role or a superuser for target {target.alias}.",
        )
    stuck = [session for session in sessions(connection, name) if not session.ours_to_end]
    if stuck:
        raise ConfigError(
            f"{target.user} may not end {len(stuck)} of the sessions in {name}: {_listed(stuck)}.",
            f"GRANT pg_signal_backend TO {target.user} (a superuser's sessions need a superuser), or end them.",
        )
    if found.prepared:
        raise RestoreFailed(
            f"{name} has {found.prepared} prepared transactions, and cannot be renamed before they end.",
            "COMMIT PREPARED or ROLLBACK PREPARED them (pg_prepared_xacts).",
        )
    if found.is_template:
        raise RestoreFailed(f"{name} is a template database.", "ALTER DATABASE … IS_TEMPLATE false.")


def _made_meanwhile(name: str) -> RestoreFailed:
    return RestoreFailed(
        f"A database {name} was made while this restore ran; it is left alone.",
        "Restore again with another name (--as).",
    )


def _in_use(name: str, left: Sequence[Session], text: str) -> RestoreFailed:
    who = _listed(left) or text.splitlines()[0]
    failed = RestoreFailed(
        f"{name} could not be renamed: it is still in use ({who}). Nothing was changed.",
        "End these sessions (a superuser's need a superuser), then try again.",
    )
    failed.retryable = True
    return failed


def _listed(found: Sequence[Session]) -> str:
    names = [f"pid {one.pid} {one.role or 'server'} {one.application}".strip() for one in found[:5]]
    return ", ".join(names) + (f" and {len(found) - 5} more" if len(found) > 5 else "")


def settings_of(connection: Connection, name: str) -> list[tuple[str | None, str, str]]:
    """(role or None, setting, value as stored) of ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET."""
    return [(row[0], row[1], row[2]) for row in connection.execute(query("target_settings"), {"name": name})]


def properties(connection: Connection, old: str, found: Found, new: str) -> list[str]:
    """The statements that give the database `new` what `old` has as a database: owner, settings, grants, comment."""
    name = Identifier(new)
    made = [SQL("ALTER DATABASE {} OWNER TO {}").format(name, Identifier(found.owner))]
    for role, setting, value in settings_of(connection, old):
        made.append(_setting(name, role, setting, value))
    made.append(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(name))
    for grantee, privilege, grantable in connection.execute(query("target_grants"), {"name": old}).fetchall():
        to = Identifier(grantee) if grantee is not None else SQL("PUBLIC")
        grant = SQL("GRANT {} ON DATABASE {} TO {}").format(SQL(privilege), name, to)
        made.append(grant + SQL(" WITH GRANT OPTION") if grantable and grantee != found.owner else grant)
    if found.comment is not None:
        made.append(SQL("COMMENT ON DATABASE {} IS {}").format(name, Literal(found.comment)))
    made.append(SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(name, Literal(found.connection_limit)))
    return [statement.as_string(connection) for statement in made]


def _setting(name: Identifier, role: str | None, setting: str, value: str) -> Composed:
    whose = (
        SQL("ROLE {} IN DATABASE {}").format(Identifier(role), name)
        if role
        else SQL("DATABASE {}").format(name)
    )
    values = list_items(value) if setting in _LISTS else [value]
    listed = SQL(", ").join(Literal(item) for item in values or [""])
    return SQL("ALTER {} SET {} TO {}").format(whose, Identifier(*setting.split(".")), listed)


def apply(connection: Connection, statements: Sequence[str]) -> list[str]:
    """Execute each; what the server refuses is told, and does not keep the data from anybody."""
    notes = []
    for statement in statements:
        try:
            connection.execute(statement.encode())
        except psycopg.errors.Error as error:
            if connection.closed:
                raise
            said = (error.diag.message_primary or str(error)).rstrip(".")
            shown = statement.partition("'")[0].rstrip()[
                :120
            ]  # a value may be a secret: in the error's text, too
            notes.append(f"Not set: {shown} ({said.partition(': ')[0]}).")
    return notes
