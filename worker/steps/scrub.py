"""Read stored parts again, a share a day, and say what was found: bytes that rot are found before they are needed.

When which part was read is kept beside each copy (`worker.core.scrub`), so the ledger may be lost. Copies in cold
storage are skipped: reading them would need a thaw.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from worker.catalog import Catalog, Entry, Record
from worker.core import keys, scrub
from worker.core.backup import Manifest
from worker.errors import CopyDamaged, ObjectArchived, ObjectMissing, StorageError
from worker.ledger.model import RunState
from worker.steps.context import Context, Outcome
from worker.steps.inventory import list_all
from worker.steps.prune import was_sealed
from worker.storage import ObjectStore

_CHUNK = 1024 * 1024
_COLD = frozenset(("GLACIER", "DEEP_ARCHIVE"))
_MOST_PROBLEMS = 100

Problem = dict[str, Any]


def plan(context: Context) -> Outcome:
    """Look at every copy of the database in one destination, and choose the parts to read today."""
    destination, now = context.step.data["destination"], datetime.now(UTC)
    listed, failures = list_all(context.adapters, database=context.run.database)
    if destination in failures:
        raise failures[destination]
    catalog = context.adapters.catalog(destination)
    problems: dict[str, list[Problem]] = {}
    parts: list[scrub.StoredPart] = []
    urgent: set[str] = set()
    cold = 0
    for item in listed:
        entry = item.copies.get(destination)
        if entry is None or entry.state == "unmanaged":
            continue
        context.check()
        found, manifest = _look(catalog, entry)
        if found:
            problems[entry.backup_id] = found
        if manifest is None:
            continue
        if _contradicted(manifest, destination, item.copies):
            urgent.add(entry.backup_id)
        bad = {problem["object"] for problem in found}
        frozen = {info.key for info in entry.objects if info.storage_class in _COLD}
        cold += len(frozen & {artifact.name for artifact in manifest.artifacts})
        parts += _parts(catalog, manifest, skip=bad | frozen)
    chosen = scrub.pick(parts, now, context.settings.scrub_days)
    if urgent:
        read = set(chosen)
        chosen += [part for part in parts if part.backup_id in urgent and part not in read]
    result = {"destination": destination, "problems": problems, "cold_objects": cold, "parts": len(chosen)}
    return Outcome(result, (_step(part) for part in chosen))


def _step(part: scrub.StoredPart) -> dict[str, Any]:
    return {
        "backup_id": part.backup_id,
        "object": part.object,
        "number": part.number,
        "offset": part.offset,
        "size": part.size,
        "sha256": part.sha256,
    }


def _look(catalog: Catalog, entry: Entry) -> tuple[list[Problem], Manifest | None]:
    """What the listing and the manifest show to be wrong. No manifest where there is none to go by."""
    name = keys.manifest_key(entry.backup_id)
    if entry.state == "incomplete":
        return ([{"object": name, "problem": "missing"}] if was_sealed(entry) else []), None
    try:
        manifest = catalog.manifest(entry.backup_id)
    except ObjectArchived:
        return [], None
    except StorageError as error:
        if error.retryable:
            raise
        return [{"object": name, "problem": error.message.rstrip(".")}], None
    sizes = {info.key: info.size for info in entry.objects}
    problems = []
    for artifact in manifest.artifacts:
        size = sizes.get(artifact.name)
        if size != artifact.size:
            what = "missing" if size is None else f"{size} bytes instead of {artifact.size}"
            problems.append({"object": artifact.name, "problem": what})
    return problems, manifest


def _contradicted(manifest: Manifest, destination: str, copies: Mapping[str, Entry]) -> bool:
    """Whether another copy's manifest says something else: then the bytes must tell which one is right."""
    mine = {(artifact.name, artifact.size, artifact.sha256) for artifact in manifest.artifacts}
    return any(
        {(artifact.name, artifact.size, artifact.sha256) for artifact in other.manifest.artifacts} != mine
        for alias, other in copies.items()
        if alias != destination and other.manifest is not None
    )


def _parts(catalog: Catalog, manifest: Manifest, skip: set[str]) -> Iterator[scrub.StoredPart]:
    read, everything_at = _reads(catalog.evidence(manifest.backup_id))
    for artifact in manifest.artifacts:
        if artifact.name in skip:
            continue
        seen = scrub.times(read, artifact.name)
        for part in artifact.parts:
            known = [at for at in (seen.get(part.number), everything_at) if at is not None]
            yield scrub.StoredPart(
                backup_id=manifest.backup_id,
                object=artifact.name,
                number=part.number,
                offset=(part.number - 1) * artifact.part_size,
                size=part.size,
                sha256=part.sha256,
                read_at=max(known, default=None),
            )


def _reads(records: list[Record]) -> tuple[scrub.ReadMap, datetime | None]:
    """(the newest read map, when all of the copy was read at once)."""
    read: scrub.ReadMap = {}
    everything_at = None
    for record in records:
        if record.get("kind") == "scrub" and isinstance(record.get("read"), dict):
            read = record["read"]
        if record.get("kind") == "verify" and record.get("ok") is True and not record.get("parts_archived"):
            everything_at = datetime.fromisoformat(record["at"])
    return read, everything_at


def read_part(context: Context) -> Outcome:
    """Hash one stored part. What does not match is read a second time before it counts as damage."""
    data = context.step.data
    store = context.adapters.store(context.step.branch)
    problem: str | None = None
    try:
        for _ in range(2):
            problem = _read(context, store)
            if problem is None:
                break
    except ObjectArchived:  # moved there by a lifecycle rule
        return Outcome({"ok": True, "read": False, "bytes": 0})
    return Outcome({"ok": problem is None, "read": True, "problem": problem, "bytes": data["size"]})


