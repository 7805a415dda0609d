"""docs/reference/tasks.md: every Celery task that a worker registers, and the queue where its messages go."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path

from celery import Celery

import beat_schedule
import worker
from scripts.reference.markdown import joined, made_by, table
from worker import runner, tasks
from worker.broker import QUEUES, make_app
from worker.core.requests import (
    BackupRequest,
    CleanupRequest,
    CopyRequest,
    DrillRequest,
    Request,
    RestoreRequest,
    VerifyRequest,
)

_QUEUES: Mapping[str, tuple[str, str]] = {
    "control": (
        "entry tasks, `reconcile`, planning and concluding, retention",
        "the destinations, ledger, broker",
    ),
    "dump": ("dumps", "the database, public keys, a spool"),
    "verify": ("reading back, copying, scrubbing", "the destinations"),
    "restore": (
        "what a restore or a drill begins and ends with",
        "destinations, private keys, targets, a spool",
    ),
}
_REQUESTS: Mapping[str, type[Request]] = {
    request.kind: request
    for request in (BackupRequest, RestoreRequest, DrillRequest, CleanupRequest, CopyRequest, VerifyRequest)
}
_INTRO = f"""# Tasks and queues

{made_by()}

A message says "step S of run R may be due", and nothing else: no secret, address or path. So a lost, late or doubled
one does no harm ([runs and steps](../explanation/runs.md)). Flower shows these names.
"""


@cache
def registered() -> list[str]:
    """The names in the registry of a worker's application, without Celery's own."""
    app: Celery = make_app("memory://")
    tasks.register(app)
    return sorted(name for name in app.tasks if not name.startswith("celery."))


@cache
def queues() -> dict[str, str]:
    """Step → its queue: ``queue=`` of each NewStep, wherever one is made. Empty for a step that none makes."""
    found: dict[str, str] = {}
    for path in sorted(Path(worker.__file__).parent.rglob("*.py")):
        found.update(_made_in(ast.parse(path.read_text())))
    return {name: found.get(name, "") for name in runner.STEPS}


def _made_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        made = getattr(call.func, "id", "")
        words = [text for argument in call.args[:2] for text in constants(argument)]
        if made == "NewStep":
            given = [keyword.value for keyword in call.keywords if keyword.arg == "queue"]
            queue = constants(given[0]) if given else ["control"]
            yield from ((name, queue[0]) for name in _names(tree, call) if queue)
        elif made == "drill_step":
            yield words[0], "spool"
        elif made == "_then":
            yield words[0], words[1]


def _names(tree: ast.Module, call: ast.Call) -> list[str]:
    """The step's name where it is written, and all that its variables are set to in this module."""
    first = call.args[0]
    used = [node.id for node in ast.walk(first) if isinstance(node, ast.Name)]
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(_is(node, one) for one in used)
    ]
    return [name for value in (first, *values) for name in constants(value) if name in runner.STEPS]


def _is(node: ast.Assign, name: str) -> bool:
    return any(isinstance(target, ast.Name) and target.id == name for target in node.targets)


def constants(node: ast.expr) -> list[str]:
    found = (inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant))
    return [value for value in found if isinstance(value, str)]


def render() -> str:
    names = registered()
    entries = [name for name in names if name.startswith("pgfleet.")]
    found = queues()
    ticks = beat_schedule.entries(30.0)
    return joined(
        _INTRO,
        "## Queues",
        table(
            ("queue", "messages", "its workers need"),
            [
                *((f"`{queue}`", *_QUEUES[queue]) for queue in QUEUES),
                ("`spool.ID`", "steps that work on files of the spool with this id", "that spool mounted"),
            ],
        ),
        "`celery -A worker.app worker -Q dump,verify` takes these queues, and that of its spool by itself, if it takes "
        "`dump` or `restore`. "
        "Without `-Q` it takes all.",
        "## Entry tasks",
        "Each takes one JSON object, inserts a run and returns. They are for producers that reach only the broker: "
        "another Celery application, Flower's HTTP API. An unknown field is refused. Their queue is `control`.",
        table(("task", "fields", "does"), ((f"`{name}`", *_entry(name, ticks)) for name in entries)),
        "## Steps",
        "Each takes the ids of a run and a step.",
        *(
            _group(kind, list(group), found)
            for kind, group in groupby(_steps(names), lambda name: name.partition(".")[0])
        ),
    )


def _steps(names: list[str]) -> list[str]:
    """In the order of the flows."""
    return sorted((name for name in names if name in runner.STEPS), key=list(runner.STEPS).index)


def _group(kind: str, names: list[str], found: Mapping[str, str]) -> str:
    rows = [(f"`{name}`", f"`{found[name]}`", _about(runner.STEPS[name])) for name in names]
    return joined(f"### {kind}", table(("task", "queue", "does"), rows))


def _about(function: Callable[..., object]) -> str:
    """The first sentence of its docstring."""
    text = " ".join((function.__doc__ or "").replace("``", "`").split())
    return text.partition(". ")[0].removesuffix(".") if text else ""


def _entry(name: str, ticks: Mapping[str, Mapping[str, object]]) -> tuple[str, str]:
    every = [tick["schedule"] for tick in ticks.values() if tick["task"] == name]
    if every:
        return (
            "",
            "sends what is due again, ends what is overdue, inserts what the schedule owes; "
            f"beat asks for it every {every[0]:g} s",
        )
    kind = name.partition(".")[2]
    fields = _REQUESTS[kind].model_fields
    shown = ", ".join(f"`{field.alias or key}`" for key, field in fields.items())
    return shown, f"asks for a run of kind `{kind}`"
