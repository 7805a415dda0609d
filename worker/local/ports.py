"""Free TCP ports on loopback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

from worker.errors import PgfleetError

LOOPBACK = "127.0.0.1"
_ATTEMPTS = 5
Started = TypeVar("Started")


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now; somebody may in the next moment (`on_free_ports`)."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]


def on_free_ports(count: int, start: Callable[[list[int]], Started]) -> Started:
    """`start` with free ports, again with others when somebody was quicker. Raises what `start` raises."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return start(free_ports(count))
        except PgfleetError as error:
            if "in use" not in error.hint.lower():  # the end of the server's log
                raise
    return start(free_ports(count))