def _read(context: Context, store: ObjectStore) -> str | None:
    data, digest, done = context.step.data, hashlib.sha256(), 0
    began, rate = time.monotonic(), context.settings.scrub_bytes_per_second
    try:
        with store.read(data["object"], data["offset"], data["size"]) as stream:
            while block := stream.read(_CHUNK):
                digest.update(block)
                done += len(block)
                context.progress(done, data["size"])
                if rate and (ahead := done / rate - (time.monotonic() - began)) > 0:
                    context.stop.wait(ahead)
    except ObjectMissing:
        return "missing"
    if done != data["size"]:
        return f"{done} bytes instead of {data['size']}"
    return None if digest.hexdigest() == data["sha256"] else "its bytes differ from the manifest"


def attest(context: Context) -> Outcome:
    """Write down for each copy what was read and found. Raises CopyDamaged after it when anything is wrong."""
    destination, catalog = context.step.branch, context.adapters.catalog(context.step.branch)
    (planned,) = context.ledger.steps(context.run.id, name="scrub.plan", branch=destination)
    problems: dict[str, list[Problem]] = {
        backup: list(found) for backup, found in planned.result["problems"].items()
    }
    read: dict[str, dict[str, list[int]]] = {}
    size: dict[str, int] = {}
    for step in context.ledger.steps(context.run.id, name="scrub.part", branch=destination):
        data, result, backup = step.data, step.result, step.data["backup_id"]
        if not result["ok"]:
            wrong = {"object": data["object"], "number": data["number"], "problem": result["problem"]}
            problems.setdefault(backup, []).append(wrong)
        elif result["read"]:
            read.setdefault(backup, {}).setdefault(data["object"], []).append(data["number"])
        size[backup] = size.get(backup, 0) + result["bytes"]
    for backup in sorted({*problems, *read}):
        context.check()
        found = problems.get(backup, [])
        if not _write(context, catalog, backup, found, read.get(backup, {}), size.get(backup, 0)):
            problems.pop(backup, None)  # removed by a cleanup meanwhile: nothing is damaged
    context.note(damaged=sorted(problems))
    if problems:
        raise _damaged(destination, problems)
    parts = sum(len(numbers) for found in read.values() for numbers in found.values())
    return Outcome({"parts": parts, "bytes": sum(size.values())})


def _damaged(destination: str, problems: dict[str, list[Problem]]) -> CopyDamaged:
    backup, found = next(iter(problems.items()))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return CopyDamaged(
        f"The copy of {backup} in {destination} is damaged: {found[0]['object']}: {found[0]['problem']}{more}.",
        f"Replace it by a good copy: pgfleet repair {backup}",
    )


def _write(
    context: Context,
    catalog: Catalog,
    backup: str,
    problems: list[Problem],
    read: dict[str, list[int]],
    size: int,
) -> bool:
    """One record a copy; none when nothing new is known about one that was damaged before. False: it is gone."""
    entry = catalog.entry(backup)
    if entry is None:
        return False
    records, now = catalog.evidence(backup), datetime.now(UTC)
    last = next((one for one in reversed(records) if one.get("kind") in ("verify", "scrub")), None)
    if problems and last is not None and last.get("ok") is False and not read:
        return True
    known, everything_at = _reads(records)
    merged = scrub.merged(known, read, now)
    artifacts = entry.manifest.artifacts if entry.manifest is not None else ()
    catalog.evidence_put(
        backup,
        "scrub",
        {
            "at": now.isoformat(),
            "destination": context.step.branch,
            "run_id": context.run.id,
            "ok": not problems and not _still_wrong(last, read),
            "bytes": size,
            "covered": scrub.covered(merged, artifacts, now, context.settings.scrub_days, everything_at),
            "problems": (problems or list((last or {}).get("problems", ())))[:_MOST_PROBLEMS],
            "read": merged,
        },
    )
    return True


def _still_wrong(last: Record | None, read: dict[str, list[int]]) -> bool:
    """A part that was found wrong stays so until it was read and found right: others say nothing about it."""
    if last is None or last.get("ok") is not False:
        return False
    return any(
        problem.get("number") not in read.get(str(problem.get("object")), ())
        for problem in last.get("problems", ())
        if problem.get("number") is not None
    )


def conclude(context: Context) -> Outcome:
    """Damaged as soon as one copy is; failed when a destination could not be read; else succeeded."""
    destinations: dict[str, dict[str, Any]] = {}
    errors: list[dict[str, Any]] = []
    for step in context.ledger.steps(context.run.id):
        found = destinations.setdefault(step.branch, {"parts": 0, "bytes": 0}) if step.branch else {}
        if step.name == "scrub.plan" and step.state == "done":
            found["cold_objects"] = step.result["cold_objects"]
        if step.name == "scrub.part" and step.state == "done":
            found["parts"] += step.result["read"]
            found["bytes"] += step.result["bytes"]
        if step.name == "scrub.attest" and step.state == "failed" and step.error:
            found["damaged"] = _damaged_ids(context, step.branch)
        if step.state == "failed" and step.error:
            errors.append(dict(step.error))
    damaged = [error for error in errors if error.get("type") == "CopyDamaged"]
    state: RunState = "damaged" if damaged else "failed" if errors else "succeeded"
    error = next(iter(damaged or errors), None)
    return Outcome({}, end=state, run_result={"destinations": destinations}, error=error)


def _damaged_ids(context: Context, destination: str) -> list[str]:
    attested = context.ledger.steps(context.run.id, name="scrub.attest", branch=destination)
    return sorted(backup for step in attested for backup in step.data.get("damaged", ()))
