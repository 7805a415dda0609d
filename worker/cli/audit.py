"""``pgfleet audit``: who asked for what, read from the records at the destinations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from worker.cli import place, render
from worker.cli.evidence import signer_option
from worker.config.values import parse_duration
from worker.core import human
from worker.core.audit import ANY, TAMPERED, Entry
from worker.errors import ConfigError, StorageError, ValidationFailed
from worker.steps.audit_trail import Trail, trail

_MARKS = {
    "signed": "[green]✓ signed[/]",
    "unsigned": "[dim]unsigned[/]",
    "evidence": "[dim]evidence[/]",
    "bad signature": "[bold red]✗ bad signature[/]",
    "copies differ": "[bold red]✗ copies differ[/]",
    "unreadable": "[bold red]✗ unreadable[/]",
    "other key": "[yellow]? other key[/]",
    "unknown key": "[yellow]? unknown key[/]",
    "ledger": "[yellow]not stored yet[/]",
}
_COLOURS = {"failed": "red", "refuted": "red", "not removed": "yellow", "removed": "", "cancelled": "yellow"}
_CHANGES = 6  # settings shown in a row


@click.command("audit")
@click.option(
    "--since",
    default="30d",
    show_default=True,
    metavar="WHEN",
    help="2026-11-01, 2026-11-01T12:00Z, 7d, all.",
)
@click.option("--until", metavar="WHEN", help="As --since; a day is included.")
@click.option("--database", help="Only what concerns this database (or the whole fleet).")
@signer_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object an action, one a line.")
def audit(
    since: str, until: str | None, database: str | None, signers: tuple[str, ...], as_json: bool
) -> int:
    """Show who asked for what: restores, removals, holds, cancelled runs, drills on demand, changed settings.

    The records lie in the destinations; the ledger is not needed. Each signature is checked.

    Exit codes: 0 success, 3 configuration, 6 a destination cannot be read, 7 a record was changed or cannot be read.
    """
    found = place.adapters()
    if database is not None:
        found.database(database)
    now = datetime.now(UTC)
    begin = None if since == "all" else moment(since, "--since", now)
    end = moment(until, "--until", now, last=True) if until else None
    seen = trail(found, begin, end, database, signers)
    if as_json:
        for entry in seen.entries:
            click.echo(json.dumps(as_object(entry), ensure_ascii=False))
    else:
        _show(seen, begin)
    _complain(seen)
    if seen.tampered:
        return ValidationFailed.exit_code
    return StorageError.exit_code if seen.failures else 0


def moment(text: str, option: str, now: datetime, *, last: bool = False) -> datetime:
    """A date (with `last` its end), a time, or so long ago. Raises ConfigError."""
    try:
        if len(text) == len("2026-11-01"):
            day = datetime.combine(date.fromisoformat(text), time(), UTC)
            return day + timedelta(days=1) if last else day
        if text[:1].isdigit() and "-" not in text:
            return now - timedelta(seconds=parse_duration(text))
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{option}: {text!r} is no time.", "Write for example 2026-11-01, 2026-11-01T12:00Z or 7d."
        ) from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def as_object(entry: Entry) -> dict[str, Any]:
    """docs/reference/json.md."""
    return {
        "at": entry.at.isoformat(),
        "by": entry.who,
        "action": entry.action,
        "database": None if entry.database == ANY else entry.database,
        "backup_id": entry.backup_id,
        "where": entry.where,
        "result": entry.result,
        "run_id": entry.run_id,
        "signature": entry.trust,
        "signed_by": entry.signed_by or None,
        "destinations": list(entry.destinations),
        "detail": dict(entry.detail),
    }


def _show(seen: Trail, since: datetime | None) -> None:
    if not seen.entries:
        click.echo(
            f"Nothing is on record since {since:%Y-%m-%d %H:%M} UTC." if since else "Nothing is on record."
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("when (UTC)", "who", "what"):
        table.add_column(heading, no_wrap=True)
    table.add_column("backup or database", overflow="fold")
    table.add_column("where", overflow="fold")
    table.add_column("result", overflow="fold")
    table.add_column("record", no_wrap=True)
    for entry in seen.entries:
        colour = _COLOURS.get(entry.result, "")
        result = f"[{colour}]{escape(entry.result)}[/]" if colour else escape(entry.result)
        more = "; ".join(_more(entry))
        about = entry.backup_id or ("" if entry.database == ANY else entry.database)
        table.add_row(
            render.moment(entry.at),
            escape(entry.who),
            entry.action,
            escape(about),
            escape(entry.where),
            f"{result}[dim]{': ' if more else ''}{escape(more)}[/]",
            _MARKS[entry.trust],
        )
    render.console().print(table)


def _more(entry: Entry) -> Iterator[str]:
    """What a person wants to know beside the result, in a few words."""
    detail: Mapping[str, Any] = entry.detail
    if detail.get("error"):
        yield str(detail["error"])
    if entry.action in ("hold", "release") and detail.get("reason") not in (None, "released"):
        yield f"{detail['reason']}" + (f", until {str(detail['until'])[:10]}" if detail.get("until") else "")
    if detail.get("force") and entry.action in ("cleanup", "remove"):
        yield "by force"
    if entry.action == "cleanup":
        yield from (
            f"{alias} {one['removed']} removed ({human.size(one['bytes'])})"
            for alias, one in detail.get("destinations", {}).items()
            if one.get("removed")
        )
    if entry.action == "remove" and detail.get("reason"):
        yield str(detail["reason"])
    if entry.action == "cancel":
        yield f"a {detail.get('kind')} asked for by {detail.get('asked_by')}"
    if entry.action == "restore" and detail.get("kept_as"):
        yield f"the old one kept as {detail['kept_as']}"
    if entry.action == "settings":
        changed = detail.get("changed") or []
        yield from (_change(one) for one in changed[:_CHANGES])
        if len(changed) > _CHANGES:
            yield f"and {len(changed) - _CHANGES} more (--json)"


def _change(one: Mapping[str, Any]) -> str:
    return f"{one.get('name')} {one.get('old') or 'unset'} → {one.get('new') or 'unset'}"


def _complain(seen: Trail) -> None:
    for alias, error in seen.failures.items():
        click.secho(f"Error: {alias} cannot be read: {error.message}", err=True, fg="red")
        click.secho(f"Hint:  {error.hint}", err=True, fg="yellow")
    if seen.ledger:
        click.secho(f"Note:  without the ledger, records on their way are not shown: {seen.ledger}", err=True)
    bad = [entry for entry in seen.entries if entry.trust in TAMPERED]
    if bad:
        count = "A record was" if len(bad) == 1 else f"{len(bad)} records were"
        click.secho(
            f"Error: {count} changed after writing, or cannot be read (see the column record).",
            err=True,
            fg="red",
        )
        click.secho(
            "Hint:  Look at who may write to the destination; a versioned bucket still has what was there before.",
            err=True,
            fg="yellow",
        )
