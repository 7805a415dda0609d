"""What every command does with the runs that it asked for: hint them, follow them, say how each ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import click

from worker.cli import place
from worker.cli.follow import follow
from worker.cli.show_run import describe, exit_code, say_end
from worker.ledger.model import Run
from worker.steps.context import Adapters


def see_through(
    found: Adapters,
    runs: Sequence[Run],
    *,
    wait: bool,
    here: bool,
    as_json: bool,
    say: Callable[[Run], None] = say_end,
) -> int:
    """The exit code: the largest of the runs'. All are hinted before the first is waited for."""
    if not here:
        for run in runs:
            place.send_due(found.settings, found, run.id)
        if not wait:
            return _asked(runs, as_json)
    ended = [follow(found, run, here=here, quiet=as_json) for run in runs]
    for run in ended:
        if as_json:
            click.echo(json.dumps(describe(found, run)))
        else:
            say(run)
    return max((exit_code(run) or 0 for run in ended), default=0)


def _asked(runs: Sequence[Run], as_json: bool) -> int:
    for run in runs:
        shown = {"run_id": run.id, "database": run.database, "state": run.state}
        click.echo(json.dumps(shown) if as_json else f"Run {run.id} for {run.database} is {run.state}.")
    if not as_json and runs:
        click.echo("Follow it with: pgfleet runs --follow")
    return 0
