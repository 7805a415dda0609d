"""Effective settings as flat text, to see what has changed since: secrets by fingerprint, never by value."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, SecretStr

from worker.config.masks import holds_secret, masked
from worker.config.model import Settings
from worker.config.values import is_secret, kind_of

#: scrypt, so that a short password cannot be guessed from its fingerprint at the speed of a plain hash; 32 bits of
#: it tell that a secret has changed, and fit many guesses.
_COST = 2**12
_DIGITS = 8


def snapshot(settings: Settings) -> dict[str, str]:
    """``databases.goimg.schedule`` → ``0 2 * * *``; what is not set is left out."""
    found = {name: value for name, value in _flat("", settings) if value}
    return {name: found[name] for name in sorted(found) if not _said_already(name, found)}


def _said_already(name: str, found: Mapping[str, str]) -> bool:
    """An alias is in the name; a database's own server is a target as well, with the same settings."""
    own = name.replace("targets.", "databases.", 1)
    return name.endswith(".alias") or (name.startswith("targets.") and found.get(own) == found[name])


def _flat(prefix: str, model: BaseModel) -> Iterator[tuple[str, str]]:
    for field, info in type(model).model_fields.items():
        name, value = f"{prefix}{field}", getattr(model, field)
        if isinstance(value, BaseModel):
            yield from _flat(f"{name}.", value)
        elif isinstance(value, dict):
            for alias, inner in value.items():
                if isinstance(inner, BaseModel):
                    yield from _flat(f"{name}.{alias}.", inner)
                else:
                    yield f"{name}.{alias}", str(inner)
        elif value is None or value == ():
            continue
        elif is_secret(info):
            yield name, _secret(value)
        else:
            yield name, kind_of(info).show(value)


def _secret(value: Any) -> str:
    """An address without its password, and the fingerprint of the whole; of other secrets the fingerprint."""
    texts = [one.get_secret_value() for one in (value if isinstance(value, tuple) else (value,))]
    if not any(holds_secret(text) for text in texts):
        return " ".join(texts)
    shown = masked(value) if not isinstance(value, SecretStr) or "://" in texts[0] else ""
    return f"{shown} (fingerprint {_fingerprint(' '.join(texts))})".strip()


@lru_cache(maxsize=256)
def _fingerprint(secret: str) -> str:
    made = hashlib.scrypt(secret.encode(), salt=b"pgfleet settings", n=_COST, r=8, p=1, dklen=_DIGITS // 2)
    return made.hex()
