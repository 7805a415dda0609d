"""A run's steps as the graph that somebody has in mind: what comes first, a lane for each destination, what comes last.

Stages that the ledger has no rows of yet are shown as waiting: the picture does not grow while one looks at it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from worker.ledger.model import Run

Row = Mapping[str, Any]  # as `Ledger.progress` gives them


@dataclass(frozen=True, slots=True)
class Stage:
    """label → the steps that make it."""

    label: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    before: tuple[Stage, ...] = ()
    lane: tuple[Stage, ...] = ()
    after: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """share: of the stage that is done, 0 to 1. rate: bytes a second, 0 when nothing is known."""

    label: str
    state: str
    done: int = 0
    total: int = 0
    share: float = 0.0
    bytes: int = 0
    seconds: float | None = None
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Graph:
    before: list[Node] = field(default_factory=list)
    lanes: list[tuple[str, list[Node]]] = field(default_factory=list)
    after: list[Node] = field(default_factory=list)


def _stages(prefix: str, **labels: str) -> tuple[Stage, ...]:
    """label → names without their prefix, separated by spaces."""
    return tuple(
        Stage(label.replace("_", " "), tuple(f"{prefix}.{name}" for name in names.split()))
        for label, names in labels.items()
    )


_READ_BACK = _stages("backup", verify="verify verify_part", attest="attest")
_CONCLUDE = _stages("backup", conclude="conclude")
_FETCH = _stages("restore", choose="choose", fetch="thaw fetch_part", decrypt="decrypt", check="check")
_PLANS: Mapping[str, Plan] = {
    "backup": Plan(
        _stages("backup", dump="dump", encrypt="encrypt"),
        _stages("backup", upload="upload upload_part", seal="seal") + _READ_BACK,
        _CONCLUDE,
    ),
    "verify": Plan(lane=_READ_BACK, after=_CONCLUDE),
    "copy": Plan(
        lane=_stages("copy", plan="plan", copy="open part", seal="seal") + _READ_BACK, after=_CONCLUDE
    ),
    "restore": Plan(
        _FETCH
        + _stages(
            "restore", prepare="prepare", roles="globals", load="load", finish="finish", swap="swap",
            conclude="conclude",
        )
    ),
    "drill": Plan(
        _FETCH
        + _stages(
            "drill", server="provision", roles="roles", load="load", fingerprint="fingerprint fingerprint_chunk",
            examine="examine", compare="compare", control="control", conclude="conclude",
        )
    ),
    "scrub": Plan(
        lane=_stages("scrub", plan="plan", read="part", attest="attest"),
        after=_stages("scrub", conclude="conclude"),
    ),
    "cleanup": Plan(
        _stages("cleanup", plan="plan"),
        _stages("cleanup", remove="remove", sweep="sweep", lock="lock"),
        _stages("cleanup", tidy="tidy", conclude="conclude"),
    ),
}  # fmt: skip
#: What only some runs of a kind do: no box before there is such a step.
_OPTIONAL = frozenset({"roles", "lock", "remove", "tidy"})
#: Cleaning up after a run is no part of its way.
_AFTER_THE_END = (".sweep", ".record")


_STAGE_OF = {
    name: stage.label
    for plan in _PLANS.values()
    for stage in (*plan.before, *plan.lane, *plan.after)
    for name in stage.names
}


def stage_of(name: str) -> str:
    """The stage that a step of this name is a part of."""
    return _STAGE_OF.get(name) or name.partition(".")[2].replace("_", " ")


def graph(run: Run, rows: Sequence[Row], destinations: Iterable[str], now: float) -> Graph:
    """destinations: where the run's database is copied to; lanes come in their order."""
    if run.request.get("undo") or run.request.get("finish") or run.kind not in _PLANS:
        return Graph(before=[_node(_plain(row), [row], run, now) for row in rows])
    plan = _PLANS[run.kind]
    known = {name for stage in (*plan.before, *plan.lane, *plan.after) for name in stage.names}
    strange = [row for row in rows if row["name"] not in known and not row["name"].endswith(_AFTER_THE_END)]
    return Graph(
        _nodes(plan.before, rows, run, now),
        [
            (alias, _nodes(plan.lane, [row for row in rows if row["branch"] == alias], run, now))
            for alias in (_lanes(run, rows, destinations, plan) if plan.lane else ())
        ],
        [*_nodes(plan.after, rows, run, now), *(_node(_plain(row), [row], run, now) for row in strange)],
    )


def _lanes(run: Run, rows: Sequence[Row], destinations: Iterable[str], plan: Plan) -> list[str]:
    names = {name for stage in plan.lane for name in stage.names}
    found = dict.fromkeys(row["branch"] for row in rows if row["branch"] and row["name"] in names)
    asked = run.request.get("destinations") or ([run.request["to"]] if run.request.get("to") else [])
    expected = asked or (destinations if run.kind == "backup" else [])
    return list(dict.fromkeys([*(alias for alias in expected if run.open or alias in found), *found]))


def _nodes(stages: Sequence[Stage], rows: Sequence[Row], run: Run, now: float) -> list[Node]:
    found = []
    for stage in stages:
        own = [row for row in rows if row["name"] in stage.names]
        if own or (run.open and stage.label not in _OPTIONAL):
            found.append(_node(stage.label, own, run, now))
    return found


def _plain(row: Row) -> str:
    return stage_of(str(row["name"]))


def _node(label: str, rows: Sequence[Row], run: Run, now: float) -> Node:
    if not rows:
        return Node(label, "waiting")

    def sum_of(what: str) -> int:
        return sum(int(row[what]) for row in rows)

    done, total, size = sum_of("done"), sum_of("total"), sum_of("bytes_done")
    state = _state(run, done, total, sum_of("running"), sum_of("failed"), sum_of("skipped"))
    began = min((row["started_at"] for row in rows if row["started_at"] is not None), default=None)
    ended = max((row["ended_at"] for row in rows if row["ended_at"] is not None), default=None)
    seconds = max(0.0, (now if state == "running" else ended or now) - began) if began is not None else None
    whole = sum_of("bytes_total")
    share = size / whole if total == 1 and whole else done / total
    rate = size / seconds if seconds and size else 0.0
    return Node(label, state, done, total, 1.0 if state == "done" else min(1.0, share), size, seconds, rate)


def _state(run: Run, done: int, total: int, running: int, failed: int, skipped: int) -> str:
    if failed:
        return "failed"
    if done == total:
        return "done"
    if running or (done and run.open):
        return "running"
    return "skipped" if skipped else "waiting"
