"""pg_dump: one archive of a database, or several side by side, all of one held snapshot.

Several archives fit together: `dump` has every definition, the rows of all but the largest tables, and the large
objects; `data-NN.dump` have the rows of the others. Restored as pre-data of the first, data of all, post-data of
the first. What belongs to the database itself (its settings and grants) comes with `pg_restore --create`.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from worker.config.model import Database
from worker.core.bins import split
from worker.core.versions import compression_argument
from worker.durable import durable_rename
from worker.errors import Busy, Cancelled, DumpFailed, PgfleetError
from worker.postgres.excludes import exactly
from worker.postgres.failures import dump_error
from worker.postgres.queries import query
from worker.postgres.server import connect, translated
from worker.postgres.snapshot import Snapshot, locked_error
from worker.postgres.tables import TableInfo
from worker.postgres.tools import KEEPALIVES, Tools, libraries
from worker.process import Finished, run

log = logging.getLogger("pgfleet.postgres")

_POLL_SECONDS = 0.5
_ALIVE_SECONDS = 5.0
_HEADER = 4096  # bytes; the head of a listing is a dozen lines
_ENTRIES = re.compile(rb"^;\s+TOC Entries: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Archive:
    """A finished archive. stem: ``dump`` or ``data-01.dump``. size: bytes. entries: lines of its table of contents."""

    stem: str
    path: Path
    size: int
    entries: int


@dataclass(frozen=True, slots=True)
class _Part:
    """One pg_dump: what it writes, and the arguments that say what goes in."""

    stem: str
    arguments: tuple[str, ...]


def compression(database: Database, tools: Tools) -> str:
    """The argument of `pg_dump --compress`, as the manifest records it. Raises ConfigError."""
    return compression_argument(database.compression, tools.major, libraries(tools))


def dump_archives(
    snapshot: Snapshot,
    tools: Tools,
    directory: Path,
    *,
    stop: threading.Event,
    progress: Callable[[int], None] | None = None,
) -> list[Archive]:
    """Dump the snapshot's database into `directory` (files named by their stem), the main archive first.

    `progress` gets the bytes written so far, twice a second, in the calling thread; what it raises ends the dump.
    One that fails ends the others, and nothing is left in `directory` then.
    Raises Cancelled when `stop` is set, SpoolFull, Busy for a locked table, DumpFailed, DatabaseUnavailable,
    ConfigError for the compression, MissingDependency.
    """
    parts = _plan(snapshot.database, snapshot.tables)
    work = _Work(snapshot, tools, directory, compression(snapshot.database, tools))

    def tell() -> None:
        if progress is not None:
            progress(work.bytes_written(parts))

    try:
        work.discard(parts)
        with ThreadPoolExecutor(len(parts), thread_name_prefix="pg_dump") as pool:
            futures = [pool.submit(work.dump, part) for part in parts]
            try:
                _attend(futures, snapshot, stop, tell)
            finally:
                work.stop.set()
        return [future.result() for future in futures]
    except BaseException:
        work.abandon(parts)
        raise


def check_archive(tools: Tools, path: Path) -> int:
    """The number of entries in an archive's table of contents, read by pg_restore. Raises DumpFailed when it cannot."""
    head = bytearray()

    def keep(chunk: memoryview | bytes) -> None:
        head.extend(chunk[: max(0, _HEADER - len(head))])

    with path.open("rb") as archive:
        command = [*tools.command("pg_restore"), "--list"]
        finished = run(command, stdin=archive, stdout=keep, inherit=tools.inherit)
    match = _ENTRIES.search(head)
    if finished.returncode or match is None or not int(match[1]):
        said = finished.stderr.strip().splitlines()
        raise DumpFailed(
            f"pg_restore cannot read the archive {path.name}: {said[-1] if said else 'it has no entries'}.",
            "The dump is not usable; look at the disk of the spool, then try again.",
        )
    return int(match[1])


def _end_container_sessions(database: Database, application_name: str) -> None:
    """A program inside a container does not die with `docker exec`, but it does with its session on the server."""
    try:
        with (
            translated(database, database.name),
            closing(connect(database, database.name, application_name="pgfleet")) as connection,
        ):
            connection.execute(query("end_backends"), {"application_name": application_name})
    except PgfleetError as error:
        log.warning("sessions of a container not ended", extra={"action": "dump.end", "error": str(error)})


def _plan(database: Database, tables: Sequence[TableInfo]) -> list[_Part]:
    sizes = {table: table.bytes for table in tables if table.kind == "table"}
    archives = [
        [exactly(table.schema, table.name) for table in big]
        for big in split(sizes, database.jobs, database.split_bytes)
    ]
    excludes = [f"--exclude-schema={pattern}" for pattern in database.exclude_schemas]
    excludes += [f"--exclude-table={pattern}" for pattern in database.exclude_tables]
    elsewhere = [f"--exclude-table-data={name}" for names in archives for name in names]
    return [
        _Part("dump", (*excludes, *elsewhere)),
        *(
            _Part(
                f"data-{number:02}.dump",
                ("--data-only", "--strict-names", *(f"--table={name}" for name in names)),
            )
            for number, names in enumerate(archives, 1)
        ),
    ]


