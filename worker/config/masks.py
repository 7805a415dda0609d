"""What of a setting is secret: what to show instead, and which texts must appear in no log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from worker.config.model import Settings

MASK = "********"
_USER_PASSWORD = re.compile(r"(?<=://)([^/@?#]*):([^@]*)@")
_TOKENS = ("http://", "https://")  # of all secrets only a ping URL begins so
_QUERY_PASSWORD = re.compile(r"(?i)([?&][a-z_]*(?:password|passwd|secret|token)=)([^&#]*)")


def masked_url(url: str) -> str:
    """``redis://:secret@host/0`` is shown as ``redis://:***@host/0``."""
    return _QUERY_PASSWORD.sub(r"\1***", _USER_PASSWORD.sub(r"\1:***@", url))


def masked(value: Any) -> str:
    """A secret for people to see: of an address everything but the password, of the rest nothing.

    A notification URL has its token anywhere, and a ping URL is one, so that both are shown by their scheme only.
    """
    if isinstance(value, tuple):
        return " ".join(f"{urlsplit(item.get_secret_value()).scheme}://{MASK}" for item in value)
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
    if not text:
        return ""
    if text.startswith(_TOKENS):
        return f"{urlsplit(text).scheme}://{MASK}"
    return masked_url(text) if "://" in text else MASK


def holds_secret(value: object) -> bool:
    """False for nothing, and for an address without a password or a token."""
    if not isinstance(value, str):
        return bool(value)
    return bool(value) and ("://" not in value or value.startswith(_TOKENS) or masked_url(value) != value)


def secrets(settings: Settings) -> Iterator[str]:
    """Every text that must not be seen: passwords and keys, and the passwords within URLs.

    Give them to `worker.log.setup`. Nothing here is fit for display.
    """
    servers = [*settings.databases.values(), *settings.targets.values()]
    plain = [
        settings.flower_password,
        settings.web_password,
        *(server.password for server in servers),
        *(destination.secret_key for destination in settings.destinations.values()),
    ]
    yield from (secret.get_secret_value() for secret in plain if secret and secret.get_secret_value())
    yield from (url.get_secret_value() for url in settings.notify_urls)
    yield from (url.get_secret_value() for each in settings.databases.values() if (url := each.ping_url))
    gateway = (settings.pushgateway_url,) if settings.pushgateway_url is not None else ()
    for url in (settings.broker_url, settings.ledger_url, *settings.notify_urls, *gateway):
        yield from _within(url.get_secret_value())


def _within(url: str) -> Iterator[str]:
    found = [match[2] for pattern in (_USER_PASSWORD, _QUERY_PASSWORD) for match in pattern.finditer(url)]
    for text in found:
        if text:
            yield text
            if unquote(text) != text:
                yield unquote(text)
