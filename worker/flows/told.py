"""The flows that tell people: a report of a month, a digest. One step each; the schedule makes each run once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from worker.flows.rule import Result, Rule
from worker.ledger.model import NewStep, RunKind


def _report(_: Result) -> list[NewStep]:
    return [NewStep("report.make")]


def _digest(_: Result) -> list[NewStep]:
    return [NewStep("digest.send", max_attempts=10)]


FIRST: Mapping[RunKind, Callable[[Result], list[NewStep]]] = {"report": _report, "digest": _digest}
FOLLOW: Mapping[str, Rule] = {}
KEPT: Mapping[RunKind, tuple[str, ...]] = {}
