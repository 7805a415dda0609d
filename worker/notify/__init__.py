"""Tell people, and a dead man's switch, what happened: each event once, as the ledger recorded it."""

from __future__ import annotations

import logging

from worker.config.model import Settings
from worker.errors import PgfleetError
from worker.ledger import Ledger
from worker.ledger.model import Notice
from worker.notify import ping
from worker.notify.story import Story, story
from worker.notify.text import message, worth_telling

logger = logging.getLogger("pgfleet.notify")
_RETRY_SECONDS = 60.0


class NotificationFailed(PgfleetError):
    """Some service did not take the message; it is tried again."""

    retryable = True


def tell(ledger: Ledger, settings: Settings) -> int:
    """Send what the ledger holds, and return how many messages were sent. What cannot be sent stays there."""
    sent = 0
    for notice in ledger.pending_notices():
        try:
            sent += _tell_one(ledger, settings, notice)
        except PgfleetError as error:
            ledger.notice_failed(notice.id, _RETRY_SECONDS)
            extra = {"action": "notify", "run": notice.run_id, "hint": error.hint}
            logger.warning(error.message, extra=extra)
        else:
            ledger.notice_sent(notice.id)
    return sent


def _tell_one(ledger: Ledger, settings: Settings, notice: Notice) -> bool:
    known = story(ledger, notice)
    _ping(settings, known)
    if not settings.notify_urls or not worth_telling(known):
        return False
    send(settings, *message(known))
    return True


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


def send(settings: Settings, title: str, body: str) -> None:
    """Raises NotificationFailed when a service refuses the message."""
    import apprise  # late: it takes a while, and most processes tell nobody anything

    service = apprise.Apprise()
    service.add([url.get_secret_value() for url in settings.notify_urls])
    if not service.notify(title=title, body=body):
        raise NotificationFailed(
            f"{title!r} was not taken by every service.",
            "Check PGFLEET_NOTIFY_URLS and whether this host reaches them.",
        )
