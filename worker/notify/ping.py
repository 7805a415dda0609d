"""A dead man's switch: it alarms when it has not heard of a good backup for too long, whatever the reason.

The way of healthchecks.io ("Pinging API"), which others speak too: ``URL/start``, ``URL`` for success, ``URL/fail``;
``rid``, a UUID, ties the start of a run to its end; the body is shown in the check's log.
"""

from __future__ import annotations

import http.client
import logging
import threading
import urllib.error
import urllib.request
import uuid
from typing import Literal

from worker.config.model import Database
from worker.errors import PgfleetError
from worker.ledger.model import Run

logger = logging.getLogger("pgfleet.notify")
_SECONDS = 10.0
_BODY = 10_000  # bytes; healthchecks.io keeps 100 kB
#: Any fixed one will do; this is uuid5(NAMESPACE_DNS, "pgfleet").
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "pgfleet")
Signal = Literal["start", "success", "fail"]


class PingFailed(PgfleetError):
    """The dead man's switch did not take the ping. The worker's log has this; no command ends with it.

    Cause: The URL is wrong, or the service does not answer.
    Check: `curl` with that URL from the worker's host.
    Cure: Correct `PGFLEET_PING_URL`. A ping of success or failure is tried again.
    """

    retryable = True


def started(database: Database, run: Run) -> None:
    """In a thread of its own: a backup does not wait for it, and does without when it cannot be sent."""
    if database.ping_url is None:
        return
    url = database.ping_url.get_secret_value()

    def work() -> None:
        try:
            ping(url, "start", run, f"backup of {run.database} begins, asked for by {run.requested_by}")
        except PingFailed as error:
            logger.warning(error.message, extra={"action": "ping", "run": run.id, "hint": error.hint})

    threading.Thread(target=work, name="ping", daemon=True).start()


def ended(url: str, run: Run, body: str) -> None:
    """Success is a backup that was verified. One that was cancelled is neither. Raises PingFailed."""
    if run.state != "cancelled":
        ping(url, "success" if run.state == "verified" else "fail", run, body)


def ping(url: str, signal: Signal, run: Run, body: str) -> None:
    """Raises PingFailed. The URL is in no message: whoever has it can send good news."""
    way = "" if signal == "success" else f"/{signal}"
    request = urllib.request.Request(  # noqa: S310 - the settings allow http and https only
        f"{url}{way}?rid={uuid.uuid5(_NAMESPACE, run.id)}", data=body.encode()[:_BODY], method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
            pass
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise PingFailed(
            f"The ping about the backup of {run.database} ({signal}) was not taken: {reason}.",
            "Check PGFLEET_PING_URL and whether this host reaches it.",
        ) from error
