"""What the source contains under the dump's snapshot: exact row counts and the fingerprint, read while pg_dump runs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

import psycopg

from worker.core.backup import Gap, TableCount
from worker.core.fingerprint import Fingerprint, SequenceFingerprint
from worker.errors import Cancelled
from worker.postgres.excludes import excluded_names
from worker.postgres.gaps import gaps
from worker.postgres.inspect import fingerprint
from worker.postgres.inspect_objects import sequences
from worker.postgres.queries import query
from worker.postgres.server import Connection
from worker.postgres.snapshot import Snapshot
from worker.postgres.tables import count_rows
from worker.steps.context import Context

log = logging.getLogger("pgfleet.fingerprint")

_CONNECTIONS = 2


@dataclass(frozen=True)
class Contents:
    """tables: exact rows. fingerprint: None when it is off or could not be taken; then `missing` says why."""

    tables: list[TableCount]
    missing: list[Gap]
    fingerprint: Fingerprint | None


@contextmanager
def reading(context: Context, snapshot: Snapshot) -> Iterator[Callable[[], Contents]]:
    """Read inside the block, side by side with the dump; call what it gives when the dump is done.

    Connections are opened first, so that no ALTER TABLE comes between. When the block fails, the reading stops.
    """
    mode = context.database.fingerprint
    with ExitStack() as stack:
        connections = [
            stack.enter_context(snapshot.reader()) for _ in range(1 if mode == "off" else _CONNECTIONS)
        ]
        reader = _Reader(context, snapshot, connections)
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="contents"))
        stack.callback(reader.stopped.set)  # before the pool is waited for
        reader.read_sequences()
        future = pool.submit(reader.read)
        yield lambda: reader.finished(future.result())


class _Reader:
    def __init__(self, context: Context, snapshot: Snapshot, connections: list[Connection]) -> None:
        self.stopped = threading.Event()
        self._context = context
        self._snapshot = snapshot
        self._connections = connections
        self._first = connections[0]
        self._mode = context.database.fingerprint
        self._excluded = excluded_names(self._first, context.database)
        self._sequences: tuple[SequenceFingerprint, ...] = ()

    def read_sequences(self) -> None:
        """Their positions before the dump begins: no snapshot holds sequences still."""
        if self._mode != "off":
            self._sequences = sequences(self._first, self._excluded)

    def read(self) -> Contents:
        missing = gaps(self._first, self._context.database, self._snapshot.facts, self._snapshot.tables)
        taken = None
        if self._mode != "off":
            try:
                with self._first.transaction():  # what fails in it must not spoil the rest of the reading
                    taken = self._fingerprint()
            except psycopg.OperationalError:  # the connection is lost, or the query was cancelled
                raise
            except psycopg.Error as error:
                why = str(error).splitlines()[0]
                log.warning("no fingerprint", extra={"action": "fingerprint", "error": why})
                missing.append(Gap(what="fingerprint", why=f"it could not be taken: {why}"))
        return Contents(self._counts(taken), missing, taken)

    def finished(self, contents: Contents) -> Contents:
        """With the sequences' positions after the dump has ended."""
        if contents.fingerprint is None:
            return contents
        after = sequences(self._first, self._excluded)
        whole = contents.fingerprint.with_sequences(self._sequences, after)
        return Contents(contents.tables, contents.missing, whole)

    def _fingerprint(self) -> Fingerprint:
        rest = iter(self._connections)
        assert self._mode != "off"
        taken = fingerprint(
            lambda: nullcontext(next(rest)),
            mode=self._mode,
            workers=len(self._connections),
            excluded=self._excluded,
            progress=lambda *_: self._check(),
        )
        log.info(
            "fingerprint taken",
            extra={
                "action": "fingerprint",
                "mode": self._mode,
                "seconds": round(taken.seconds, 3),
                "tables": len(taken.tables),
            },
        )
        return taken

    def _counts(self, taken: Fingerprint | None) -> list[TableCount]:
        """From the fingerprint where it read whole tables; what else there is, is counted.

        Not those of extensions: a dump has a part of their rows, and CREATE EXTENSION makes the others.
        """
        rows = {(table.schema_name, table.name): table.rows for table in taken.tables} if taken else {}
        partly = {oid for (oid,) in self._first.execute(query("extension_tables"))}
        tables = [table for table in self._snapshot.tables if table.oid not in partly]
        told = [table for table in tables if table.kind == "table" and (table.schema, table.name) in rows]
        counts = {
            table.oid: TableCount(
                schema_name=table.schema,
                name=table.name,
                rows=rows[table.schema, table.name],
                bytes=table.bytes,
            )
            for table in told
        }
        others = [table for table in tables if table.oid not in counts]
        return [*counts.values(), *count_rows(self._first, others, lambda _: self._check())]

    def _check(self) -> None:
        self._context.check()
        if self.stopped.is_set():
            raise Cancelled("The fingerprint was stopped: the dump has failed.", "")
