"""`pgfleet config`: the effective settings, and where each came from."""

from __future__ import annotations

import json
from itertools import groupby

import click
from rich.table import Table
from rich.text import Text

from worker.cli import render
from worker.config.explain import Row, explain


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON list of objects, for programs.")
@click.option("--set", "only_set", is_flag=True, help="Only what is not a default.")
def config(as_json: bool, only_set: bool) -> None:
    """Show the effective settings with their source. Secrets are masked.

    A misspelt, missing or contradictory setting is refused here as everywhere else: exit code 3.
    """
    rows = [row for row in explain() if not only_set or row.source != "default"]
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows], ensure_ascii=False))
        return
    if not rows:
        click.echo("Nothing is set: all settings have their defaults.")
    console = render.console()
    for group, members in groupby(rows, key=lambda row: row.group):
        console.print(_table(group, list(members), wide=console.is_terminal and console.width >= 120))
        console.print()


def _table(group: str, rows: list[Row], *, wide: bool) -> Table:
    table = Table(title=group, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    table.add_column("Setting", no_wrap=True)
    table.add_column("Value", overflow="fold", ratio=3)
    table.add_column("Source", overflow="fold", ratio=2)
    if wide:
        table.add_column("Meaning", ratio=5)
    for row in rows:
        style = "dim" if row.source == "default" else "bold"
        cells = [Text(row.name), Text(row.value or "-", style=style), Text(row.source, style=style)]
        table.add_row(*cells, *([Text(row.description, style="dim")] if wide else []))
    return table
