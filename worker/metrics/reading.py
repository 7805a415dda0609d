"""One part of what is exported, read when somebody asks and it is old; a scrape never waits for long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from worker.errors import PgfleetError
from worker.redaction import redact

log = logging.getLogger("pgfleet.metrics")
Value = TypeVar("Value")


class Reading(Generic[Value]):
    """`read` is called in a thread of its own, once at a time, when the last answer is older than `max_age` seconds.

    value: of the last read that went well; None before, and after one that failed: what is not known is not told.
    error: of the last read. at, seconds: when it was asked (epoch seconds) and how long that took.
    """

    def __init__(self, name: str, read: Callable[[], Value], max_age: float) -> None:
        self.name = name
        self.value: Value | None = None
        self.error: PgfleetError | None = None
        self.at: float | None = None
        self.seconds = 0.0
        self._read = read
        self.max_age = max_age
        self._due = 0.0  # monotonic
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None

    def start(self) -> None:
        """Begin to read, if it is time and nobody does."""
        with self._lock:
            busy = self._running is not None and self._running.is_alive()
            if not busy and time.monotonic() >= self._due:
                self._running = threading.Thread(target=self._work, name=f"read {self.name}", daemon=True)
                self._running.start()

    def wait(self, deadline: float) -> None:
        """Until the read that goes on has ended, or the monotonic clock shows `deadline`."""
        running = self._running
        if running is not None:
            running.join(max(0.0, deadline - time.monotonic()))
            if running.is_alive() and self.at is None:
                log.warning("still reading", extra={"action": "metrics.slow", "part": self.name})

    def _work(self) -> None:
        began, at = time.monotonic(), time.time()
        value, error = None, None
        try:
            value = self._read()
        except PgfleetError as failure:
            error = failure
        except Exception as failure:
            log.exception("a part of the metrics cannot be read", extra={"action": "metrics.bug"})
            error = PgfleetError(redact(f"{type(failure).__name__}: {failure}"), "Please report this.")
        if error is not None and (self.error is None or self.error.message != error.message):
            extra = {"action": "metrics.unreadable", "part": self.name, "hint": error.hint}
            log.warning(error.message, extra=extra)
        self.value, self.error, self.at = value, error, at
        self.seconds = time.monotonic() - began
        self._due = began + self.max_age


def read_all(readings: Sequence[Reading[Any]], patience: float) -> None:
    """All that are due, at once; return when they are read or `patience` seconds have passed."""
    deadline = time.monotonic() + patience
    for reading in readings:
        reading.start()
    for reading in readings:
        reading.wait(deadline)
