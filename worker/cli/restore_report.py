"""How a restore ended, and what a dry run found, for a person."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from worker.cli.show_run import say_end
from worker.core import human
from worker.ledger.model import Run


def say_restore(run: Run) -> None:
    """One line how it ended and what to do with what was kept; the checks; what is worth to be known."""
    result = run.result
    if run.state != "succeeded":
        say_end(run)
        return
    if "files" in result:
        for file in result["files"]:
            click.secho(f"✓ {file['file']} ({human.size(file['bytes'])})", fg="green")
        _say_notes(result["notes"])
        return
    if "dropped" in result:
        click.secho(f"✓ {result['dropped']} on {result['target']} was dropped.", fg="green")
        return
    if "undone" in result:
        click.secho(f"✓ {result['restored_as']} on {result['target']} is what it was before.", fg="green")
        click.echo(f"  What the restore had made is now {result['kept_as']}.")
        return
    if "rewound" in result:
        click.secho(f"✓ {result['restored_as']} on {result['target']} was in its place already.", fg="green")
        return
    size = human.size(result["restored_bytes"] or 0)
    click.secho(
        f"✓ {result['backup_id']} is {result['restored_as']} on {result['target']}"
        f" ({size}, {human.duration(result['seconds'])})",
        fg="green",
    )
    if result["kept_as"]:
        cut = result["sessions_ended"]
        said = f"; {human.count(cut, 'session')} of it {'was' if cut == 1 else 'were'} cut" if cut else ""
        click.echo(f"  The old one is {result['kept_as']}{said}.")
        if run.request.get("replace"):
            # A run of this process may be in no ledger that lasts: then the names have to be given again.
            again = f" --here --to {result['target']} --database {run.database}" if run.here else ""
            click.echo(f"  Back to it: pgfleet restore undo {run.id}{again}")
            click.echo(f"  Drop it:    pgfleet restore finish {run.id}{again}")
        else:
            click.echo("  It was no longer empty when the restore ended: look at it before you drop it.")
    _say_checks(result)


def _say_checks(result: Any) -> None:
    for check in result["checks"]:
        mark = "!" if check["note"] else "✓"
        click.echo(f"  {mark} {check['name']}: {check['detail']}")
    _say_notes((*result["notes"], *(f"Not restored: {one}." for one in result["left_out"])))
    for damage in result["damaged_parts"]:
        click.secho(f"  ! A copy is damaged or away, another was taken: {damage}", fg="yellow")


def say_dry_run(run: Run) -> None:
    """What would happen."""
    plan = run.result
    verb = {"new": "would be made", "empty": "would be filled", "in_place": "would be filled"}
    click.secho(f"{run.backup_id} can be restored. Nothing was written.", fg="green")
    if plan["mode"] == "replace":
        click.echo(f"  {plan['name']} on {plan['target']} would be replaced, and kept as {plan['before']}.")
        click.echo(f"  Connections that would be cut: {plan['sessions']}")
        if plan["slots"]:
            click.echo(f"  Replication slots that would stay with the old one: {plan['slots']}")
    else:
        click.echo(f"  {plan['name']} on {plan['target']} {verb[plan['mode']]}.")
    free = human.size(plan["free_bytes"]) if plan["free_bytes"] is not None else "not known (another machine)"
    click.echo(f"  Space: about {human.size(plan['needed_bytes'])} needed, free: {free}")
    took = (
        human.duration(plan["expected_seconds"])
        if plan["expected_seconds"]
        else "no restore of this size yet"
    )
    click.echo(f"  Time, after the last one: {took}")
    click.echo(f"  PostgreSQL {plan['source_server']} into {plan['target_server']}, {plan['jobs']} jobs")
    _say_notes(plan["notes"])


def _say_notes(notes: Iterable[str]) -> None:
    for note in notes:
        click.secho(f"  ! {note}", fg="yellow")
