"""A PostgreSQL server of our own: initdb in a directory, password on TCP and on a Unix socket."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

import psycopg
from psycopg import sql

from worker.errors import PgfleetError
from worker.local import pginstall
from worker.local.child import Child, User
from worker.local.environment import plain
from worker.local.ports import LOOPBACK, on_free_ports
from worker.local.user import server_user

SUPERUSER = "pgfleet"
_START_SECONDS = 30.0
_INITDB_SECONDS = 60.0
_STOP_SECONDS = 30.0


class Postgres:
    """The server answers when `start` returns. Its major's client programs are in `bin_dir`.

    directory: must be passable for the user it runs as (`Place`). fsync=False: faster, lost with the machine.
    """

    user = SUPERUSER

    def __init__(self, directory: Path, major: int = 17, *, fsync: bool = True) -> None:
        """Raises MissingDependency when that major is not installed."""
        self.major = major
        self.directory = directory
        self.host = LOOPBACK
        self.port = 0
        self.password = secrets.token_hex(16)
        self.bin_dir = pginstall.bin_dir(major)
        self._fsync = fsync
        self._data = directory / "data"
        self._child: Child | None = None

    @property
    def child(self) -> Child:
        """The postmaster."""
        if self._child is None:
            raise PgfleetError(f"PostgreSQL {self.major} is not running.", "Start it first.")
        return self._child

    @property
    def socket_dir(self) -> Path:
        return self.directory

    def dsn(self, dbname: str = "postgres") -> str:
        """A libpq URL, with the password."""
        return f"postgresql://{self.user}:{self.password}@{self.host}:{self.port}/{dbname}"

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """In autocommit mode, as the superuser."""
        return psycopg.connect(self.dsn(dbname), autocommit=True, connect_timeout=5)

    def createdb(self, name: str, *, template: str = "template1") -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        with self.connect() as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def dropdb(self, name: str) -> None:
        """With whoever is connected to it. No error when there is none of that name."""
        with self.connect() as connection:
            statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            connection.execute(statement.format(sql.Identifier(name)))

    def start(self) -> None:
        """Later calls (after `stop`) use the same data and port. Raises PgfleetError."""
        user = server_user()
        if not self._data.exists():
            programs = self._initdb(user)
            on_free_ports(1, lambda ports: self._start(user, programs, ports[0]))
        else:
            self.child.start()
            self._wait()

    def stop(self) -> None:
        """Fast shutdown. Idempotent; the data stay."""
        if self._child is not None:
            self._child.stop()

    def _initdb(self, user: User | None) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        programs = pginstall.reachable(self.bin_dir, user, self.directory)
        password_file = self.directory / "password"
        descriptor = os.open(password_file, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self.password + "\n")
        if user is not None:
            for path in (self.directory, password_file):
                os.chown(path, user.uid, user.gid)
        argv: list[str | Path] = [
            programs / "initdb", "-D", self._data, "-U", self.user, f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        child = Child("initdb", argv, env=plain(self.directory), log=self._log, cwd=self.directory, user=user)
        child.start()
        try:
            if child.wait(_INITDB_SECONDS):
                raise PgfleetError(f"initdb of PostgreSQL {self.major} failed.", f"It said:\n{child.tail()}")
        finally:
            child.kill()
            password_file.unlink()
        return programs

    def _start(self, user: User | None, programs: Path, port: int) -> None:
        self.port = port
        (self._data / "postgresql.auto.conf").write_text(self._configuration())
        self._child = Child(
            f"PostgreSQL {self.major}",
            [programs / "postgres", "-D", self._data],
            env=plain(self.directory),
            log=self._log,
            cwd=self.directory,
            user=user,
            stop_signal=signal.SIGINT,  # fast shutdown
            death_signal=signal.SIGQUIT,  # immediate: unlike SIGKILL it leaves no shared memory
            stop_seconds=_STOP_SECONDS,
        )
        self._child.start()
        self._wait()

    def _wait(self) -> None:
        try:
            self.child.wait_ready(self._answers, _START_SECONDS)
        except BaseException:
            self.child.kill()
            raise

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _configuration(self) -> str:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": self.socket_dir,
            "max_connections": 100,
            "shared_buffers": "64MB",
            "max_wal_size": "1GB",
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "synchronous_commit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "warning",
        }
        return "".join(f"{name} = '{value}'\n" for name, value in settings.items())

    @property
    def _log(self) -> Path:
        return self.directory / "postgresql.log"
