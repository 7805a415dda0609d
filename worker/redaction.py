"""The last net for secrets: texts that are known to be secret are masked wherever a log line is written.

The design is that secrets never get there (types that print masked, passfiles, ids in messages). This net is
for what a library puts into an exception.
"""

from __future__ import annotations

import json
import re
import threading
from urllib.parse import quote, quote_plus

MASK = "********"
#: Shorter ones are not masked: they would blot out half of every line, and so tell what they are.
SHORTEST = 4

_lock = threading.Lock()
_known: set[str] = set()
_pattern: re.Pattern[str] | None = None


def register(secret: str) -> None:
    """Mask `secret` from now on, also as it looks in a URL, in JSON and in a Python repr."""
    global _pattern  # noqa: PLW0603 - one registry for the process, like logging's own
    if len(secret) < SHORTEST:
        return
    with _lock:
        if secret in _known:
            return
        _known.add(secret)
        texts = sorted({text for known in _known for text in _spellings(known)}, key=len, reverse=True)
        _pattern = re.compile("|".join(re.escape(text) for text in texts))


def redact(text: str) -> str:
    return _pattern.sub(MASK, text) if _pattern else text


def _spellings(secret: str) -> set[str]:
    escaped = secret.replace("\\", "\\\\")
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        escaped.replace("'", "\\'"),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    }
