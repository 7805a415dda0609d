"""The flow of a restore, of `undo` and `finish`, and of `fetch`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from worker.flows.drill import drill_step
from worker.flows.rule import ANSWERED_FOR, Result, Rule
from worker.ledger.model import NewStep, RunKind, Step


def _restore(request: Result) -> list[NewStep]:
    if request.get("undo"):
        return [NewStep("restore.undo", queue="restore"), ANSWERED_FOR]
    if request.get("finish"):
        return [NewStep("restore.drop_old", queue="restore"), ANSWERED_FOR]
    return [
        NewStep("restore.choose", queue="restore"),
        NewStep("restore.record", queue="verify", always=True),  # a restorer's key may only read
        NewStep("restore.sweep", queue="spool", always=True, max_attempts=20),
        ANSWERED_FOR,
    ]


def _after_choose(step: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    branch = step.branch  # a drill's: what fails there is a verdict
    for artifact in result["artifacts"]:
        name = artifact["name"]
        # A drill is about one copy: another one must not stand in for it.
        copies = artifact["copies"][:1] if branch else artifact["copies"]
        group, data = f"fetch/{name}/", {"artifact": artifact | {"copies": copies}}
        yield NewStep("restore.thaw", name, queue="spool", group=group, branch=branch, data=data)
        yield NewStep(
            "restore.decrypt", name, queue="spool", group="plain/", needs=group, branch=branch, data=data
        )
    yield NewStep(
        "restore.check", queue="spool", needs="plain/", branch=branch, data={"managed": result["managed"]}
    )


def _after_thaw(step: Step, result: Result, parts: Iterable[Result]) -> Iterator[NewStep]:
    for part in parts:
        data = {**result, **part}
        yield NewStep(
            "restore.fetch_part",
            f"{step.key}#{part['number']}",
            queue="spool",
            group=step.group,
            branch=step.branch,
            data=data,
            size=part["size"],
        )


def _after_check(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    if result["kind"] == "restore":
        yield NewStep("restore.prepare", queue="spool", data={"globals": result["globals"]})
    elif result["kind"] == "fetch":
        yield NewStep("restore.deliver", queue="spool", data={"check": dict(result)})
    elif result["kind"] == "drill":
        yield drill_step("drill.provision", {})


def _after_prepare(step: Step, result: Result, _: Iterable[Result]) -> Iterator[NewStep]:
    name = "restore.globals" if step.data["globals"] else "restore.load"
    if not result.get("dry_run"):
        yield NewStep(name, queue="spool", data={"plan": dict(result)})


def _then(name: str, queue: str) -> Callable[[Step, Result, Iterable[Result]], Iterator[NewStep]]:
    def rule(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
        yield NewStep(name, queue=queue, data=dict(result))

    return rule


FIRST: Mapping[RunKind, Callable[[Result], list[NewStep]]] = {"restore": _restore}
FOLLOW: Mapping[str, Rule] = {
    "restore.choose": _after_choose,
    "restore.thaw": _after_thaw,
    "restore.check": _after_check,
    "restore.prepare": _after_prepare,
    "restore.globals": _then("restore.load", "spool"),
    "restore.load": _then("restore.finish", "spool"),
    "restore.finish": _then("restore.swap", "restore"),
    "restore.swap": _then("restore.conclude", "control"),
}
KEPT: Mapping[RunKind, tuple[str, ...]] = {
    "restore": ("restore.choose", "restore.record", "restore.sweep", ANSWERED_FOR.name)
}
