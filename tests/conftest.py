"""Real services for every test: started when first asked for, one of each per pytest process, free ports, loopback.

A service that is missing fails the test; nothing is skipped.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg
import pytest
from botocore.exceptions import ClientError

from tests.services import MAJORS, Bucket, Database, KeyPair, processes_below, wait_until
from worker.local.environment import is_setting
from worker.local.keys import Keys
from worker.local.place import Place
from worker.local.postgres import Postgres
from worker.local.s3 import S3
from worker.local.sample import load_sample
from worker.local.stack import Stack
from worker.local.user import server_user
from worker.local.valkey import Valkey

PostgresOf = Callable[[int], Postgres]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in filter(is_setting, list(os.environ)):
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _log_level_stays() -> Iterator[None]:
    """A command that is run inside this process sets the level of all logs, and leaves out what it says itself."""
    root, runner = logging.getLogger(), logging.getLogger("pgfleet.runner")
    level, filters = root.level, list(runner.filters)
    yield
    root.setLevel(level)
    runner.filters[:] = filters


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A directory with a short path (Unix sockets) that the servers' user can reach; tmp_path is neither."""
    place = Place(server_user())
    yield place.path
    place.remove()


@pytest.fixture
def own() -> Iterator[Path]:
    """A place of the test's own, empty of processes at the end."""
    place = Place(server_user())
    yield place.path
    left = not wait_until(lambda: not processes_below(place.path), 2)
    place.remove()
    assert not left


@pytest.fixture
def root(own: Path) -> Path:
    """Where the test's stacks make their places."""
    root = own / "root"
    root.mkdir()
    root.chmod(0o711)
    return root


@pytest.fixture(scope="session")
def postgres_of(place: Path) -> Iterator[PostgresOf]:
    """Major → its server."""
    servers: dict[int, Postgres] = {}

    def server(major: int) -> Postgres:
        if major not in servers:
            made = Postgres(place / f"pg{major}", major, fsync=False)
            made.start()
            servers[major] = made
        return servers[major]

    yield server
    for one in servers.values():
        one.stop()


@pytest.fixture(scope="session")
def pg(postgres_of: PostgresOf) -> Postgres:
    """PostgreSQL 17."""
    return postgres_of(17)


@pytest.fixture(scope="session", params=MAJORS, ids=lambda major: f"pg{major}")
def pg_major(request: pytest.FixtureRequest) -> int:
    """The test runs once for each supported major that can be had."""
    return int(request.param)


@pytest.fixture
def pg_each(postgres_of: PostgresOf, pg_major: int) -> Postgres:
    """The server of each major in turn."""
    return postgres_of(pg_major)


@pytest.fixture
def database(pg: Postgres) -> Iterator[Database]:
    """Empty, on `pg`."""
    yield from _database(pg, "template1")


@pytest.fixture
def database_each(pg_each: Postgres) -> Iterator[Database]:
    """Empty, on each major in turn."""
    yield from _database(pg_each, "template1")


@pytest.fixture(scope="session")
def sample_template(pg: Postgres) -> str:
    """The name of a database with the sample in it, to be cloned."""
    pg.createdb("sample_template")
    load_sample(pg, "sample_template")
    return "sample_template"


@pytest.fixture
def sample(pg: Postgres, sample_template: str) -> Iterator[Database]:
    """The sample database (30 MB), on `pg`."""
    yield from _database(pg, sample_template)


def _database(server: Postgres, template: str) -> Iterator[Database]:
    name = f"test_{secrets.token_hex(4)}"
    server.createdb(name, template=template)
    yield Database(server, name)
    with suppress(psycopg.OperationalError):  # the test may have stopped the server
        server.dropdb(name)


@pytest.fixture(scope="session")
def valkey(place: Path) -> Iterator[Valkey]:
    server = Valkey(place / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3(place: Path) -> Iterator[S3]:
    """The S3 server. A test that stops it, or needs further users, starts one of its own below `place`."""
    server = S3(place / "s3")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def bucket(s3: S3) -> Iterator[Bucket]:
    name = f"test-{secrets.token_hex(6)}"
    s3.create_bucket(name)
    yield Bucket(s3, name)
    with suppress(ClientError):
        s3.client().delete_bucket(Bucket=name)  # this server takes the objects along


@pytest.fixture(scope="session")
def gpg_keys(place: Path) -> Iterator[KeyPair]:
    """The key that backups are encrypted to."""
    yield from _keys(place / "keys")


@pytest.fixture(scope="session")
def other_gpg_keys(place: Path) -> Iterator[KeyPair]:
    """Somebody else's key, in a home of its own."""
    yield from _keys(place / "other")


def _keys(directory: Path) -> Iterator[KeyPair]:
    keys = Keys(directory)
    keys.start()
    yield KeyPair(keys.home, keys.recipient, keys.public_dir / "pgfleet.asc")
    keys.stop()


@pytest.fixture
def stack() -> Iterator[Callable[..., Stack]]:
    """A factory of whole stacks (`Stack`'s options), started; they stop with the test."""
    with ExitStack() as running:

        def start(**options: object) -> Stack:
            return running.enter_context(Stack(**options))  # type: ignore[arg-type]

        yield start