def _attend(
    futures: Sequence[Future[Archive]], snapshot: Snapshot, stop: threading.Event, tell: Callable[[], None]
) -> None:
    """Until all are done, or one has failed, or anything else has."""
    pending = set(futures)
    asked = time.monotonic()
    while pending:
        done, pending = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
        if stop.is_set():
            raise _stopped(snapshot.database)
        if time.monotonic() - asked > _ALIVE_SECONDS:
            snapshot.alive()
            asked = time.monotonic()
        tell()


def _stopped(database: Database) -> Cancelled:
    return Cancelled(f"The dump of {database.alias} was stopped.", "")


class _Work:
    def __init__(self, snapshot: Snapshot, tools: Tools, directory: Path, compress: str) -> None:
        self.stop = threading.Event()
        self._token = secrets.token_hex(4)  # one whose lease is lost must not rename what another writes
        self._snapshot = snapshot
        self._database = snapshot.database
        self._tools = tools
        self._directory = directory
        self._application_name = f"{snapshot.application_name} pg_dump"
        self._env = tools.connection_env(
            snapshot.database, snapshot.database.name, application_name=self._application_name
        )
        self._common = (
            "--format=custom",
            f"--snapshot={snapshot.id}",
            f"--lock-wait-timeout={snapshot.database.lock_timeout * 1000}",
            f"--compress={compress}",
            "--no-password",
            f"--dbname={KEEPALIVES}",
        )

    def dump(self, part: _Part) -> Archive:
        final, partial = self._directory / part.stem, self._partial(part)
        finished = self._run(part, partial)
        if finished.killed == "stopped":
            raise _stopped(self._database)
        if finished.killed == "timeout":
            raise DumpFailed(
                f"The dump of {self._database.alias} was not done after {self._database.dump_timeout} s.",
                "Raise dump_timeout, or dump with more jobs.",
            )
        if finished.returncode:
            raise self._error(finished)
        if finished.stderr:
            text = finished.stderr.strip()[-2000:]
            log.warning(
                "pg_dump warned", extra={"action": "dump.warning", "archive": part.stem, "text": text}
            )
        durable_rename(partial, final)
        return Archive(part.stem, final, final.stat().st_size, check_archive(self._tools, final))

    def bytes_written(self, parts: Sequence[_Part]) -> int:
        total = 0
        for part in parts:
            for path in (self._partial(part), self._directory / part.stem):
                try:
                    total += path.stat().st_size
                    break
                except FileNotFoundError:
                    continue
        return total

    def abandon(self, parts: Sequence[_Part]) -> None:
        """After a failure, when no child of ours is left."""
        if self._tools.container:
            _end_container_sessions(self._database, self._application_name)
        self.discard(parts)

    def discard(self, parts: Sequence[_Part]) -> None:
        """Files of earlier attempts too: one that was killed could not clear up."""
        for part in parts:
            for stale in self._directory.glob(f"{part.stem}.*.partial"):
                stale.unlink(missing_ok=True)
            (self._directory / part.stem).unlink(missing_ok=True)

    def _run(self, part: _Part, partial: Path) -> Finished:
        """To a file of pg_dump's own where possible: it seeks back in it to note where each table's rows are,
        which parallel pg_restore needs. Out of a container comes a stream.
        """
        env = dict(self._env)
        if not all(argument.isascii() for argument in part.arguments):
            env["PGCLIENTENCODING"] = "UTF8"  # what our arguments are in, whatever the database's encoding is
        command = [*self._tools.command("pg_dump", env), *self._common, *part.arguments]
        if not self._tools.container:
            return self._start([*command, f"--file={partial}"], env, None)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

        def write(chunk: memoryview | bytes) -> None:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(descriptor, rest) :]

        try:
            return self._start(command, env, write)
        except OSError as error:
            raise dump_error("pg_dump", 1, str(error), self._database, self._database.name) from error
        finally:
            os.close(descriptor)

    def _start(
        self, command: list[str], env: dict[str, str], sink: Callable[[memoryview | bytes], None] | None
    ) -> Finished:
        return run(
            command,
            env=env,
            inherit=self._tools.inherit,
            stdout=sink,
            stop=self.stop,
            timeout=self._database.dump_timeout,
        )

    def _error(self, finished: Finished) -> PgfleetError:
        database = self._database
        error = dump_error("pg_dump", finished.returncode, finished.stderr, database, database.name)
        if isinstance(error, Busy):
            try:
                with closing(connect(database, database.name, application_name="pgfleet")) as connection:
                    return locked_error(connection, database, self._snapshot.tables)
            except PgfleetError:
                return error
        return error

    def _partial(self, part: _Part) -> Path:
        return self._directory / f"{part.stem}.{self._token}.partial"
