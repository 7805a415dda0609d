"""A database for a test of the fingerprint: made, dumped and restored on the session's servers."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from worker.core.fingerprint import Fingerprint
from worker.local import pginstall
from worker.local.postgres import Postgres
from worker.postgres import inspect

PostgresOf = Callable[[int], Postgres]
ROLES = ("sink_owner", "sink_reader", "sink_writer")
SINK = Path(__file__).with_name("fingerprint_sink.sql")


class Scratch:
    """A database of its own; `sql` runs statements in it."""

    def __init__(self, server: Postgres, template: str = "template0", encoding: str = "UTF8") -> None:
        self.server = server
        self.name = f"fp_{secrets.token_hex(4)}"
        locale = "C" if encoding == "SQL_ASCII" else "C.UTF-8"
        with server.connect() as connection:
            connection.execute(
                f"CREATE DATABASE {self.name} TEMPLATE {template} ENCODING '{encoding}' LOCALE '{locale}'".encode()
            )

    def connect(self) -> psycopg.Connection[Any]:
        """In a transaction that sees one snapshot, as the fingerprint's connections do at backup time."""
        connection = self.server.connect(self.name)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return connection

    def sql(self, *statements: str) -> list[Any]:
        with self.server.connect(self.name) as connection:
            for statement in statements:
                cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def fingerprint(self, **options: Any) -> Fingerprint:
        return inspect.fingerprint(self.connect, **options)

    def dump(self, path: Path, major: int = 0, *options: str) -> Path:
        """By the client of `major` (else the server's own)."""
        program = pginstall.bin_dir(major or self.server.major) / "pg_dump"
        argv = [str(program), "-Fc", "-Z0", "-f", str(path), "-d", self.server.dsn(self.name), *options]
        subprocess.run(argv, check=True, capture_output=True)
        return path

    def restore(self, path: Path, *options: str) -> None:
        program = pginstall.bin_dir(self.server.major) / "pg_restore"
        argv = [str(program), "--exit-on-error", "-d", self.server.dsn(self.name), *options, str(path)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


MakeScratch = Callable[..., Scratch]


def make_roles(server: Postgres) -> None:
    with server.connect() as connection:
        known = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        for role in ROLES:
            if role not in known:
                connection.execute(f"CREATE ROLE {role}".encode())


def sink_statements(*, icu: bool = False) -> list[str]:
    """icu: only Debian's 15 is built with it."""
    text = SINK.read_text()
    if not icu:
        text = re.sub(r"\(provider = icu.*\);", 'FROM "C";', text)
    return text.rstrip(";\n").split(";\n")
