"""To a Pushgateway, for what does not stay: a run `--here` in cron, or an exporter that is asked once."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from prometheus_client import exposition, push_to_gateway
from prometheus_client.registry import CollectorRegistry

from worker.config.masks import masked_url
from worker.errors import ConfigError, PgfleetError

JOB = "pgfleet"
_SECONDS = 30.0


def push(url: str, registry: CollectorRegistry, *, seconds: float = _SECONDS) -> None:
    """In the place of what this host pushed before. `url` may have a user and a password.

    Raises ConfigError for no such URL, PgfleetError when it is not taken.
    """
    address, login = _split(url)
    grouping = {"instance": socket.gethostname()}
    try:
        push_to_gateway(address, JOB, registry, grouping, timeout=seconds, handler=login)
    except (OSError, HTTPException) as error:
        raise PgfleetError(
            f"The Pushgateway at {masked_url(url)} does not take the metrics: {error}.",
            "Check that it runs there.",
        ) from error


def _split(url: str) -> tuple[str, Callable[..., Any]]:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(
            f"A Pushgateway has an http or https URL, not {masked_url(url)!r}.",
            "Such as http://pushgateway:9091.",
        )
    if parts.username is None:
        return url, exposition.default_handler
    user, password = unquote(parts.username), unquote(parts.password or "")
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def login(**request: Any) -> Callable[[], None]:
        return exposition.basic_auth_handler(**request, username=user, password=password)

    return bare, login
