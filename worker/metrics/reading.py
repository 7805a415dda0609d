"""One part of what is exported, read when somebody asks and it is old; a scrape never waits for long."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from worker.core import human
from worker.errors import PgfleetError
from worker.redaction import redact

log = logging.getLogger("pgfleet.metrics")
Value = TypeVar("Value")
#: A read that takes so much longer than the last answer may be old, hangs.
_HANG_SECONDS = 60.0


class Reading(Generic[Value]):
    """`read` is called in a thread of its own, once at a time, when the last answer is older than `max_age` seconds.

    value: of the last read that went well; None before, after one that failed, and once the next one has hung for so
    long that nobody knows whether it still holds: what is not known is not told. error: of the last read.
    at, seconds: when it was asked (epoch seconds) and how long that took.
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
        self._began = 0.0  # monotonic, of the read that goes on or was the last

    def start(self, anew: bool = False) -> None:
        """Begin to read, if nobody does and it is time, or `anew` is wanted."""
        with self._lock:
            now = time.monotonic()
            if self._running is not None and self._running.is_alive():
                self._doubt(now - self._began)
            elif anew or now >= self._due:
                self._began = now
                self._running = threading.Thread(target=self._work, name=f"read {self.name}", daemon=True)
                self._running.start()

    def wait(self, deadline: float) -> None:
        """Until the read that goes on has ended, or the monotonic clock shows `deadline`."""
        running = self._running
        if running is not None:
            running.join(max(0.0, deadline - time.monotonic()))
            if running.is_alive() and self.at is None:
                log.warning("still reading", extra={"action": "metrics.slow", "part": self.name})

    def _doubt(self, seconds: float) -> None:
        """Forget what was read before, when the read after it does not end: a disk that hangs raises no error."""
        if self.value is None or seconds < self.max_age + _HANG_SECONDS:
            return
        self.value = None
        self.error = PgfleetError(
            f"No answer about the {self.name} for {human.duration(seconds)}: nothing is known of it now.",
            "Look whether a disk or a network hangs.",
        )
        log.warning(self.error.message, extra={"action": "metrics.hangs", "part": self.name})

    def _work(self) -> None:
        began, at = self._began, time.time()
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


def read_all(readings: Collection[Reading[Any]], patience: float, *, anew: bool = False) -> None:
    """All that are due, or all `anew`, at once; return when they are read or `patience` seconds have passed."""
    deadline = time.monotonic() + patience
    for reading in readings:
        reading.start(anew)
    for reading in readings:
        reading.wait(deadline)
