"""Whom PostgreSQL runs as: it refuses root."""

from __future__ import annotations

import os
import pwd

from worker.errors import MissingDependency
from worker.local.child import User

CANDIDATES = ("postgres", "nobody")


def server_user() -> User | None:
    """None when we are an ordinary user and need no other. Raises MissingDependency."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return User(name, entry.pw_uid, entry.pw_gid)
    raise MissingDependency(
        f"PostgreSQL refuses to run as root, and this machine has no user {' or '.join(CANDIDATES)}.",
        "Create one (useradd --system postgres), or run this as an ordinary user.",
    )
