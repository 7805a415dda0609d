"""Scratch databases as fixtures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from fingerprint_scratch import MakeScratch, Scratch

from worker.local.postgres import Postgres

PostgresOf = Callable[[int], Postgres]
ROLES = ("sink_owner", "sink_reader", "sink_writer")
SINK = Path(__file__).with_name("fingerprint_sink.sql")


@pytest.fixture
def scratch(postgres_of: PostgresOf) -> Iterator[MakeScratch]:
    """(major, template) → a new database; all are dropped with the test."""
    made: list[Scratch] = []

    def make(major: int, template: str = "template0") -> Scratch:
        made.append(Scratch(postgres_of(major), template))
        return made[-1]

    yield make
    for database in made:
        with suppress(psycopg.OperationalError):
            database.server.dropdb(database.name)


@pytest.fixture
def sink(postgres_of: PostgresOf, scratch: MakeScratch) -> Callable[..., Scratch]:
    """major → a database with one of every object kind."""

    def make(major: int, *, icu: bool = False) -> Scratch:
        server = postgres_of(major)
        with server.connect() as connection:
            known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
            for role in ROLES:
                if role not in known:
                    connection.execute(f"CREATE ROLE {role}".encode())
        text = SINK.read_text()
        if not icu:  # only Debian's 15 is built with it
            text = re.sub(r"\(provider = icu.*\);", 'FROM "C";', text)
        database = scratch(major)
        database.sql(text)
        return database

    return make
