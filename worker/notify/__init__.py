"""Tell people, and a dead man's switch, what happened: each event once, as the ledger recorded it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Collection, Iterator
from typing import Literal

from worker.config.model import Settings
from worker.errors import PgfleetError
from worker.ledger import Ledger
from worker.ledger.model import Notice
from worker.notify import ping
from worker.notify.story import Story, story
from worker.notify.text import message, worth_telling

logger = logging.getLogger("pgfleet.notify")
_RETRY_SECONDS = 60.0
_PING = "ping"
Kind = Literal["info", "success", "warning", "failure"]


class NotificationFailed(PgfleetError):
    """Some service did not take the message; it is tried again.

    Cause: An Apprise URL is wrong, or its service does not answer. The worker's log has this; no command ends with it.
    Check: `pgfleet status --send` sends to the same addresses.
    Cure: Correct `PGFLEET_NOTIFY_URLS`. The message is sent once every service takes it.
    """

    retryable = True


def tell(ledger: Ledger, settings: Settings, seconds: float = 20.0) -> int:
    """Send what the ledger holds, and return how many messages were sent. What cannot be sent stays there.

    None is begun after so many `seconds`, for a service that is away takes long to find out, and more waits for us
    than this. One is taken at a time: what we do not come to, another one may send now.
    """
    sent, began = 0, time.monotonic()
    for notice in _pending(ledger, began + seconds):
        told = set(notice.told)
        try:
            sent += _tell_one(ledger, settings, notice, told)
        except PgfleetError as error:
            ledger.notice_failed(notice.id, _RETRY_SECONDS, told)
            extra = {"action": "notify", "run": notice.run_id, "hint": error.hint}
            logger.warning(error.message, extra=extra)
        else:
            ledger.notice_sent(notice.id)
    return sent


def _pending(ledger: Ledger, until: float) -> Iterator[Notice]:
    """At least one, if any is due."""
    while taken := ledger.pending_notices(limit=1):
        yield from taken
        if time.monotonic() >= until:
            return


def _tell_one(ledger: Ledger, settings: Settings, notice: Notice, told: set[str]) -> bool:
    """`told` grows by whoever has taken it: another one's failure does not make them hear it twice."""
    known = story(ledger, notice)
    if _PING not in told:
        _ping(settings, known)
        told.add(_PING)
    if not settings.notify_urls or not worth_telling(known):
        return False
    send(settings, *message(known), kind=_kind(known), told=told, took=told.add)
    return True


def _kind(known: Story) -> Kind:
    """Colour and sign of a message, where a service has them."""
    if known.too_slow:
        return "warning"
    return "failure" if not known.good else "success" if known.recovered else "info"


def _ping(settings: Settings, known: Story) -> None:
    """Raises PingFailed, but not for a failure: silence alarms as well, and the message must not wait for it."""
    database = settings.databases.get(known.run.database)
    if database is None or database.ping_url is None or known.run.kind != "backup" or known.overtaken:
        return
    try:
        ping.ended(database.ping_url.get_secret_value(), known.run, message(known)[1])
    except ping.PingFailed as error:
        if known.good:
            raise
        logger.warning(error.message, extra={"action": "ping", "run": known.run.id, "hint": error.hint})


def send(
    settings: Settings,
    title: str,
    body: str,
    *,
    kind: Kind = "info",
    told: Collection[str] = (),
    took: Callable[[str], object] = lambda _: None,
) -> None:
    """To each service but those `told` before; `took` hears of each that takes it, by a name that is no secret.

    Raises NotificationFailed when one refuses the message; the others have got it.
    """
    import apprise  # late: it takes a while, and most processes tell nobody anything

    urls = {_name(url.get_secret_value()): url.get_secret_value() for url in settings.notify_urls}
    missed = 0
    for name, url in urls.items():
        if name in told:
            continue
        service = apprise.Apprise()
        service.add(url)
        if service.notify(title=title, body=body, notify_type=kind):
            took(name)
        else:
            missed += 1
    if missed:
        raise NotificationFailed(
            f"{title!r} was not taken by {'every service' if missed < len(urls) else 'any service'}.",
            "Check PGFLEET_NOTIFY_URLS and whether this host reaches them.",
        )


def _name(url: str) -> str:
    """32 bits of a digest: enough to tell one's services apart, too little to find a token by."""
    return hashlib.sha256(url.encode()).hexdigest()[:8]
