"""Scratch databases as fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
from fingerprint_scratch import MakeScratch, PostgresOf, Scratch, make_roles, sink_statements


@pytest.fixture
def scratch(postgres_of: PostgresOf) -> Iterator[MakeScratch]:
    """(major, template, encoding) → a new database; all are dropped with the test."""
    made: list[Scratch] = []

    def make(major: int, template: str = "template0", encoding: str = "UTF8") -> Scratch:
        made.append(Scratch(postgres_of(major), template, encoding))
        return made[-1]

    yield make
    for database in made:
        with suppress(psycopg.OperationalError):
            database.server.dropdb(database.name)


@pytest.fixture
def sink_roles(postgres_of: PostgresOf) -> Callable[[int], None]:
    """major → the roles that the sink's owners and grants name are there."""
    return lambda major: make_roles(postgres_of(major))


@pytest.fixture
def sink(sink_roles: Callable[[int], None], scratch: MakeScratch) -> Callable[..., Scratch]:
    """major → a database with one of every object kind."""

    def make(major: int, *, icu: bool = False) -> Scratch:
        sink_roles(major)
        database = scratch(major)
        database.sql(*sink_statements(icu=icu))
        return database

    return make
