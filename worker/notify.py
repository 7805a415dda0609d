"""Tell people what happened, through the services of apprise: mail, Slack, Telegram, webhooks and a hundred more."""

from __future__ import annotations

import apprise

from worker.config.model import Settings
from worker.errors import PgfleetError
from worker.ledger.model import Notice

#: Only what needs a person; a good end is worth no mail.
TOLD = frozenset({"failed", "damaged", "refuted", "could_not_run"})


class NotificationFailed(PgfleetError):
    """Some service did not take the message; it is tried again."""

    retryable = True


def worth_telling(notice: Notice) -> bool:
    return notice.event.rpartition(".")[2] in TOLD


def text(notice: Notice) -> tuple[str, str]:
    """(title, body): what, where, what is wrong, what to do, and the command to see more."""
    data = notice.data
    kind, _, state = notice.event.partition(".")
    error = data.get("error") or {}
    title = f"pgfleet: {kind} of {data.get('database', '?')} {state.replace('_', ' ')}"
    lines = [error.get("message", ""), error.get("hint", ""), f"pgfleet run show {notice.run_id}"]
    return title, "\n".join(line for line in lines if line)


def send(settings: Settings, notice: Notice) -> None:
    """Raises NotificationFailed when a service refuses the message."""
    title, body = text(notice)
    service = apprise.Apprise()
    service.add([url.get_secret_value() for url in settings.notify_urls])
    if not service.notify(title=title, body=body):
        raise NotificationFailed(
            f"The notice about run {notice.run_id} was not taken by every service.",
            "Check PGFLEET_NOTIFY_URLS and whether this host reaches them.",
        )
