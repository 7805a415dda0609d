"""Connections to the ledger's database: URLs, transactions, forks, and errors that tell no secret."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, make_url
from sqlalchemy.pool import QueuePool, StaticPool

from worker.errors import ConfigError, LedgerUnavailable
from worker.ledger import migrations, schema

BUSY_SECONDS = 30
#: How old the knowledge of the tables' version may be. Below the time after which a silent worker counts as dead
#: (migrations.ALIVE_SECONDS): one that was frozen or cut off meanwhile looks before it touches anything.
CHECKED_SECONDS = 10.0
_URL_HINT = "Use sqlite:////path/to/ledger.sqlite or postgresql://user@host/database."
#: The server ends what a frozen or cut-off worker leaves open, so that its row locks cannot stop the fleet.
_PG_OPTIONS = (
    f"-c lock_timeout={BUSY_SECONDS}s -c statement_timeout=120s -c idle_in_transaction_session_timeout=60s"
)
_PG_REFUSED = "42501"  # insufficient_privilege
_PG_CONNECT = {
    "connect_timeout": 10,
    "application_name": "pgfleet ledger",
    "keepalives_idle": 30,
    "tcp_user_timeout": BUSY_SECONDS * 1000,
}


class Database:
    """One engine a process: a forked child opens its own and never touches its parent's connections."""

    def __init__(self, url: str) -> None:
        """Raises ConfigError for a URL that is not one of ours."""
        self._url = _parse(url)
        self._memory = self._url.get_backend_name() == "sqlite" and self._url.database in (
            None,
            "",
            ":memory:",
        )
        self.place = _place(self._url, self._memory)
        # Engines of parent processes stay here untouched: closing their connections would disturb the parent.
        self._engines: dict[int, Engine] = {}
        self._checked: dict[int, float] = {}  # pid → when, monotonic
        self._pid = os.getpid()
        # All threads share the one connection of an in-memory ledger: one transaction at a time.
        self._only = threading.RLock()
        self._inside: Connection | None = None

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises LedgerUnavailable, ConfigError."""
        with self._translated(), self._transaction(write=False) as conn:
            self._check(conn)
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction, committed at the end of the block. Raises LedgerUnavailable, ConfigError."""
        with self._translated(), self._transaction(write=True) as conn:
            self._check(conn)
            yield conn

    def migrate(self) -> None:
        """Create the file and the tables that are missing, bring old tables up to date.

        Raises LedgerUnavailable, ConfigError, UpgradeBlocked.
        """
        with self._translated():
            if self._url.get_backend_name() == "sqlite" and not self._memory:
                self._create_file(Path(str(self._url.database)))
            with self._transaction(write=False) as conn:
                present = migrations.found(conn)
            if present is None or present.version < schema.VERSION:
                with self._transaction(write=True) as conn:
                    migrations.migrate(conn)
        with self.read():
            pass

    def ping(self) -> None:
        """Raises LedgerUnavailable when the database does not answer."""
        with self._translated(), self._transaction(write=False) as conn:
            conn.exec_driver_sql("SELECT 1")

    def close(self) -> None:
        """Close this process's connections; the next use opens new ones."""
        engine = self._engines.pop(os.getpid(), None)
        if engine is not None:
            engine.dispose()

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        with self._only if self._memory else nullcontext():
            if self._inside is not None:  # the same thread, reading while it writes
                yield self._inside
                return
            with self._engine().connect() as conn:
                conn.execution_options(ledger_write=write)
                with conn.begin():
                    self._inside = conn if self._memory else None
                    try:
                        yield conn
                    finally:
                        self._inside = None

    def _engine(self) -> Engine:
        pid = os.getpid()
        if self._memory and pid != self._pid:
            raise ConfigError("An in-memory ledger belongs to the process that made it.", _URL_HINT)
        return self._engines.get(pid) or self._engines.setdefault(pid, self._make())

    def _make(self) -> Engine:
        if self._url.get_backend_name() == "sqlite":
            return _sqlite(None if self._memory else Path(str(self._url.database)))
        options = f"{_PG_OPTIONS} {self._url.query.get('options', '')}".strip()
        connect = {key: value for key, value in _PG_CONNECT.items() if key not in self._url.query}
        return create_engine(
            self._url,
            isolation_level="READ COMMITTED",
            connect_args=connect | {"options": options},
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=18,
        )

    def _check(self, conn: Connection) -> None:
        pid, at = os.getpid(), time.monotonic()
        if at - self._checked.get(pid, -CHECKED_SECONDS) >= CHECKED_SECONDS:
            migrations.check(migrations.found(conn))
            self._checked[pid] = at

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.InternalError, exc.TimeoutError) as error:
            raise self._unavailable(error) from error
        except exc.DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _PG_REFUSED:
                raise self._refused(error) from error
            if not error.connection_invalidated and type(error) is not exc.DatabaseError:
                raise
            raise self._unavailable(error) from error  # a bare DatabaseError: the file is no database

    def _create_file(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not path.exists():
                os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise self._unavailable(error) from error

    def _refused(self, error: exc.DBAPIError) -> ConfigError:
        return ConfigError(
            f"The ledger at {self.place} refuses its user: {_reason(error)}.",
            "Give the URL's user a database, or a schema on its search_path, of its own: it creates the tables.",
        )

    def _unavailable(self, error: Exception) -> LedgerUnavailable:
        return LedgerUnavailable(
            f"The ledger at {self.place} cannot be used: {_reason(error)}.",
            "Check that its database runs, that the URL names it, and that this user may write to it.",
        )


def _reason(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).strip().split("\n", 1)[0].rstrip(".")


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        raise ConfigError(
            "The ledger's URL cannot be read.", _URL_HINT
        ) from None  # the text may hold a password
    if url.drivername in ("postgresql", "postgres"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername not in ("postgresql+psycopg", "sqlite"):
        raise ConfigError(f"The ledger cannot be kept in {url.drivername!r}.", _URL_HINT)
    return url


def _place(url: URL, memory: bool) -> str:
    if memory:
        return "memory"
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "the local socket"
    return f"{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"


def _sqlite(path: Path | None) -> Engine:
    # rw: only migrate() creates the file, and with mode 0600; SQLite gives -wal and -shm the same mode.
    name = (
        f"file:{quote(str(path.absolute()))}?mode=rw" if path else f"file:{uuid4()}?mode=memory&cache=shared"
    )

    def connect() -> sqlite3.Connection:
        conn = sqlite3.connect(
            name, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        conn.execute("PRAGMA foreign_keys = ON")
        if path is not None:
            _write_ahead(conn)
        return conn

    if path is None:
        # SQLAlchemy closes a connection that a ctrl-C interrupts; what is in memory lives as long as one is open.
        kept = connect()
        engine = create_engine("sqlite://", creator=connect, poolclass=StaticPool, hide_parameters=True)
        event.listen(engine, "engine_disposed", lambda _: kept.close())
    else:
        engine = create_engine(
            "sqlite://",
            creator=connect,
            poolclass=QueuePool,
            hide_parameters=True,
            pool_size=2,
            max_overflow=18,
        )
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _write_ahead(conn: sqlite3.Connection) -> None:
    """The first to open the file switches it; while others look at it that fails at once, whatever the timeout."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            conn.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _begin_sqlite(conn: Any) -> None:
    # IMMEDIATE: a read that turns into a write can fail at once, whatever the busy timeout.
    write = conn.get_execution_options().get("ledger_write")
    conn.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
