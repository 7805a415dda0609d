"""Which names an object of ours may have. They become file names and parts of URLs, and some come from manifests
that somebody may have tampered with.
"""

from __future__ import annotations

import re

from worker.errors import StorageError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


def check_name(key: str) -> str:
    """`key` itself. Raises StorageError for one with a slash, a leading dot, odd characters or over 200 of them."""
    if _NAME.fullmatch(key) is None:
        raise StorageError(
            f"{key[:200]!r} cannot be the name of a stored object.",
            "Names are flat: letters, digits, '_', '-' and '.', not starting with '.'. If a manifest says this "
            "name, it was tampered with: do not trust that copy.",
        )
    return key
