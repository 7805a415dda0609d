"""Runs as they go on, on a screen: no taller than it is, and what is in work is what stays."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from worker.cli import render
from worker.cli.troubles import troubles
from worker.core import human
from worker.ledger.model import Run
from worker.steps.context import Adapters

_HEADINGS = ("", "step", "where", "parts", "bytes", "rate", "time")
_HEAD_LINES = 2  # of a table of steps: its title, its headings


class Picture:
    """What one look at the ledger found, laid out for the height that there is.

    Of one run its steps; of several a line each, and the steps of those in work that there is room for.
    """

    def __init__(self, adapters: Adapters, runs: Sequence[Run]) -> None:
        self._runs = list(runs)
        open_ = [run for run in runs if run.open]
        followed = self._runs if len(self._runs) == 1 else [run for run in open_ if run.state == "running"]
        self._steps = {run.id: adapters.ledger.progress(run.id) for run in followed}
        several = len(self._runs) > 1
        self._troubles = [
            Text(f"{run.id} {line}" if several else line, style="yellow")
            for run in open_
            for line in troubles(adapters, run)
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        told = sum(max(1, math.ceil(line.cell_len / options.max_width)) for line in self._troubles)
        room = (options.height or console.height) - 1 - told
        yield Group(*(self._one(room) if len(self._runs) == 1 else self._several(room)), *self._troubles)

    def _one(self, room: int) -> list[RenderableType]:
        (run,) = self._runs
        title = f"{run.kind} of {run.database}, run {run.id}: {run.state}"
        return [steps_table(title, fitting(self._steps[run.id], room - _HEAD_LINES))]

    def _several(self, room: int) -> list[RenderableType]:
        room -= 1 + sum(run.open for run in self._runs)  # the table's headings and open runs
        tables: list[RenderableType] = []
        for run in (run for run in self._runs if run.id in self._steps):
            rows = self._steps[run.id]
            if (height := _HEAD_LINES + len(_shown(rows))) <= room:
                tables.append(steps_table(f"run {run.id}", rows))
                room -= height
        ended = [run.id for run in self._runs if not run.open][: max(0, room)]
        return [runs_table([run for run in self._runs if run.open or run.id in ended]), *tables]


def runs_table(runs: Sequence[Run]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("run", "kind", "database", "state", "began (UTC)", "took", "asked by"):
        table.add_column(heading, no_wrap=heading != "asked by")
    for run in runs:
        took = human.duration((run.ended_at or time.time()) - run.started_at) if run.started_at else "-"
        table.add_row(
            run.id,
            run.kind,
            escape(run.database),
            render.state(run.state),
            render.moment(run.started_at),
            took,
            escape(run.requested_by),
        )
    return table


def steps_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=Text(title), title_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _HEADINGS[:3] else "right")
    for row in render.progress_rows(rows, time.time()):
        table.add_row(*row)
    return table


def fitting(rows: Sequence[Mapping[str, Any]], room: int) -> list[Mapping[str, Any]]:
    """At most `room` of them: without those that are done, where not all fit, and what waits gives way first."""
    shown = _shown(rows)
    if len(shown) <= room:
        return shown
    order = {"failed": 0, "running": 0, "waiting": 1}
    undone = [row for row in shown if render.state_of(row) in order]
    return sorted(undone, key=lambda row: order[render.state_of(row)])[: max(1, room)]


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in rows if not row["name"].endswith(".sweep")]
