"""The flow of a drill: a restore up to the check, then a throwaway server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from worker.flows.rule import ANSWERED_FOR, Result, Rule
from worker.ledger.model import NewStep, RunKind, Step


def _drill(_: Result) -> list[NewStep]:
    """All of it is one branch, so that a failure skips the rest of it and the run ends with a verdict."""
    return [
        NewStep("restore.choose", queue="restore", branch="drill"),
        NewStep("drill.conclude", queue="restore", needs="*"),
        NewStep("drill.sweep", queue="spool", always=True, max_attempts=20),
        ANSWERED_FOR,
    ]


def drill_step(name: str, data: Result, *, key: str = "", group: str = "", needs: str = "") -> NewStep:
    return NewStep(name, key, queue="spool", group=group, needs=needs, branch="drill", data=data)


def _after_provision(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    yield drill_step("drill.roles", {"plan": result["plan"]})


def _after_roles(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    yield drill_step("drill.load", {"plan": result["plan"]})


def _after_drill_load(_: Step, __: Result, ___: Iterable[Result]) -> Iterator[NewStep]:
    yield drill_step("drill.fingerprint", {}, group="read/")
    yield drill_step("drill.examine", {}, group="read/")
    yield drill_step("drill.compare", {}, group="compare/", needs="read/")
    yield drill_step("drill.control", {}, needs="compare/")


def _after_drill_fingerprint(_: Step, __: Result, chunks: Iterable[Result]) -> Iterator[NewStep]:
    for chunk in chunks:
        yield drill_step("drill.fingerprint_chunk", chunk, key=str(chunk["number"]), group="read/")


def _after_conclude(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    if result.get("unwritten"):
        yield NewStep("drill.record", queue="verify", always=True, max_attempts=20)


FIRST: Mapping[RunKind, Callable[[Result], list[NewStep]]] = {"drill": _drill}
FOLLOW: Mapping[str, Rule] = {
    "drill.provision": _after_provision,
    "drill.roles": _after_roles,
    "drill.load": _after_drill_load,
    "drill.fingerprint": _after_drill_fingerprint,
    "drill.conclude": _after_conclude,
}
KEPT: Mapping[RunKind, tuple[str, ...]] = {
    "drill": ("restore.choose", "drill.conclude", "drill.sweep", ANSWERED_FOR.name)
}
