"""The flows that look after stored copies: copy (and repair), scrub, cleanup."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from worker.flows.backup import after_seal
from worker.flows.rule import ANSWERED_FOR, Result, Rule
from worker.ledger.model import NewStep, RunKind, Step


def _copy(request: Result) -> list[NewStep]:
    to = request["to"]
    return [
        NewStep("copy.plan", to, queue="verify", group=f"copy/{to}/", branch=to),
        NewStep("backup.conclude", needs="*"),
    ]


def _after_copy_plan(step: Step, result: Result, _: Iterable[Result]) -> Iterator[NewStep]:
    to, sources = step.branch, {"sources": result["sources"]}
    for artifact in result["artifacts"]:
        data = {"destination": to, "artifact": artifact, **sources}
        yield NewStep(
            "copy.open", artifact["name"], queue="verify", group=f"copy/{to}/", branch=to, data=data
        )
    yield NewStep(
        "copy.seal", to, queue="verify", group=f"seal/{to}/", needs=f"copy/{to}/", branch=to, data=sources
    )


def _after_copy_open(step: Step, result: Result, parts: Iterable[Result]) -> Iterator[NewStep]:
    for part in parts:
        key, data = f"{step.key}#{part['number']}", {"sources": step.data["sources"], **result, **part}
        yield NewStep(
            "copy.part",
            key,
            queue="verify",
            group=step.group,
            branch=step.branch,
            data=data,
            size=2 * part["size"],  # fetched, and sent
        )


def _scrub(request: Result) -> list[NewStep]:
    return [
        *(
            NewStep(
                "scrub.plan",
                destination,
                queue="verify",
                group=f"scrub/{destination}/",
                branch=destination,
                data={"destination": destination},
            )
            for destination in request["destinations"]
        ),
        NewStep("scrub.conclude", needs="*"),
    ]


def _after_scrub_plan(step: Step, _: Result, parts: Iterable[Result]) -> Iterator[NewStep]:
    destination = step.branch
    for part in parts:
        key = f"{part['object']}@{destination}#{part['number']}"
        yield NewStep(
            "scrub.part",
            key,
            queue="verify",
            group=step.group,
            branch=destination,
            data=part,
            size=part["size"],
            max_attempts=3,
        )
    yield NewStep(
        "scrub.attest",
        destination,
        queue="verify",
        group=f"attest/{destination}/",
        needs=step.group,
        branch=destination,
    )


def _cleanup(_: Result) -> list[NewStep]:
    return [NewStep("cleanup.plan"), ANSWERED_FOR]


def _after_plan(_: Step, result: Result, doomed: Iterable[Result]) -> Iterator[NewStep]:
    if not result.get("goes_on"):
        return
    yield NewStep("cleanup.tidy", group="before/", branch="ledger")
    for copy in doomed:
        destination = copy["destination"]
        yield NewStep(
            "cleanup.remove",
            f"{destination}:{copy['backup_id']}",
            group=f"before/{destination}/",
            branch=destination,
            data=copy,
        )
    for destination in result["sweeping"]:
        yield NewStep(
            "cleanup.sweep",
            destination,
            needs=f"before/{destination}/",
            branch=destination,
            data={"destination": destination},
        )
    for destination in result["locking"]:
        yield NewStep(
            "cleanup.lock",
            destination,
            needs=f"before/{destination}/",
            branch=f"{destination} locks",
            data={"destination": destination},
        )
    yield NewStep("cleanup.conclude", needs="*")


FIRST: Mapping[RunKind, Callable[[Result], list[NewStep]]] = {
    "copy": _copy,
    "scrub": _scrub,
    "cleanup": _cleanup,
}
FOLLOW: Mapping[str, Rule] = {
    "cleanup.plan": _after_plan,
    "scrub.plan": _after_scrub_plan,
    "copy.plan": _after_copy_plan,
    "copy.open": _after_copy_open,
    "copy.seal": after_seal,
}
KEPT: Mapping[RunKind, tuple[str, ...]] = {}
