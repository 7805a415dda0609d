"""What follows what: each flow as a graph of steps, by name. Pure: nothing here does any work.

    backup   dump ─▶ encrypt ─▶ upload ─▶ upload_part × N ─▶ seal ─▶ verify ─▶ verify_part × N ─▶ attest ─▶ conclude
             (one) (an archive) (an archive and a copy)    └──────────── (a copy) ─────────────────────┘   └ sweep
    verify   verify ─▶ verify_part × N ─▶ attest ─▶ conclude
    restore  choose ─▶ (thaw ─▶ fetch_part × N ─▶ decrypt) × artifacts ─▶ check ─▶ prepare ─▶ globals ─▶ load
             ─▶ finish ─▶ swap ─▶ conclude, and then record and sweep
    drill    choose … check ─▶ provision ─▶ roles ─▶ load ─▶ fingerprint ─▶ fingerprint_chunk × N ─▶ compare ─▶ control
             ─▶ conclude, whatever failed; and then sweep  └ examine ────────────────────────────┘
    copy     plan ─▶ open ─▶ part × N ─▶ seal ─▶ verify ─▶ verify_part × N ─▶ attest ─▶ conclude
    scrub    (plan ─▶ part × N ─▶ attest) × destinations ─▶ conclude
    cleanup  plan ─▶ tidy, (remove × N ─▶ sweep, lock) × destinations ─▶ conclude

A step's `group` and `needs` say what it waits for (`worker.ledger.model.NewStep`): a copy is sealed when nothing
under ``copy/<destination>/`` is undone. Each copy is a branch of its own: what fails in one leaves the others alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from worker.ledger.model import NewRun, NewStep, RunKind, Step

Result = Mapping[str, Any]


def first(new: NewRun) -> list[NewStep]:
    """The steps that a new run starts with."""
    return _FIRST[new.kind](new.request)


def follow(step: Step, result: Result, fan_out: Iterable[Result] = ()) -> Iterator[NewStep]:
    """The steps that come after `step` ended with `result`: one a value of `fan_out` where it has any.

    There may be many, so they are made one at a time.
    """
    rule = _FOLLOW.get(step.name)
    return rule(step, result, fan_out) if rule is not None else iter(())


def rewound(kind: RunKind) -> tuple[str, ...]:
    """The steps that a run starts again with when its spool is gone."""
    return _KEPT.get(kind, ())


# --- backup ---------------------------------------------------------------------------------------------------------


def _backup(_: Result) -> list[NewStep]:
    return [
        NewStep("backup.dump", queue="dump"),
        NewStep("backup.conclude", needs="*"),
        NewStep("backup.sweep", queue="spool", always=True, max_attempts=3),
    ]


def _after_dump(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    for archive in result["archives"]:
        yield NewStep(
            "backup.encrypt",
            archive["stem"],
            queue="spool",
            group="copy/",
            data={"archive": archive, "destinations": result["destinations"]},
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
    for part in parts:
        yield NewStep(
            "backup.upload_part",
            f"{step.key}#{part['number']}",
            queue="spool",
            group=step.group,
            branch=step.branch,
            data={"destination": step.branch, **result, **part},
        )


def _after_seal(step: Step, _: Result, __: Iterable[Result]) -> Iterator[NewStep]:
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


# --- restore --------------------------------------------------------------------------------------------------------


def _restore(request: Result) -> list[NewStep]:
    if request.get("undo"):
        return [NewStep("restore.undo", queue="restore")]
    if request.get("finish"):
        return [NewStep("restore.drop_old", queue="restore")]
    return [
        NewStep("restore.choose", queue="restore"),
        NewStep("restore.record", queue="restore", always=True),
        NewStep("restore.sweep", queue="spool", always=True, max_attempts=20),
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
        )


def _after_check(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    if result["kind"] == "restore":
        yield NewStep("restore.prepare", queue="spool", data={"globals": result["globals"]})
    elif result["kind"] == "fetch":
        yield NewStep("restore.deliver", queue="spool", data={"check": dict(result)})
    elif result["kind"] == "drill":
        yield _drill_step("drill.provision", {})


# --- drill ----------------------------------------------------------------------------------------------------------


def _drill(_: Result) -> list[NewStep]:
    """All of it is one branch, so that a failure skips the rest of it and the run ends with a verdict."""
    return [
        NewStep("restore.choose", queue="restore", branch="drill"),
        NewStep("drill.conclude", queue="restore", needs="*"),
        NewStep("drill.sweep", queue="spool", always=True, max_attempts=20),
    ]


def _drill_step(name: str, data: Result, *, key: str = "", group: str = "", needs: str = "") -> NewStep:
    return NewStep(name, key, queue="spool", group=group, needs=needs, branch="drill", data=data)


def _after_provision(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    yield _drill_step("drill.roles", {"plan": result["plan"]})


def _after_roles(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
    yield _drill_step("drill.load", {"plan": result["plan"]})


def _after_drill_load(_: Step, __: Result, ___: Iterable[Result]) -> Iterator[NewStep]:
    yield _drill_step("drill.fingerprint", {}, group="read/")
    yield _drill_step("drill.examine", {}, group="read/")
    yield _drill_step("drill.compare", {}, group="compare/", needs="read/")
    yield _drill_step("drill.control", {}, needs="compare/")


def _after_drill_fingerprint(_: Step, __: Result, chunks: Iterable[Result]) -> Iterator[NewStep]:
    for chunk in chunks:
        yield _drill_step("drill.fingerprint_chunk", chunk, key=str(chunk["number"]), group="read/")


# --- restore, after the check -----------------------------------------------------------------------------------------


def _after_prepare(step: Step, result: Result, _: Iterable[Result]) -> Iterator[NewStep]:
    name = "restore.globals" if step.data["globals"] else "restore.load"
    if not result.get("dry_run"):
        yield NewStep(name, queue="spool", data={"plan": dict(result)})


def _then(name: str, queue: str) -> Callable[[Step, Result, Iterable[Result]], Iterator[NewStep]]:
    def rule(_: Step, result: Result, __: Iterable[Result]) -> Iterator[NewStep]:
        yield NewStep(name, queue=queue, data=dict(result))

    return rule


# --- copy -----------------------------------------------------------------------------------------------------------


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
        yield NewStep("copy.part", key, queue="verify", group=step.group, branch=step.branch, data=data)


# --- scrub ----------------------------------------------------------------------------------------------------------


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
            "scrub.part", key, queue="verify", group=step.group, branch=destination, data=part, max_attempts=3
        )
    yield NewStep(
        "scrub.attest",
        destination,
        queue="verify",
        group=f"attest/{destination}/",
        needs=step.group,
        branch=destination,
    )


# --- cleanup --------------------------------------------------------------------------------------------------------


def _cleanup(_: Result) -> list[NewStep]:
    return [NewStep("cleanup.plan")]


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


_FIRST: Mapping[RunKind, Callable[[Result], list[NewStep]]] = {
    "backup": _backup,
    "verify": _verify_run,
    "restore": _restore,
    "cleanup": _cleanup,
    "copy": _copy,
    "scrub": _scrub,
    "drill": _drill,
}
_FOLLOW: Mapping[str, Callable[[Step, Result, Iterable[Result]], Iterator[NewStep]]] = {
    "backup.dump": _after_dump,
    "backup.encrypt": _after_encrypt,
    "backup.upload": _after_upload,
    "backup.seal": _after_seal,
    "backup.verify": _after_verify,
    "cleanup.plan": _after_plan,
    "scrub.plan": _after_scrub_plan,
    "copy.plan": _after_copy_plan,
    "copy.open": _after_copy_open,
    "copy.seal": _after_seal,
    "restore.choose": _after_choose,
    "restore.thaw": _after_thaw,
    "restore.check": _after_check,
    "restore.prepare": _after_prepare,
    "restore.globals": _then("restore.load", "spool"),
    "restore.load": _then("restore.finish", "spool"),
    "restore.finish": _then("restore.swap", "restore"),
    "restore.swap": _then("restore.conclude", "control"),
    "drill.provision": _after_provision,
    "drill.roles": _after_roles,
    "drill.load": _after_drill_load,
    "drill.fingerprint": _after_drill_fingerprint,
}
_KEPT: Mapping[RunKind, tuple[str, ...]] = {
    "backup": ("backup.dump", "backup.conclude", "backup.sweep"),
    "restore": ("restore.choose", "restore.record", "restore.sweep"),
    "drill": ("restore.choose", "drill.conclude", "drill.sweep"),
}
