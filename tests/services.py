"""What the fixtures of conftest.py hand to tests, and how tests look at processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from worker.local.postgres import Postgres
from worker.local.s3 import S3, S3User

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MAJORS = (15, 16, 17, 18)


@dataclass(frozen=True)
class Database:
    """A database of its own on a server that others use too."""

    server: Postgres
    name: str

    @property
    def dsn(self) -> str:
        return self.server.dsn(self.name)

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return self.server.connect(self.name)

    @property
    def env(self) -> dict[str, str]:
        """The settings that name it."""
        return {
            "DB_HOST": self.server.host,
            "DB_PORT": str(self.server.port),
            "DB_NAME": self.name,
            "DB_USER": self.server.user,
            "DB_PASSWORD": self.server.password,
        }


@dataclass(frozen=True)
class Bucket:
    """An empty bucket on a server that others use too."""

    server: S3
    name: str

    def client(self, user: S3User | None = None) -> S3Client:
        return self.server.client(user)

    def keys(self) -> list[str]:
        """The names in it (at most 1000)."""
        return [entry["Key"] for entry in self.client().list_objects_v2(Bucket=self.name).get("Contents", [])]

    @property
    def env(self) -> dict[str, str]:
        """The settings that name it."""
        return {
            "S3_ENDPOINT": self.server.endpoint,
            "S3_BUCKET": self.name,
            "S3_ACCESS_KEY": self.server.access_key,
            "S3_SECRET_KEY": self.server.secret_key,
        }


@dataclass(frozen=True)
class KeyPair:
    """A GnuPG home with both halves of one key, which has no passphrase."""

    home: Path
    fingerprint: str
    public_key: Path


def processes_below(path: Path) -> dict[int, str]:
    """pid → command line of every process that works in `path` or names it in its arguments."""
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has just ended
            continue
        where = Path("/")
        with suppress(OSError):  # another user's, or one that hides itself, as gpg-agent does
            where = Path(os.readlink(directory / "cwd"))
        if str(path) in command or where.is_relative_to(path):
            found[int(directory.name)] = command.strip()
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Poll until it holds; False when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
