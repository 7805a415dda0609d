"""``pgfleet hold`` and ``pgfleet release``: keep a backup whatever its age, until somebody lets it go."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta

import click

from worker.cli import place
from worker.errors import ConfigError, PgfleetError
from worker.steps.hold import Held
from worker.steps.hold import hold as hold_backup
from worker.steps.hold import release as release_backup


@click.command()
@click.argument("backup_id")
@click.option("--reason", required=True, help="Why it is kept; everybody who looks at it will read this.")
@click.option(
    "--until", metavar="TIME", help="When the hold ends by itself: 2027-06-30 or 2027-06-30T12:00Z."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def hold(backup_id: str, reason: str, until: str | None, as_json: bool) -> int:
    """Keep every copy of BACKUP_ID: no cleanup removes it before the hold has ended.

    Exit codes: 0 success, 1 there is no such backup, 3 configuration, 6 a destination refused.
    """
    end = _moment(until) if until else None
    if not reason.strip() or not reason.isprintable() or len(reason) > 200:
        raise ConfigError(
            "--reason is empty, too long or has control characters.", "Write one line of at most 200 letters."
        )
    found = place.adapters()
    done, failures = hold_backup(
        found, backup_id, reason=reason.strip(), until=end, by=place.requester(found)
    )
    when = f"until {end:%Y-%m-%d %H:%M} UTC" if end else "until it is released"
    return _say(backup_id, f"held {when}", done, failures, as_json)


@click.command()
@click.argument("backup_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def release(backup_id: str, as_json: bool) -> int:
    """Take the hold off every copy of BACKUP_ID; from then on the retention decides.

    Exit codes: 0 success, 1 there is no such backup, 3 configuration, 6 a destination refused.
    """
    found = place.adapters()
    done, failures = release_backup(found, backup_id, by=place.requester(found))
    return _say(backup_id, "released", done, failures, as_json)


def _moment(text: str) -> datetime:
    """A date is its end, in UTC."""
    try:
        if len(text) == len("2027-06-30"):
            end = datetime.combine(date.fromisoformat(text) + timedelta(days=1), time(), UTC)
        else:
            end = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"--until: {text!r} is not a time.", "Write for example 2027-06-30, or 2027-06-30T12:00Z."
        ) from None
    end = end if end.tzinfo else end.replace(tzinfo=UTC)
    if end <= datetime.now(UTC):
        raise ConfigError(f"--until: {text} is over already.", "Write a time to come, or leave it out.")
    return end


def _say(
    backup_id: str, what: str, done: list[Held], failures: dict[str, PgfleetError], as_json: bool
) -> int:
    if as_json:
        errors = {alias: {"message": error.message, "hint": error.hint} for alias, error in failures.items()}
        copies = [{"destination": one.destination, "legal_hold": one.locked} for one in done]
        click.echo(json.dumps({"backup_id": backup_id, "state": what, "copies": copies, "failures": errors}))
    else:
        for one in done:
            also = ", by the bucket's own lock too" if one.locked else ""
            click.echo(f"{backup_id} in {one.destination}: {what}{also}")
        for alias, error in failures.items():
            click.secho(f"Error: {alias}: {error.message}", err=True, fg="red")
            click.secho(f"Hint:  {error.hint}", err=True, fg="yellow")
    return max((error.exit_code for error in failures.values()), default=0)
