"""How far a step is, while it works: events ``task-progress``, which monitors show as state PROGRESS.

A fleet has many steps at a time, so a step says it only every few seconds, only when something has changed, and
never holds up the work: the event is lost when the broker is away.
"""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Any

from celery import Task

from worker.core import human
from worker.steps.context import Context

logger = logging.getLogger("pgfleet.tasks")
EVERY_SECONDS = 2.0
_PATIENCE_SECONDS = 1.0


class Progress:
    """A context manager around the work of one step. Most parts end before they say anything."""

    def __init__(self, task: Task[Any, Any], context: Context) -> None:
        self._app = task.app
        # The request is the worker thread's own, so it is read here and not in ours.
        self._id = task.request.id
        self._hostname = task.request.hostname
        self._context = context
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name="progress", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(_PATIENCE_SECONDS)

    def _tell(self) -> None:
        told = 0
        while not self._ended.wait(EVERY_SECONDS):
            done, total = self._context.bytes_done, self._context.bytes_total
            if done == told:
                continue
            told = done
            try:
                with self._app.events.default_dispatcher(hostname=self._hostname) as dispatcher:
                    dispatcher.send(
                        "task-progress",
                        uuid=self._id,
                        retry=False,
                        result=text(done, total, time.monotonic() - self._began),
                        bytes_done=done,
                        bytes_total=total,
                    )
            except Exception as error:  # noqa: BLE001 - whatever it is, the work goes on
                logger.debug("progress was not told", extra={"action": "progress", "error": str(error)})


def text(done: int, total: int, seconds: float) -> str:
    """``41 %: 12.0 MiB of 29.2 MiB, 4.0 MiB/s``; without a total how much and how fast."""
    rate = human.rate(done, seconds)
    if total <= 0:
        return f"{human.size(done)}, {rate}"
    share = min(99, 100 * done // total)  # a total may be an estimate, and it is not over yet
    return f"{share} %: {human.size(done)} of {human.size(total)}, {rate}"
