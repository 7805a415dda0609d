"""The spool: a staging directory with an id of its own, mounted by one worker or by many.

    <root>/.pgfleet-spool   its id; all that mount it agree, and queue ``spool.<id>`` is theirs
    <root>/runs/<run id>/   what one run stages here (mode 0700)
    <root>/trash/           runs on their way out: renamed first, so half a run is never taken for one

Nothing else below the root is ever deleted.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from worker.core import human
from worker.durable import durable_write
from worker.errors import ConfigError, SpoolFull

_ID_FILE = ".pgfleet-spool"
_ID = re.compile(r"[a-z0-9]{4,32}")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class SpooledRun(NamedTuple):
    """age_seconds: since anything in it changed last. bytes: the sizes of its files."""

    run_id: str
    age_seconds: float
    bytes: int


class Spool:
    """`root` is made when it is missing; `reserve_bytes` of its file system are never promised to anyone.

    Raises ConfigError when the directory cannot be used.
    """

    def __init__(self, root: Path, reserve_bytes: int) -> None:
        self.root = root.absolute()
        self._reserve = reserve_bytes
        self._runs = self.root / "runs"
        self._trash = self.root / "trash"
        try:
            # Others may pass through, not look: the throwaway server of a drill runs as another user.
            for directory in (self.root, self._runs, self._trash):
                directory.mkdir(mode=0o711, parents=directory == self.root, exist_ok=True)
            self.id: str = self._agree_on_id()
        except OSError as error:
            raise _unusable(self.root, error.strerror or str(error)) from error
        for directory in (self._runs, self._trash):
            if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
                raise _unusable(self.root, f"no right to write to {directory.name}")

    def run_dir(self, run_id: str) -> Path:
        """The directory of a run (mode 0700), made when it is missing. Raises ValueError for a bad id."""
        path = self._path(run_id)
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise ConfigError(
                f"{path} is in the way: it is no directory.", "Remove it; pgfleet did not make it."
            )
        return path

    def free(self) -> int:
        """Bytes that may still be written here: what the file system has, less the reserve."""
        return max(0, shutil.disk_usage(self.root).free - self._reserve)

    def need(self, bytes_: int, what: str) -> None:
        """Raises SpoolFull when there is no room for `bytes_`; `what` begins the sentence: "The dump"."""
        free = self.free()
        if bytes_ > free:
            raise SpoolFull(
                f"{what} needs {human.size(bytes_)}; the spool {self.root} has room for {human.size(free)}"
                f" ({human.size(self._reserve)} are kept in reserve).",
                "Free some space there, or set PGFLEET_SPOOL to a larger disk.",
            )

    def remove(self, run_id: str) -> None:
        """Delete a run's directory. No error when it is gone, or somebody else deletes it just now."""
        path = self._path(run_id)
        gone = self._trash / f"{run_id}.{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            path.rename(gone)
            _delete(gone)

    def runs(self) -> list[SpooledRun]:
        """The runs that have a directory here, by id."""
        now = time.time()
        found = []
        for entry in sorted(os.scandir(self._runs), key=lambda entry: entry.name):
            if _RUN_ID.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                changed, size = _measure(Path(entry.path))
                if changed:
                    found.append(SpooledRun(entry.name, max(0.0, now - changed), size))
        return found

    def sweep(self, keep: Collection[str], older_than: float) -> list[str]:
        """Delete the runs not in `keep` that have not changed for `older_than` seconds. Returns their ids.

        What an interrupted `remove` left behind goes too.
        """
        swept = [run.run_id for run in self.runs() if run.run_id not in keep and run.age_seconds > older_than]
        for run_id in swept:
            self.remove(run_id)
        for leftover in self._trash.iterdir():
            _delete(leftover)
        return swept

    def _path(self, run_id: str) -> Path:
        if not _RUN_ID.fullmatch(run_id):
            raise ValueError(f"{run_id!r} is not a run id")
        return self._runs / run_id

    def _agree_on_id(self) -> str:
        """The first worker decides. The id file is linked into place, so it is never seen empty."""
        path = self.root / _ID_FILE
        draft = self.root / f"{_ID_FILE}.{secrets.token_hex(4)}"
        if not path.exists():
            try:
                durable_write(draft, f"{secrets.token_hex(4)}\n".encode())
                with suppress(FileExistsError):
                    os.link(draft, path)
            finally:
                draft.unlink(missing_ok=True)
        spool_id = path.read_text().strip()
        if not _ID.fullmatch(spool_id):
            raise ConfigError(f"{path} holds no spool id.", "Delete it while no worker uses this spool.")
        return spool_id


def _unusable(root: Path, why: str) -> ConfigError:
    return ConfigError(
        f"PGFLEET_SPOOL: {root} cannot be used as a spool: {why}.",
        "Name a directory that this worker may write to.",
    )


def _measure(directory: Path) -> tuple[float, int]:
    """(time of the latest change, bytes); what vanishes meanwhile does not count, (0, 0) when all did."""
    latest, size = 0.0, 0
    for info in _walk(directory):
        latest = max(latest, info.st_mtime)
        if stat.S_ISREG(info.st_mode):
            size += info.st_size
    return latest, size


def _walk(directory: Path) -> Iterator[os.stat_result]:
    with suppress(FileNotFoundError, PermissionError):
        for _, _, files, folder in os.fwalk(directory):  # it follows no links
            yield os.stat(folder)
            for name in files:
                with suppress(FileNotFoundError):
                    yield os.stat(name, dir_fd=folder, follow_symlinks=False)


def _delete(path: Path) -> None:
    """Delete a file, a link (never what it points to) or a tree. Two may do it at once."""
    while os.path.lexists(path):
        with suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
