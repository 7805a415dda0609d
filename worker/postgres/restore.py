"""pg_restore: what is in an archive, and loading it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from worker.config.model import Target
from worker.core.restore_plan import pgoptions
from worker.core.toc import Toc, parse
from worker.errors import Cancelled, MissingDependency, PgfleetError, RestoreFailed
from worker.postgres.failures import place
from worker.postgres.targets import APPLICATION
from worker.postgres.tools import KEEPALIVES, Tools, libraries
from worker.process import Finished, run

_TICK_SECONDS = 0.2
_LISTING = 512 * 1024 * 1024  # bytes; a line is about 100
_UNSUPPORTED = re.compile(r"unsupported version \(([\d.]+)\) in file header")
_ENTRY = re.compile(r"from TOC entry \d+; \d+ \d+ (.*)|COPY failed for (table .*?): ")
_ERROR = re.compile(r"(?:ERROR|FATAL|PANIC):\s+(.*)")
_LOST = re.compile(
    r"server closed the connection|terminating connection|connection to server|could not receive data"
    r"|could not send data|no connection to the server|SSL SYSCALL|the database system is|Connection refused"
)


@dataclass(frozen=True, slots=True)
class Loading:
    """How archives are loaded. settings: of each session (PGOPTIONS). flags: further arguments of pg_restore."""

    target: Target
    dbname: str
    tools: Tools
    settings: Mapping[str, str] = field(default_factory=dict)
    flags: Sequence[str] = ()


def read_toc(tools: Tools, archive: Path) -> Toc:
    """Raises RestoreFailed when it is no archive, MissingDependency when these tools are too old to read it."""
    finished = run([*tools.command("pg_restore"), "--list", "--verbose", str(archive)], stdout_limit=_LISTING)
    unsupported = _UNSUPPORTED.search(finished.stderr)
    if unsupported is not None:
        raise MissingDependency(
            f"pg_restore {tools.version} cannot read {archive.name}: its format ({unsupported[1]}) is newer.",
            "Install the newest postgresql-client, or put the directory of its programs into PGFLEET_PG_BIN.",
        )
    if finished.returncode:
        raise _unreadable(archive, finished)
    try:
        return parse(finished.stdout.decode(errors="replace"))
    except ValueError as error:
        raise _unreadable(archive, finished) from error


def readers(installed: Mapping[int, Tools], toc: Toc) -> dict[int, Tools]:
    """Those of the tools (by major) that can decompress this archive. Raises MissingDependency when none can."""
    if toc.compression not in ("zstd", "lz4"):
        return dict(installed)
    able = {major: tools for major, tools in installed.items() if toc.compression in libraries(tools)}
    if not able:
        raise MissingDependency(
            f"The archive is compressed with {toc.compression}, which no pg_restore here was built with.",
            "Install postgresql-client 16 or newer from your distribution or PGDG.",
        )
    return able


def read_through(tools: Tools, archive: Path, *, stop: threading.Event) -> None:
    """Decompress all of an archive: the check of one that no manifest describes. Raises as `read_toc`."""
    finished = run([*tools.command("pg_restore"), "--file=/dev/null", str(archive)], stop=stop)
    if finished.killed:
        raise Cancelled(f"Reading {archive.name} was stopped.", "")
    if finished.returncode:
        raise _unreadable(archive, finished)


def script_of(
    tools: Tools, archive: Path, ids: Collection[int], directory: Path, *, verbose: bool = False
) -> str:
    """The SQL of these entries, what is about the database included. A list is written into `directory`."""
    if not ids:
        return ""
    chosen = write_list(directory / f"{archive.name}.script.list", sorted(ids))
    command = [*tools.command("pg_restore"), "--create", "--file=-", f"--use-list={chosen}", str(archive)]
    command += ["--verbose"] if verbose else []
    finished = run(command, stdout_limit=_LISTING)
    if finished.returncode:
        raise _unreadable(archive, finished)
    return finished.stdout.decode(errors="replace")


def write_list(path: Path, ids: Collection[int]) -> Path:
    """A file for `pg_restore --use-list`: it restores these entries, in this order."""
    path.write_text("".join(f"{number};\n" for number in ids))
    return path


def listed(path: Path) -> list[int]:
    """The entries that such a file names."""
    return [int(line.rstrip(";")) for line in path.read_text().split()]


def load(
    how: Loading,
    archives: Sequence[tuple[Path, Path]],
    *,
    section: str | None,
    jobs: int,
    stop: threading.Event,
    poll: Callable[[], None] | None = None,
) -> None:
    """Load archives (each with its list of entries) side by side, `jobs` processes each; the first failure ends all.

    Raises RestoreFailed (retryable when the connection was lost), Cancelled when `stop` was set.
    """
    ended = threading.Event()
    with ThreadPoolExecutor(len(archives), thread_name_prefix="pg_restore") as pool:
        futures = [pool.submit(_load, how, one, section, jobs, ended) for one in archives]
        try:
            while not all(future.done() for future in futures):
                if stop.is_set() or any(future.done() and future.exception() for future in futures):
                    break
                pending = [future for future in futures if not future.done()]
                wait(pending, timeout=_TICK_SECONDS, return_when=FIRST_COMPLETED)
                if poll is not None:
                    poll()
        finally:
            if not all(future.done() for future in futures):
                ended.set()
    if stop.is_set():
        raise Cancelled("The restore was stopped.", "")
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in sorted(errors, key=lambda error: isinstance(error, Cancelled)):
        raise error


def _load(
    how: Loading, archive: tuple[Path, Path], section: str | None, jobs: int, stop: threading.Event
) -> None:
    path, chosen = archive
    env = how.tools.connection_env(how.target, how.dbname, application_name=APPLICATION)
    options = ["--exit-on-error", "--no-password", f"--use-list={chosen}", *how.flags]
    if section is not None:
        options.append(f"--section={section}")
    if "--single-transaction" not in how.flags:
        options.append(f"--jobs={jobs}")
    command = [*how.tools.command("pg_restore", env), *options, f"--dbname={KEEPALIVES}", str(path)]
    finished = run(command, env={**env, "PGOPTIONS": pgoptions(how.settings)}, stop=stop)
    if finished.killed:
        raise Cancelled("The restore was stopped.", "")
    if finished.returncode:
        raise load_error(how.target, path.name, finished)


def load_error(target: Target, archive: str, finished: Finished) -> PgfleetError:
    """What pg_restore said before it failed. Its statements are not repeated: they may hold rows and passwords."""
    text = finished.stderr
    said = _ERROR.search(text)
    what = said[1].rstrip(".") if said else _first_error(text) or f"exit code {finished.returncode}"
    entry = _ENTRY.search(text)
    at = f" at {(entry[1] or entry[2]).strip()}" if entry else ""
    failed = RestoreFailed(f"Loading {archive} into {place(target)} failed{at}: {what[:300]}.", _hint(text))
    failed.retryable = bool(_LOST.search(text)) and "unsupported startup parameter" not in text
    return failed


_HINTS = (
    (
        r"unsupported startup parameter",
        "The target is a pooler: give the address of the PostgreSQL server itself.",
    ),
    (r'role ".*" does not exist', "Create the role, or restore with --globals, or with --no-owner --no-acl."),
    (
        r"No space left on device|Disk quota",
        "Free some space on the server's disk; nothing there was changed.",
    ),
    (
        r"permission denied|must be (owner|superuser|able)",
        "Use a role with more rights, or --no-owner --no-acl.",
    ),
    (r"tablespace .* does not exist", "Create the tablespace, then try again."),
    (r"max_locks_per_transaction", "Raise max_locks_per_transaction on the server (it needs a restart)."),
    (r"is not available|could not open extension", "Install the extension's files on the server."),
)


def _hint(text: str) -> str:
    found = (hint for pattern, hint in _HINTS if re.search(pattern, text))
    return next(found, "Nothing that was there before was changed; the server's log may say more.")


def _first_error(text: str) -> str:
    """pg_restore's own first complaint; what follows it may be the statement."""
    said = re.search(r"^pg_restore: (?:error: )?(.+)", text, re.MULTILINE)
    return said[1].strip().rstrip(".") if said else ""


def _unreadable(archive: Path, finished: Finished) -> RestoreFailed:
    return RestoreFailed(
        f"{archive.name} is no archive that pg_restore can read: {_first_error(finished.stderr) or 'it is empty'}.",
        "It is damaged, cut short, or no output of pg_dump -Fc: take another copy or backup.",
    )
