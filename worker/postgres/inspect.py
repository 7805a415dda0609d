"""The fingerprint of a database: `fingerprint` takes it whole, on connections of its own, in parallel.

A fleet takes it in pieces instead: `header`, `plan`, one `read_chunk` for each chunk wherever a worker is free,
`finish`. All of them work on an open connection: one that has imported the dump's snapshot (REPEATABLE READ), or
a plain one to a restored copy. They raise psycopg.Error as it comes.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, ExitStack

from psycopg.errors import QueryCanceled

from worker.core.fingerprint import NOTHING, ChunkSum, Excluded, Fingerprint, Mode
from worker.postgres.inspect_objects import schema_objects, sequences
from worker.postgres.inspect_tables import Chunk, Plan, combine, plan, read_chunk
from worker.postgres.queries import query
from worker.postgres.server import Connection

__all__ = ("Chunk", "Plan", "fingerprint", "finish", "header", "pin", "plan", "read_chunk", "sequences")

#: 64 MB: seconds of work, so that workers end at about the same time.
CHUNK_PAGES = 8192
_CANCEL_SECONDS = 5.0

#: What values look like when printed, and so what their hashes depend on.
_PRINTING = {
    "search_path": "",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "xmloption": "content",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
}
#: How the work is done: our SQL means what it says, never hide rows, never be cut off, one process for one
#: connection. Only a materialised view can keep it waiting, while it is refreshed, as it does pg_dump: LOCK TABLE
#: does not take those beforehand.
_WORKING = {
    "standard_conforming_strings": "on",
    "row_security": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}


def pin(connection: Connection) -> dict[str, str]:
    """Set what a fingerprint depends on, for the session; gives what values look like (to be recorded)."""
    wanted = {**_PRINTING, **_WORKING}
    # Without a conversion on the server, LATIN1 gives every byte a character: nothing fails to decode.
    raw = connection.info.parameter_status("server_encoding") == "SQL_ASCII"
    wanted["client_encoding"] = "LATIN1" if raw else "UTF8"
    connection.execute(query("fingerprint_pin"), {"settings": json.dumps(wanted)})
    return dict(_PRINTING)


def header(connection: Connection, mode: Mode, excluded: Excluded = NOTHING) -> Fingerprint:
    """A fingerprint of all but rows and large objects. Pins the connection."""
    settings = pin(connection)
    row = connection.execute(query("fingerprint_header")).fetchone()
    assert row is not None
    return Fingerprint(
        mode=mode,
        server_version_num=row[0],
        encoding=row[1],
        probe=row[2],
        settings=settings,
        sequences=sequences(connection, excluded),
        objects=schema_objects(connection, excluded),
    )


def finish(
    header: Fingerprint, plan: Plan, sums: Iterable[tuple[Chunk, ChunkSum]], seconds: float
) -> Fingerprint:
    """The whole fingerprint. Raises ValueError unless `sums` has each chunk of the plan once."""
    tables, large_objects = combine(plan, sums)
    return header.model_copy(
        update={"tables": tables, "large_objects": large_objects, "notes": plan.notes, "seconds": seconds}
    )


def fingerprint(
    reader: Callable[[], AbstractContextManager[Connection]],
    *,
    mode: Mode = "full",
    workers: int = 2,
    chunk_pages: int = CHUNK_PAGES,
    excluded: Excluded = NOTHING,
    progress: Callable[[int, int], None] | None = None,
) -> Fingerprint:
    """Take it over `workers` connections, each from `reader` and closed by it, all seeing the same snapshot.

    Beside a running pg_dump, read `sequences` before it starts and after it has ended, and give both readings to
    `Fingerprint.with_sequences`: pg_dump reads a sequence whenever it comes to it, and no snapshot holds it still.

    `progress(bytes done, bytes in all)` is called after each chunk, from any thread but never twice at once; what
    it raises stops the work: running queries are cancelled, and it is raised here.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        connections = [stack.enter_context(reader()) for _ in range(max(1, workers))]
        first = connections[0]
        for connection in connections:
            pin(connection)
        work = plan(first, mode, chunk_pages, excluded)
        head, sums = _Reading(work, progress).read(connections, lambda: header(first, mode, excluded))
        head = head.with_sequences((), sequences(first, excluded))
    return finish(head, work, sums, time.monotonic() - started)


class _Reading:
    """The chunks of a plan, taken by one thread a connection from one queue, largest first."""

    def __init__(self, plan: Plan, progress: Callable[[int, int], None] | None) -> None:
        self._plan = plan
        self._progress = progress
        self._todo = deque(plan.chunks)
        self._sums: list[tuple[Chunk, ChunkSum]] = []
        self._done = 0
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def read(
        self, connections: Sequence[Connection], header: Callable[[], Fingerprint]
    ) -> tuple[Fingerprint, list[tuple[Chunk, ChunkSum]]]:
        """`header` takes the first connection for as long as it runs."""
        first, *others = connections
        with ThreadPoolExecutor(len(connections), thread_name_prefix="fingerprint") as threads:
            futures = {threads.submit(self._work, connection): connection for connection in others}
            try:
                head = header()
                futures[threads.submit(self._work, first)] = first
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                self._stopped.set()
                for future, connection in futures.items():
                    if future.running():
                        connection.cancel_safe(timeout=_CANCEL_SECONDS)
        errors = [error for future in futures if (error := future.exception()) is not None]
        # the queries that were cancelled for the first error are not the news
        if errors:
            raise next((error for error in errors if not isinstance(error, QueryCanceled)), errors[0])
        return head, self._sums

    def _work(self, connection: Connection) -> None:
        while not self._stopped.is_set():
            try:
                chunk = self._todo.popleft()
            except IndexError:
                return
            part = read_chunk(connection, self._plan, chunk)
            with self._lock:
                self._sums.append((chunk, part))
                self._done += chunk.bytes
                if self._progress is not None:
                    self._progress(self._done, self._plan.bytes)
