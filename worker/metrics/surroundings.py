"""Keys, spool and broker: what runs out without anybody touching it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from urllib.parse import urlsplit

import redis

from worker.config.masks import masked_url
from worker.errors import BrokerUnavailable, ConfigError
from worker.gpg import Key
from worker.steps.context import Adapters
from worker.steps.keys import recipients

_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes of the spool's file system; `free` is less the reserve."""

    size: int
    free: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes; limit 0: none."""

    used: int
    limit: int


def keys(adapters: Adapters) -> dict[str, list[Key]]:
    """Database → whom it is encrypted to. Raises EncryptionFailed, ConfigError."""
    return {alias: recipients(adapters, database) for alias, database in adapters.settings.databases.items()}


def spool(adapters: Adapters) -> Room:
    """Raises ConfigError where there is none: nothing is made here."""
    settings = adapters.settings
    try:
        found = shutil.disk_usage(settings.spool)
    except OSError as error:
        raise ConfigError(
            f"The spool {settings.spool} cannot be looked at: {error.strerror}.",
            "Run the exporter where a worker that stages backups runs, or set PGFLEET_SPOOL.",
        ) from error
    return Room(found.total, max(0, found.free - settings.spool_reserve_bytes))


def broker(adapters: Adapters) -> Memory | None:
    """None for a broker that is no single Redis or Valkey. Raises BrokerUnavailable."""
    url = adapters.settings.broker_url.get_secret_value()
    if urlsplit(url).scheme not in {"redis", "rediss"}:
        return None
    try:
        with redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS) as client:
            told = client.info("memory")
    except (redis.RedisError, ValueError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise BrokerUnavailable(
            f"The broker at {masked_url(url)} does not answer: {reason}.", "Start it; `--here` works without."
        ) from error
    return Memory(int(told["used_memory"]), int(told.get("maxmemory", 0)))
