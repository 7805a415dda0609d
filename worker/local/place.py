"""A directory of ours in the temporary directory, removed at the end.

Its path is short, because a Unix socket's may have 107 bytes only. Others may pass through it (0711):
PostgreSQL runs as another user when we are root. A lock shows that its owner lives; the place of one that was
killed is swept by the next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from worker.errors import PgfleetError
from worker.local.child import User

PREFIX = "pgfleet-"
_LOCK = ".lock"
_LONGEST_ROOT = 48  # leaves room for "/pgfleet-xxxxxxxx/drill/.s.PGSQL.65535" and gpg-agent's sockets


class Place:
    """path: the directory. keep: leave it there at the end."""

    def __init__(self, user: User | None = None, *, root: Path | None = None, keep: bool = False) -> None:
        """Below `root`, or the temporary directory. Raises PgfleetError when `user` cannot use it too."""
        root = _root(user, root)
        sweep(root)
        self.keep = keep
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=root))
        self.path.chmod(0o711)
        # Locked first, named second: a sweep never sees it unlocked.
        self._lock = os.open(self.path / f"{_LOCK}.new", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        (self.path / f"{_LOCK}.new").rename(self.path / _LOCK)

    def remove(self) -> None:
        """Idempotent."""
        if self._lock < 0:
            return
        if self.keep:
            (self.path / _LOCK).unlink(missing_ok=True)  # nobody's, so never swept
        else:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1


def sweep(root: Path) -> None:
    """Remove the places under `root` whose owner was killed."""
    for lock in root.glob(f"{PREFIX}*/{_LOCK}"):
        with suppress(OSError):  # another user's, or just being removed
            if lock.parent.lstat().st_uid != os.geteuid():
                continue
            descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(descriptor)


def passable(path: Path, user: User | None) -> bool:
    """May `user` (None: we ourselves) go through every directory of `path`?"""
    if user is None:
        return os.access(path, os.X_OK)
    return all(_open_to(one, user) for one in (path, *path.parents))


def _open_to(directory: Path, user: User) -> bool:
    status = directory.stat()
    if status.st_uid == user.uid:
        return bool(status.st_mode & 0o100)
    return bool(status.st_mode & (0o010 if status.st_gid == user.gid else 0o001))


def _root(user: User | None, given: Path | None) -> Path:
    system = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    tried = system if given is None else [given.resolve()]
    for root in tried:
        usable = root.is_dir() and os.access(root, os.W_OK) and len(str(root)) <= _LONGEST_ROOT
        if usable and passable(root, user):
            return root
    who = f"the user {user.name}, whom PostgreSQL runs as," if user else "us"
    raise PgfleetError(
        f"No temporary directory is open to {who} and has a short path: tried {', '.join(map(str, tried))}.",
        "Set TMPDIR to such a directory, for example TMPDIR=/tmp.",
    )
