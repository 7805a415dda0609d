"""Read a copy back from its destination, every byte, and say what was found.

Any worker that reaches the destination can do it: nothing here needs the spool or a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from worker.core.backup import Manifest
from worker.errors import CopyDamaged, ObjectArchived, ObjectMissing
from worker.steps.context import Context, Outcome
from worker.storage import ObjectStore

_CHUNK = 1024 * 1024


def verify(context: Context) -> Outcome:
    """Compare what is listed with the manifest, and fan out the re-reading of every part."""
    destination = context.step.data["destination"]
    store = context.adapters.store(destination)
    if context.run.backup_id is None:
        context.set_run(backup_id=_backup_id(context))
    manifest = context.adapters.catalog(destination).manifest(_backup_id(context))
    checked = (_listed_wrong(store, artifact.name, artifact.size) for artifact in manifest.artifacts)
    problems = [problem for problem in checked if problem is not None]
    bad = {problem["object"] for problem in problems}
    return Outcome({"problems": problems, "size": manifest.size}, _part_steps(manifest, bad))


def _backup_id(context: Context) -> str:
    return str(context.run.backup_id or context.run.request["backup"])


def _listed_wrong(store: ObjectStore, key: str, size: int) -> dict[str, Any] | None:
    try:
        found = store.stat(key).size
    except ObjectMissing:
        return {"object": key, "problem": "missing"}
    if found != size:
        return {"object": key, "problem": f"{found} bytes instead of {size}"}
    return None


def _part_steps(manifest: Manifest, bad: set[str]) -> Iterator[dict[str, Any]]:
    for artifact in manifest.artifacts:
        if artifact.name in bad:
            continue
        for part in artifact.parts:
            yield {
                "object": artifact.name,
                "number": part.number,
                "offset": (part.number - 1) * artifact.part_size,
                "size": part.size,
                "sha256": part.sha256,
            }


def verify_part(context: Context) -> Outcome:
    """Hash one stored part. What does not match is read a second time before it counts as damage."""
    data = context.step.data
    store = context.adapters.store(data["destination"])
    for _ in range(2):
        problem, method = _check_part(context, store)
        if problem is None:
            break
    outcome: dict[str, Any] = {"ok": problem is None, "method": method, "bytes": data["size"]}
    if problem is not None:
        outcome |= {"object": data["object"], "number": data["number"], "problem": problem}
    return Outcome(outcome)


def _check_part(context: Context, store: ObjectStore) -> tuple[str | None, str]:
    data, digest, done = context.step.data, hashlib.sha256(), 0
    try:
        with store.read(data["object"], data["offset"], data["size"]) as stream:
            while block := stream.read(_CHUNK):
                digest.update(block)
                done += len(block)
                context.progress(done, data["size"])
    except ObjectMissing:
        return "missing", "read"
    except ObjectArchived:
        # The store checked the checksum that every part was sent with; reading it back would need a thaw.
        return None, "archived"
    if done != data["size"]:
        return f"{done} bytes instead of {data['size']}", "read"
    return (None if digest.hexdigest() == data["sha256"] else "its bytes differ from the manifest"), "read"


def attest(context: Context) -> Outcome:
    """Write the evidence of a verification. Raises CopyDamaged after it when anything was wrong."""
    data = context.step.data
    destination, backup = data["destination"], _backup_id(context)
    problems, parts, archived = list(data["problems"]), 0, 0
    for step in context.ledger.steps(context.run.id, name="backup.verify_part", branch=destination):
        parts += 1
        archived += step.result["method"] == "archived"
        if not step.result["ok"]:
            problems.append({key: step.result[key] for key in ("object", "number", "problem")})
    evidence = {
        "format": 1,
        "kind": "verify",
        "backup_id": backup,
        "destination": destination,
        "run_id": context.run.id,
        "at": datetime.now(UTC).isoformat(),
        "ok": not problems,
        "bytes": data["size"],
        "parts": parts,
        "parts_archived": archived,
        "problems": problems[:100],
    }
    context.adapters.catalog(destination).evidence_put(backup, "verify", evidence)
    if problems:
        first = problems[0]
        raise CopyDamaged(
            f"The copy of {backup} in {destination} is damaged: {first['object']}: {first['problem']}"
            + (f" (and {len(problems) - 1} more)." if len(problems) > 1 else "."),
            f"`pgfleet repair {backup}` replaces it from a good copy; without one, take a new backup now.",
        )
    return Outcome({"ok": True, "size": data["size"], "parts": parts})
