"""Watching a run: live progress at a terminal, plain lines elsewhere. The truth is the ledger's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker import here as here_mode
from worker.cli import render
from worker.core import human
from worker.ledger.model import Run, Step
from worker.steps.context import Adapters

POLL_SECONDS = 0.4
_PATIENCE_SECONDS = 5.0
_ALIVE_SECONDS = 45.0


def follow(adapters: Adapters, run: Run, *, here: bool = False, quiet: bool = False) -> Run:
    """Show a run until it has ended, and return it. With `here`, this process does its work meanwhile.

    Ctrl-C leaves a fleet's run going; a `--here` run is cancelled and cleaned up after.
    """
    if not here:
        return _watch(adapters, run.id, quiet=quiet)
    with _working(adapters, run.id) as thread:
        _watch(adapters, run.id, quiet=quiet, alive=thread)
    return adapters.ledger.run(run.id)


@contextmanager
def _working(adapters: Adapters, run_id: str) -> Iterator[threading.Thread]:
    failure: list[BaseException] = []

    def work() -> None:
        try:
            here_mode.work(adapters, run_id)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread
            failure.append(error)

    thread = threading.Thread(target=work, name="here")
    try:
        thread.start()
        yield thread
    except KeyboardInterrupt:
        click.echo("\nStopping: cancelling the run and cleaning up after it.", err=True)
        adapters.ledger.cancel(run_id, "interrupted")
        raise
    finally:
        if thread.ident is not None:
            thread.join()
    if failure:
        raise failure[0]


def _watch(adapters: Adapters, run_id: str, *, quiet: bool, alive: threading.Thread | None = None) -> Run:
    if quiet:
        return _poll(adapters, run_id, alive, lambda run: None)
    if sys.stdout.isatty():
        with Live(console=Console(), refresh_per_second=8) as live:
            return _poll(adapters, run_id, alive, lambda run: live.update(_picture(adapters, run)))
    lines = _Lines(adapters)
    return _poll(adapters, run_id, alive, lines.show)


def _poll(adapters: Adapters, run_id: str, alive: threading.Thread | None, show: object) -> Run:
    assert callable(show)
    while True:
        run = adapters.ledger.run(run_id)
        show(run)
        if not run.open or (alive is not None and not alive.is_alive()):
            return run
        time.sleep(POLL_SECONDS)


def _picture(adapters: Adapters, run: Run) -> Group:
    table = Table(box=None, pad_edge=False)
    for heading in ("", "step", "where", "parts", "bytes", "rate", "time"):
        table.add_column(heading, justify="left" if heading in ("", "step", "where") else "right")
    for row in render.progress_rows(adapters.ledger.progress(run.id), time.time()):
        table.add_row(*row)
    table.title = Text(f"{run.kind} of {run.database}, run {run.id}: {run.state}", style="bold")
    table.title_justify = "left"
    return Group(table, *(Text(line, style="yellow") for line in troubles(adapters, run)))


def troubles(adapters: Adapters, run: Run) -> list[str]:
    """What holds an open run up: attempts that failed and are made again, or nobody to do the work."""
    if not run.open:
        return []
    lines = [
        f"{step.name}{f' ({step.branch})' if step.branch else ''}: {_reason(step)}"
        for step in adapters.ledger.waiting(run.id)
    ]
    if run.state == "queued" and not run.here and time.time() - run.created_at > _PATIENCE_SECONDS:
        alive = adapters.ledger.workers(alive_within=_ALIVE_SECONDS)
        first = next(iter(adapters.ledger.steps(run.id)))
        if not any(first.queue in worker.queues for worker in alive):
            lines.append(
                f"No worker takes queue {first.queue!r}. Start one: celery -A worker.app worker -Q {first.queue}"
                " (or do without: --here)."
            )
    return lines


def _reason(step: Step) -> str:
    again = max(0.0, (step.next_attempt_at or 0.0) - time.time())
    message = step.data.get("waiting_for") or (step.error or {}).get("message", "put off")
    tries = f", attempt {step.attempts} of {step.max_attempts}" if step.error else ""
    return f"{message} Again in {human.duration(again)}{tries}."


class _Lines:
    """One line when a step begins or ends, and when something holds it up: readable in a log."""

    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters
        self._said: set[tuple[str, ...]] = set()

    def show(self, run: Run) -> None:
        for row in self._adapters.ledger.progress(run.id):
            state = render.state_of(row)
            if (
                state != "waiting"
                and not row["name"].endswith(".sweep")
                and self._new(row["name"], row["branch"], state)
            ):
                click.echo(f"{render.clock(time.time())} {render.progress_line(row, state)}")
        for line in troubles(self._adapters, run):
            if self._new(line.partition(" Again in ")[0]):
                click.echo(f"{render.clock(time.time())} {line}")

    def _new(self, *mark: str) -> bool:
        fresh = mark not in self._said
        self._said.add(mark)
        return fresh
