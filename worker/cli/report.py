"""``pgfleet report``: what a month came to, for people who were not there."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from worker.cli import place
from worker.core import period
from worker.core.compliance import Json
from worker.durable import durable_write
from worker.errors import ConfigError, StorageError
from worker.report import render_month, summary
from worker.steps import compliance
from worker.steps.context import Adapters
from worker.steps.report_month import SIGNATURE, as_json, documents

_FORMS = {".html": "html", ".htm": "html", ".md": "md", ".json": "json"}


@click.command("report")
@click.option("--month", metavar="YYYY-MM", help="Which month, UTC; the last one that has ended, without it.")
@click.option("--html", "form", flag_value="html", help="One page that needs nothing beside it.")
@click.option("--md", "form", flag_value="md", help="Markdown (default).")
@click.option("--json", "form", flag_value="json", help="The values that the others are made of.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there (its ending says how), and its signature beside it as FILE.asc.",
)
def report(month: str | None, form: str | None, output: Path | None) -> int:
    """Report a month: backups taken, verified and proven, recovery point and time, gaps, keys, access, retention.

    It is computed from the destinations; the ledger, where there is one, adds why something failed.

    Exit codes: 0 success, 3 configuration, 6 a destination cannot be read (the report says which).
    """
    now = datetime.now(UTC)
    span = period.month(month) if month else period.month_before(now)
    if span.begin > now:
        raise ConfigError(f"{span.name} has not begun.", "Name a month that has.")
    form = form or _FORMS.get(output.suffix.lower() if output else "", "md")
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"{output.parent} is no directory.", "Make it, or name another file with -o.")
    found = place.adapters()
    made = compliance.make(found, span, now, by=place.who())
    if output is None:
        click.echo(_text(made, form), nl=False)
    else:
        _write(found, made, form, output)
    unread = [one["destination"] for one in made["destinations"] if one["unread"]]
    for alias in unread:
        click.secho(
            f"Error: {alias} cannot be read: what it holds is missing in the report.", err=True, fg="red"
        )
    return StorageError.exit_code if unread else 0


def _text(made: Json, form: str) -> str:
    """What is printed is not signed, and says so."""
    made = made | {"signed_by": ""}
    if form == "json":
        return as_json(made).decode()
    pages = render_month(made)
    return pages.html if form == "html" else pages.markdown


def _write(found: Adapters, made: Json, form: str, output: Path) -> None:
    document = documents(found, made)[form]
    durable_write(output, document.content)
    signature = output.with_name(output.name + SIGNATURE)
    if document.signature is not None:
        durable_write(signature, document.signature)
    else:
        signature.unlink(missing_ok=True)  # of what was there before
    click.echo(f"{made['month']}: {summary(made)}")
    click.echo(f"{output}{', signed: ' + str(signature) if document.signature else ', not signed'}")
