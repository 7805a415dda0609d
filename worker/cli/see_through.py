"""What every command does with the runs that it asked for: hint them, follow them, say how each ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from worker import here as here_mode
from worker.cli import place
from worker.cli.follow import follow_all
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
    shown: Callable[[Adapters, Run], dict[str, Any]] = describe,
) -> int:
    """The exit code: the largest of the runs'. All are hinted before the first is waited for."""
    with interruptible(found, runs, here=here):
        if not here:
            for run in runs:
                place.send_due(found.settings, found, run.id)
            if not wait:
                return _asked(runs, as_json)
        ended = []
        for run in follow_all(found, runs, here=here, quiet=as_json):
            ended.append(run)
            if not as_json:
                say(run)
    if as_json:
        order = [run.id for run in runs]
        for run in sorted(ended, key=lambda run: order.index(run.id)):
            click.echo(json.dumps(shown(found, run)))
    return max((exit_code(run) or 0 for run in ended), default=0)


@contextmanager
def interruptible(found: Adapters, runs: Sequence[Run], *, here: bool) -> Iterator[None]:
    """Ctrl-C leaves a fleet's runs going and says how to follow them; `--here` they are cancelled and cleaned up."""
    try:
        yield
    except KeyboardInterrupt:
        for run in (found.ledger.run(run.id) for run in runs):
            if run.open and here:
                found.ledger.cancel(run.id, "interrupted")
                here_mode.work(found, run.id)
            elif run.open:
                said = f"Run {run.id} goes on. Follow it: pgfleet runs --follow. Stop it: pgfleet cancel {run.id}"
                click.echo(f"\n{said}", err=True)
        raise


def _asked(runs: Sequence[Run], as_json: bool) -> int:
    for run in runs:
        shown = {"run_id": run.id, "database": run.database, "state": run.state}
        click.echo(json.dumps(shown) if as_json else f"Run {run.id} for {run.database} is {run.state}.")
    if not as_json and runs:
        click.echo("Follow it with: pgfleet runs --follow")
    return 0
