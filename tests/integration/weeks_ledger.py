"""Rows of the ledger as the flows leave them, with times of their own: what `weeks_scene` says of runs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert

from worker.core.backup import backup_id
from worker.ledger import schema
from worker.steps.context import Adapters

GIB = 1024**3
DESTINATIONS = ("nas", "spaces")
SECONDS = {"dump": 95.0, "encrypt": 12.0, "upload": 40.0, "verify": 31.0}  # a GiB


@dataclass(frozen=True)
class _Row:
    """A step: when it began and ended, in seconds since its run's begin."""

    name: str
    key: str = ""
    branch: str = ""
    queue: str = "spool"
    began: float | None = None
    ended: float | None = None
    worker: int = 0
    bytes: int = 0
    total: int = 0
    state: str = "done"
    attempts: int = 1
    error: Mapping[str, Any] | None = None


def _insert(adapters: Adapters, run: dict[str, Any], began: datetime, steps: list[_Row]) -> str:
    start = began.timestamp()
    run_id = f"0{int(start * 1000):x}"[-12:].rjust(12, "0")
    whole = {
        "request": {}, "requested_by": "beat", "here": "", "data": {}, "result": {}, "created_at": start - 2,
        "started_at": start, **run,
    }  # fmt: skip
    with adapters.ledger._database.write() as conn:
        conn.execute(insert(schema.runs).values(id=run_id, **whole))
        conn.execute(insert(schema.steps), [_values(run_id, step, start) for step in steps])
        if run["state"] not in ("queued", "running"):
            ended = whole["ended_at"]
            event = {"run_id": run_id, "event": f"{run['kind']}.{run['state']}", "data": {}, "attempts": 1}
            conn.execute(insert(schema.notices).values(**event, created_at=ended, sent_at=ended + 3))
    return run_id


def _values(run_id: str, step: _Row, start: float) -> dict[str, Any]:
    host = step.worker // 4
    return {
        "run_id": run_id, "generation": 1, "name": step.name, "key": step.key, "queue": step.queue,
        "group_path": "", "needs": "*" if step.name == "backup.conclude" else "", "branch": step.branch,
        "always": False, "state": step.state, "attempts": step.attempts, "fence": step.attempts, "max_attempts": 5,
        "owner": f"b00t{host}/402653183{host}/{4100 + 7 * step.worker}/1" if step.began is not None else None,
        "bytes_done": step.bytes, "bytes_total": step.total or step.bytes, "data": {}, "error": step.error,
        "created_at": start if step.state != "due" else datetime.now(UTC).timestamp(),
        "started_at": start + step.began if step.began is not None else None,
        "ended_at": start + step.ended if step.ended is not None else None,
        "lease_until": start + 1e9 if step.state == "running" else None,
    }  # fmt: skip


def backup_run(
    adapters: Adapters,
    alias: str,
    backup: str,
    at: datetime,
    size: int,
    chance: random.Random,
    *,
    manual: bool,
) -> None:
    gib = size / GIB
    spans = {stage: seconds * gib * chance.uniform(0.9, 1.15) for stage, seconds in SECONDS.items()}
    steps, end = _way(alias, spans, size, parts=6, chance=chance)
    copies = [{"destination": one, "state": "verified", "bytes": size, "error": None} for one in DESTINATIONS]
    _insert(
        adapters,
        {
            "kind": "backup", "database": alias, "state": "verified", "backup_id": backup, "spool_id": "77aa01cc",
            "result": {"copies": copies}, "ended_at": at.timestamp() + end,
            "request": {"destinations": list(DESTINATIONS)},
            "requested_by": "maria@bastion" if manual else "beat", "job": None if manual else f"backup:{alias}",
            "scheduled_for": None if manual else at.timestamp(),
        },
        at,
        steps,
    )  # fmt: skip


