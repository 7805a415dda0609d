"""Ledgers to test on: SQLite in a file, and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ledger_scenes import LEASE, LONG

from worker.ledger import Ledger, schema
from worker.local.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A ledger of its own, with its tables."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/ledger.sqlite"
        ledger = Ledger(url)
        ledger.migrate()
        ledger.close()
        return url
    url: str = request.getfixturevalue("emptied_ledger")
    return url


@pytest.fixture(scope="session")
def shared_ledger(pg: Postgres) -> str:
    pg.createdb("ledger")
    ledger = Ledger(pg.dsn("ledger"))
    ledger.migrate()
    ledger.close()
    return pg.dsn("ledger")


@pytest.fixture
def emptied_ledger(pg: Postgres, shared_ledger: str) -> str:
    """A database of its own would take longer than most tests do."""
    tables = ", ".join(name for name in schema.metadata.tables if name != schema.version.name)
    with pg.connect("ledger") as conn:
        conn.execute(f"TRUNCATE {tables} RESTART IDENTITY".encode())
        conn.execute(
            f"UPDATE ledger_version SET version = {schema.VERSION}, oldest = {schema.OLDEST}".encode()
        )
    return shared_ledger


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
