"""Watching runs: live progress at a terminal, plain lines elsewhere. The truth is the ledger's."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import click
from rich.console import Console
from rich.live import Live

from worker import here as here_mode
from worker.cli import render
from worker.cli.picture import Picture
from worker.cli.troubles import troubles
from worker.errors import LedgerUnavailable
from worker.ledger.model import OPEN_STATES, Run
from worker.steps.context import Adapters

POLL_SECONDS = 0.4
#: A fleet's run goes on while the ledger is restarted, and so does whoever watches it.
_LEDGER_AWAY_SECONDS = 120.0

Look = Callable[[Sequence[Run]], object]


def follow(adapters: Adapters, run: Run, *, here: bool = False, quiet: bool = False) -> Run:
    """Show a run until it has ended, and return it. With `here`, this process does its work meanwhile.

    Ctrl-C leaves a fleet's run going; a `--here` run is cancelled and cleaned up after.
    """
    (ended,) = follow_all(adapters, [run], here=here, quiet=quiet)
    return ended


def follow_all(
    adapters: Adapters, runs: Sequence[Run], *, here: bool = False, quiet: bool = False
) -> Iterator[Run]:
    """Show runs until they have ended, each given when it has. The fleet's are shown side by side; with `here` this
    process does them, one after the other. See `follow` for ctrl-C.
    """
    lines = Lines(adapters, named=len(runs) > 1)
    if not here:
        yield from _shown(lines, runs, quiet=quiet)
        return
    for run in runs:
        with _working(adapters, run.id) as thread:
            list(_shown(lines, [run], quiet=quiet, going=thread.is_alive))
        yield adapters.ledger.run(run.id)


def _shown(
    lines: Lines, runs: Sequence[Run], *, quiet: bool, going: Callable[[], bool] = lambda: True
) -> Iterator[Run]:
    """As `until_ended`; at a terminal all of them at the end, when the picture stands still."""
    adapters = lines.adapters
    if quiet or not sys.stdout.isatty():
        yield from until_ended(adapters, runs, _nothing if quiet else lines.show, going)
        return
    with Live(console=Console(), refresh_per_second=8) as live:
        ended = list(until_ended(adapters, runs, lambda now: live.update(Picture(adapters, now)), going))
    yield from ended


def _nothing(_: Sequence[Run]) -> None:
    pass


def until_ended(
    adapters: Adapters, runs: Sequence[Run], look: Look, going: Callable[[], bool] = lambda: True
) -> Iterator[Run]:
    """Give each run when it has ended, all of them when nothing is `going` on any more. `look` gets all at each look.

    Raises LedgerUnavailable when the ledger has been away for two minutes.
    """
    known = {run.id: run for run in runs}
    waiting, answered = list(known), time.monotonic()
    while waiting:
        last = not going()
        try:
            known |= {run_id: adapters.ledger.run(run_id) for run_id in waiting}
            look(list(known.values()))
            answered = time.monotonic()
        except LedgerUnavailable:
            if time.monotonic() - answered > _LEDGER_AWAY_SECONDS:
                raise
        ended = [run_id for run_id in waiting if last or not known[run_id].open]
        waiting = [run_id for run_id in waiting if run_id not in ended]
        yield from (known[run_id] for run_id in ended)
        if waiting:
            time.sleep(POLL_SECONDS)


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


class Lines:
    """One line when a step begins or ends, and when something holds it up: readable in a log."""

    def __init__(self, adapters: Adapters, *, named: bool) -> None:
        """named: each line says which database it is about."""
        self.adapters = adapters
        self._named = named
        self._said: set[tuple[str, ...]] = set()

    def show(self, runs: Sequence[Run]) -> None:
        found = [line for run in runs for line in self._news(run)]
        for at, line in sorted(found, key=lambda one: one[0]):
            click.echo(f"{render.clock(at)} {line}")

    def _news(self, run: Run) -> Iterator[tuple[float, str]]:
        """(when, what) of what was not said yet; by the ledger's clock."""
        if (run.id, "ended") in self._said:
            return
        name = f"{run.database}: " if self._named else ""
        for row in self.adapters.ledger.progress(run.id):
            state = render.state_of(row)
            mark = (run.id, row["name"], row["branch"])
            if row["name"].endswith(".sweep") or state in ("waiting", "skipped"):
                continue
            if state == "running" and (*mark, "done") in self._said:  # more of them have come up
                continue
            if self._new(*mark, state):
                at = row["started_at"] if state == "running" else row["ended_at"]
                yield at or time.time(), f"{name}{render.progress_line(row, state)}"
        for line in troubles(self.adapters, run):
            if self._new(run.id, line.partition(" Again in ")[0]):
                yield time.time(), f"{name}{line}"
        if run.state not in OPEN_STATES:
            self._new(run.id, "ended")

    def _new(self, *mark: str) -> bool:
        fresh = mark not in self._said
        self._said.add(mark)
        return fresh