def _way(
    alias: str, spans: Mapping[str, float], size: int, *, parts: int, chance: random.Random
) -> tuple[list[_Row], float]:
    """The steps of a backup that went well, and how long they took."""
    dumped = spans["dump"]
    steps = [_Row("backup.dump", queue="dump", began=0.4, ended=dumped, bytes=size)]
    encrypted = dumped + spans["encrypt"]
    steps.append(_Row("backup.encrypt", "dump", began=dumped + 0.3, ended=encrypted, bytes=size))
    reached = encrypted
    for lane, destination in enumerate(DESTINATIONS):
        steps.append(
            _Row(
                "backup.upload",
                f"dump@{destination}",
                destination,
                began=encrypted + 0.2,
                ended=encrypted + 1,
                worker=lane,
            )
        )
        at = [encrypted + 1.0] * 2
        for number in range(parts):
            slot = number % 2
            took = spans["upload"] / parts * 2 * chance.uniform(0.8, 1.25) * (1 if lane == 0 else 1.6)
            steps.append(
                _Row("backup.upload_part", f"dump@{destination}#{number + 1}", destination, began=at[slot],
                     ended=at[slot] + took, worker=lane * 2 + slot, bytes=size // parts,
                     attempts=2 if number == 3 and lane else 1)
            )  # fmt: skip
            at[slot] += took + 0.1
        sealed = max(at) + 1.2
        steps.append(_Row("backup.seal", destination, destination, began=max(at), ended=sealed, worker=lane))
        steps.append(
            _Row("backup.verify", destination, destination, "verify", sealed + 0.2, sealed + 0.9, 4 + lane)
        )
        read = [sealed + 1.0] * 2
        for number in range(parts):
            slot = number % 2
            took = spans["verify"] / parts * 2 * chance.uniform(0.85, 1.2)
            steps.append(
                _Row("backup.verify_part", f"dump@{destination}#{number + 1}", destination, "verify", read[slot],
                     read[slot] + took, 4 + lane * 2 + slot, size // parts)
            )  # fmt: skip
            read[slot] += took + 0.1
        steps.append(
            _Row("backup.attest", destination, destination, "verify", max(read), max(read) + 0.8, 4 + lane)
        )
        reached = max(reached, max(read) + 0.8)
    steps.append(_Row("backup.conclude", queue="control", began=reached + 0.1, ended=reached + 0.2, worker=0))
    return steps, reached + 0.2


def failed_run(adapters: Adapters, alias: str, at: datetime) -> str:
    error = {
        "type": "StorageUnavailable",
        "message": "spaces did not take part 2 of shop.dump.gpg: 503 Slow Down, five times.",
        "hint": "Its vendor's status page may say more; then: pgfleet backup shop.",
        "exit_code": 5,
        "step": "backup.upload_part",
    }
    size = int(2.4 * GIB)
    steps = [
        _Row("backup.dump", queue="dump", began=0.4, ended=212, bytes=size),
        _Row("backup.encrypt", "dump", began=212.4, ended=241, bytes=size),
        _Row("backup.upload", "dump@nas", "nas", began=241.2, ended=242, worker=1),
        _Row("backup.upload_part", "dump@nas#1", "nas", began=242, ended=271, worker=1, bytes=size // 2),
        _Row("backup.upload_part", "dump@nas#2", "nas", began=242, ended=268, worker=2, bytes=size // 2),
        _Row("backup.seal", "nas", "nas", began=271, ended=272, worker=1),
        _Row("backup.verify", "nas", "nas", "verify", 272.2, 273, 4),
        _Row("backup.verify_part", "dump@nas#1", "nas", "verify", 273, 288, 4, size // 2),
        _Row("backup.verify_part", "dump@nas#2", "nas", "verify", 273, 290, 5, size // 2, attempts=2),
        _Row("backup.attest", "nas", "nas", "verify", 290, 291, 4),
        _Row("backup.upload", "dump@spaces", "spaces", began=241.4, ended=243, worker=3),
        _Row("backup.upload_part", "dump@spaces#1", "spaces", began=243, ended=301, worker=3, bytes=size // 2),
        _Row(
            "backup.upload_part", "dump@spaces#2", "spaces", began=243, ended=402, state="failed", attempts=5,
            error=error,
        ),
        _Row("backup.seal", "spaces", "spaces", state="skipped"),
        _Row("backup.conclude", queue="control", began=402.2, ended=402.4, worker=0),
    ]  # fmt: skip
    copies = [
        {"destination": "nas", "state": "verified", "bytes": size, "error": None},
        {"destination": "spaces", "state": "failed", "bytes": 0, "error": error},
    ]
    run = {
        "kind": "backup", "database": alias, "state": "failed", "error": error, "result": {"copies": copies},
        "ended_at": at.timestamp() + 402.4, "spool_id": "77aa01cc", "requested_by": "deploy@ci-runner-3",
    }  # fmt: skip
    return _insert(adapters, run, at, steps)


def replaced(adapters: Adapters, alias: str, backup: str, at: datetime) -> str:
    """A restore in the place of the live database, which is kept."""
    seconds = {
        "choose": 0.5, "thaw": 0.2, "fetch_part": 24.0, "decrypt": 9.0, "check": 1.4, "prepare": 0.6, "load": 201.0,
        "finish": 14.0, "swap": 0.3, "conclude": 0.1,
    }  # fmt: skip
    steps, clock = [], 0.4
    for name, took in seconds.items():
        size = int(2.4 * GIB) if name in ("fetch_part", "decrypt", "load") else 0
        steps.append(_Row(f"restore.{name}", began=clock, ended=clock + took, worker=5, bytes=size))
        clock += took + 0.2
    result = {
        "backup_id": backup, "target": alias, "restored_as": alias, "kept_as": f"{alias}_before_{at:%Y%m%d}",
        "swap_seconds": 0.3, "seconds": clock,
    }  # fmt: skip
    run = {
        "kind": "restore", "database": alias, "state": "succeeded", "backup_id": backup, "result": result,
        "ended_at": at.timestamp() + clock, "requested_by": "jonas@bastion",
        "request": {"backup": "latest", "replace": True},
    }  # fmt: skip
    return _insert(adapters, run, at, steps)


def running(adapters: Adapters, alias: str, now: datetime) -> str:
    """An upload half way, with one destination ahead of the other."""
    size, chance = int(28 * GIB), random.Random(3)
    spans = {stage: seconds * 28 for stage, seconds in SECONDS.items()}
    done, _ = _way(alias, spans, size, parts=40, chance=chance)
    elapsed = spans["dump"] + spans["encrypt"] + spans["upload"] * 1.25
    steps: list[_Row] = []
    for row in done:
        began, ended = row.began or 0.0, row.ended or 0.0
        if row.name == "backup.conclude" or (
            began >= elapsed and row.name in ("backup.upload_part", "backup.seal")
        ):
            steps.append(replace(row, state="due", began=None, ended=None, bytes=0, attempts=0))
        elif began < elapsed <= ended:
            steps.append(replace(row, state="running", ended=None, bytes=row.bytes // 3, total=row.bytes))
        elif ended < elapsed:
            steps.append(row)
    began_at = now - timedelta(seconds=elapsed)
    run = {
        "kind": "backup", "database": alias, "state": "running", "spool_id": "77aa01cc",
        "backup_id": backup_id(alias, began_at), "requested_by": "lena@bastion",
        "request": {"destinations": list(DESTINATIONS)},
    }  # fmt: skip
    return _insert(adapters, run, began_at, steps)
