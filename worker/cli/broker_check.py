"""What a doctor asks the broker: does it answer, will it keep messages, may it throw some away?

Messages are hints, and losing all of them loses no run: so what is wrong here, short of silence, is a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import redis

from worker.config.masks import masked_url
from worker.core import human
from worker.steps.examine import Check, failed, ok, warning

#: Celery 5.7's oldest.
OLDEST = (6, 2)
_SECONDS = 5.0


def checks(url: str) -> Iterator[Check]:
    """broker, its persistence and its policy. Sentinels and others are asked by Celery alone."""
    if urlsplit(url).scheme not in {"redis", "rediss"}:
        yield ok("broker", f"{masked_url(url)} is not checked")
        return
    try:
        client = redis.Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
        with client:
            told: dict[str, Any] = client.info()
    except redis.AuthenticationError:
        yield _no_broker(url, "it refused the password", "Check the password in PGFLEET_BROKER_URL.", 3)
        return
    except (redis.RedisError, ValueError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        yield _no_broker(url, reason, "Start it, or check PGFLEET_BROKER_URL. `--here` works without it.", 1)
        return
    yield _server(url, told)
    yield _persistence(told)
    yield _policy(told)


def _no_broker(url: str, reason: str, hint: str, code: int) -> Check:
    return failed("broker", f"{masked_url(url)} does not serve us: {reason.rstrip('.')}.", hint, code)


def _server(url: str, told: dict[str, Any]) -> Check:
    valkey = told.get("valkey_version")
    detail = f"{'Valkey' if valkey else 'Redis'} {valkey or told.get('redis_version')} at {masked_url(url)}"
    version = tuple(
        int(part) for part in str(told.get("redis_version", "0")).split(".")[:2] if part.isdigit()
    )
    if version < OLDEST:
        return warning("broker", detail, f"Update it: Celery wants Redis {OLDEST[0]}.{OLDEST[1]} or newer.")
    return ok("broker", detail)


def _persistence(told: dict[str, Any]) -> Check:
    if told.get("aof_enabled"):
        if told.get("aof_last_write_status", "ok") != "ok":
            return warning(
                "broker persistence", "its last write to the append-only file failed", "Look at its disk."
            )
        return ok("broker persistence", "append-only file")
    hint = "Set appendonly yes. Without it, a restart delays what was queued until the next reconcile."
    return warning("broker persistence", "no append-only file", hint)


def _policy(told: dict[str, Any]) -> Check:
    policy, limit = str(told.get("maxmemory_policy", "unknown")), int(told.get("maxmemory", 0))
    detail = f"{policy}, {f'memory limited to {human.size(limit)}' if limit else 'memory not limited'}"
    if limit and policy != "noeviction":
        hint = "Set maxmemory-policy noeviction: evicted keys are lost messages and lost queue bindings."
        return warning("broker policy", detail, hint)
    return ok("broker policy", detail)
