"""``pgfleet list`` and ``pgfleet show``: what the destinations hold. No ledger and no broker is asked for the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from worker.catalog import Entry
from worker.cli import place, render
from worker.core import human
from worker.core.backup import Manifest
from worker.core.requests import LATEST, OfOneBackup
from worker.errors import BackupNotFound, PgfleetError
from worker.steps.context import Adapters
from worker.steps.inventory import Listed, choose, list_all
from worker.steps.prune import owed_by_destination


@click.command("list")
@click.option("--database", help="Only this database's backups.")
@click.option("--destination", help="Only this destination.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_backups(database: str | None, destination: str | None, as_json: bool) -> int:
    """List the backups in every destination, newest first."""
    found = place.adapters()
    listed, failures = list_all(found, database=database, destination=destination)
    if as_json:
        click.echo(json.dumps([_row(backup) for backup in listed]))
    elif listed:
        render.console().print(_table(listed))
    elif not failures and database not in (None, *found.settings.databases):
        click.echo(f"No destination has a backup of {database!r}, and no database is called that here.")
    elif not failures:
        click.echo("No backups yet. Take one with: pgfleet backup")
    return _say_failures(failures)


def _say_failures(failures: dict[str, PgfleetError]) -> int:
    for alias, error in failures.items():
        click.secho(f"Error: {alias} cannot be listed: {error.message}", fg="red", err=True)
        click.secho(f"Hint:  {error.hint}", fg="yellow", err=True)
    return max((error.exit_code for error in failures.values()), default=0)


def _table(listed: list[Listed]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("backup", no_wrap=True)
    for heading in ("type", "copy", "state", "verified", "scrubbed", "proven"):
        table.add_column(heading, no_wrap=True)
    table.add_column("size", justify="right", no_wrap=True)
    for backup in listed:
        for number, (alias, entry) in enumerate(backup.copies.items()):
            first = number == 0
            table.add_row(
                backup.backup_id if first else "",
                entry.type if first else "",
                alias,
                render.state("refuted" if entry.told == "refuted" else entry.state)
                + (" [blue]held[/]" if entry.held else ""),
                render.age(entry.verified_at),
                f"{int(entry.scrubbed * 100)}%" if entry.manifest is not None else "-",
                render.age(entry.proven_at),
                human.size(entry.size),
            )
    return table


def _row(backup: Listed) -> dict[str, Any]:
    first = next(iter(backup.copies.values()))
    return {
        "backup_id": backup.backup_id,
        "database": backup.database,
        "taken_at": first.at.isoformat(),
        "type": first.type,
        "copies": [_copy(alias, entry) for alias, entry in backup.copies.items()],
    }


def _copy(alias: str, entry: Entry) -> dict[str, Any]:
    return {
        "destination": alias,
        "state": entry.state,
        "bytes": entry.size,
        "held": entry.held,
        "scrubbed": round(entry.scrubbed, 4),
        "scrubbed_at": entry.scrubbed_at.isoformat() if entry.scrubbed_at else None,
        "verified_at": entry.verified_at.isoformat() if entry.verified_at else None,
        "proven_at": entry.proven_at.isoformat() if entry.proven_at else None,
        "refuted_at": entry.refuted_at.isoformat() if entry.refuted_at else None,
    }


@click.command()
@click.argument("backup", metavar="ID | latest | latest-proven")
@click.option("--database", help="Whose latest backup.")
@click.option("--json", "as_json", is_flag=True, help="Print the manifests and copies as one JSON object.")
def show(backup: str, database: str | None, as_json: bool) -> int:
    """Show one backup: its copies, what is in it, and how to restore it by hand."""
    found = place.adapters()
    if database is not None:
        found.database(database)
    backup_id = (
        choose(found, OfOneBackup(backup=backup, database=database)).backup_id if backup in LATEST else backup
    )
    every, failures = list_all(found)
    shown = next((item for item in every if item.backup_id == backup_id), None)
    if shown is None:
        raise next(iter(failures.values()), _not_found(found, backup_id))
    manifest = _manifest(found, shown)
    if as_json:
        content = manifest.model_dump(mode="json") if manifest is not None else None
        click.echo(json.dumps(_row(shown) | {"manifest": content}))
        return _say_failures(failures)
    console = render.console()
    table = _table([shown])
    for alias, state in _absent(found, shown, every):
        if alias not in failures:
            table.add_row("", "", alias, render.state(state), "-", "-", "-", "-")
    console.print(table)
    if manifest is not None:
        _say_manifest(console, manifest)
    return _say_failures(failures)


def _absent(found: Adapters, shown: Listed, every: list[Listed]) -> Iterator[tuple[str, str]]:
    """(destination, missing or expired) of each that has no copy: expired where its retention keeps none."""
    if shown.database in found.settings.databases:
        own = [item for item in every if item.database == shown.database]
        due = owed_by_destination(found.settings, shown.database, own, datetime.now(UTC))
        for alias, backups in due.items():
            if alias not in shown.copies:
                yield alias, "missing" if shown.backup_id in backups else "expired"


def _not_found(found: Adapters, backup_id: str) -> PgfleetError:
    names = ", ".join(found.settings.destinations)
    return BackupNotFound(
        f"No destination ({names}) has a backup {backup_id!r}.", "`pgfleet list` shows what is there."
    )


def _manifest(found: Adapters, backup: Listed) -> Manifest | None:
    """Whole, with its parts, from the first copy that has one; from a damaged copy only where no other has."""
    for alias, entry in sorted(backup.copies.items(), key=lambda copy: copy[1].state == "damaged"):
        if entry.manifest is not None:
            return found.catalog(alias).manifest(backup.backup_id)
    return None


def _say_manifest(console: Console, manifest: Manifest) -> None:
    console.print()
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    facts.add_row("database", escape(f"{manifest.dbname} on PostgreSQL {manifest.server.version}"))
    facts.add_row("snapshot", f"{render.moment(manifest.snapshot_at)} UTC")
    facts.add_row("dumped with", escape(f"{manifest.client}, compression {manifest.compression}"))
    facts.add_row(
        "encrypted to",
        escape(", ".join(manifest.recipients)) or "[bold red]nobody: this backup is not encrypted[/]",
    )
    facts.add_row(
        "contains",
        f"{human.count(sum(t.rows for t in manifest.tables), 'row')} in {human.count(len(manifest.tables), 'table')}",
    )
    for gap in manifest.missing:
        facts.add_row("[yellow]not in it[/]", escape(f"{gap.what}: {gap.why}"))
    console.print(facts)
    console.print()
    objects = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("object", "size", "parts", "sha256"):
        objects.add_column(
            heading, justify="right" if heading in ("size", "parts") else "left", overflow="fold"
        )
    for artifact in manifest.artifacts:
        objects.add_row(
            artifact.name, human.size(artifact.size), str(len(artifact.parts)), artifact.sha256[:16] + "…"
        )
    console.print(objects)
    console.print("\n[bold]By hand, with nothing of pgfleet's:[/]")
    for command in manifest.restore:
        console.print(f"  {command}", highlight=False, soft_wrap=True, markup=False)
