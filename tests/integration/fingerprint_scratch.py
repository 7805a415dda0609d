"""A database for a test of the fingerprint: made, dumped and restored on the session's servers."""

from __future__ import annotations

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


class Scratch:
    """A database of its own; `sql` runs statements in it."""

    def __init__(self, server: Postgres, template: str = "template0") -> None:
        self.server = server
        self.name = f"fp_{secrets.token_hex(4)}"
        server.createdb(self.name, template=template)

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

    def dump(self, path: Path, major: int = 0) -> Path:
        """By the client of `major` (else the server's own)."""
        program = pginstall.bin_dir(major or self.server.major) / "pg_dump"
        argv = [str(program), "-Fc", "-Z0", "-f", str(path), "-d", self.server.dsn(self.name)]
        subprocess.run(argv, check=True, capture_output=True)
        return path

    def restore(self, path: Path, *options: str) -> None:
        program = pginstall.bin_dir(self.server.major) / "pg_restore"
        argv = [str(program), "--exit-on-error", "-d", self.server.dsn(self.name), *options, str(path)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


MakeScratch = Callable[..., Scratch]
