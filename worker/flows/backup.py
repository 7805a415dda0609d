"""The flows of a backup and of a verification."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from worker.core.parts import PartPlan
from worker.flows.rule import Result, Rule
from worker.ledger.model import NewStep, RunKind, Step


def _backup(_: Result) -> list[NewStep]:
    return [
        NewStep("backup.dump", queue="dump"),
        NewStep("backup.conclude", needs="*"),
        NewStep("backup.sweep", queue="spool", always=True, max_attempts=5),
    ]


def _after_dump(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    for archive in result["archives"]:
        yield NewStep(
            "backup.encrypt",
            archive["stem"],
            queue="spool",
            group="copy/",
            data={"archive": archive, "destinations": result["destinations"]},
            size=archive["size"],
        )
    for destination in result["destinations"]:
        yield NewStep(
            "backup.seal",
            destination,
            queue="spool",
            group=f"seal/{destination}/",
            needs=f"copy/{destination}/",
            branch=destination,
            data={"destination": destination},
        )


def _after_encrypt(step: Step, result: Result, _: Iterable[Result]) -> Iterator[NewStep]:
    for destination in step.data["destinations"]:
        yield NewStep(
            "backup.upload",
            f"{step.key}@{destination}",
            queue="spool",
            group=f"copy/{destination}/",
            branch=destination,
            data={"destination": destination, "artifact": result["artifact"]},
        )


def _after_upload(step: Step, result: Result, parts: Iterable[Result]) -> Iterator[NewStep]:
    plan = PartPlan(result["size"], result["part_size"])
    for part in parts:
        yield NewStep(
            "backup.upload_part",
            f"{step.key}#{part['number']}",
            queue="spool",
            group=step.group,
            branch=step.branch,
            data={"destination": step.branch, **result, **part},
            size=plan.range(part["number"])[1],
        )


def after_seal(step: Step, _: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    yield _verify(step.branch)


def _verify(destination: str) -> NewStep:
    return NewStep(
        "backup.verify",
        destination,
        queue="verify",
        group=f"verify/{destination}/",
        branch=destination,
        data={"destination": destination},
    )


def _after_verify(step: Step, result: Result, parts: Iterable[Result]) -> Iterator[NewStep]:
    destination = step.branch
    for part in parts:
        yield NewStep(
            "backup.verify_part",
            f"{part['object']}@{destination}#{part['number']}",
            queue="verify",
            group=f"verify/{destination}/",
            branch=destination,
            data={"destination": destination, **part},
            size=part["size"],
        )
    yield NewStep(
        "backup.attest",
        destination,
        queue="verify",
        group=f"attest/{destination}/",
        needs=f"verify/{destination}/",
        branch=destination,
        data={"destination": destination, **result},
    )


def _verify_run(request: Result) -> list[NewStep]:
    return [
        *(_verify(destination) for destination in request["destinations"]),
        NewStep("backup.conclude", needs="*"),
    ]


FIRST: Mapping[RunKind, Callable[[Result], list[NewStep]]] = {"backup": _backup, "verify": _verify_run}
FOLLOW: Mapping[str, Rule] = {
    "backup.dump": _after_dump,
    "backup.encrypt": _after_encrypt,
    "backup.upload": _after_upload,
    "backup.seal": after_seal,
    "backup.verify": _after_verify,
}
KEPT: Mapping[RunKind, tuple[str, ...]] = {"backup": ("backup.dump", "backup.conclude", "backup.sweep")}
