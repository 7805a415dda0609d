"""Bring a backup from one destination to another, or put good bytes over damaged ones. Nothing is decrypted.

Any worker that reaches both destinations does it: a part goes through a nameless file on its spool, and is sent on
only when it has the SHA-256 of the manifest. Killed at any line: object keys are fixed, the upload's id is in the
ledger before the first part, and the manifest is written last.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast

from worker.catalog import Entry
from worker.core import keys
from worker.core.backup import Artifact, Manifest
from worker.core.requests import CopyRequest
from worker.errors import (
    BackupNotFound,
    BucketMissing,
    ObjectExists,
    StorageError,
    StorageUnavailable,
)
from worker.ledger.model import Step
from worker.steps import hold
from worker.steps.context import Adapters, Context, Later, Outcome
from worker.steps.facts import recovery_commands
from worker.steps.inventory import choose
from worker.steps.prune import is_good
from worker.steps.upload import complete, hash_stored, open_upload, storage_class
from worker.storage import StoredPart

_BLOCK = 1024 * 1024
_ASK_AGAIN = 60.0  # seconds; how often a copy that catches up looks whether its destination is back
_SOON = 5.0


def plan(context: Context) -> Outcome:
    """Which artifacts are to be brought, and where they can be had, the nearest first."""
    request, adapters = context.run.request, context.adapters
    backup, to = str(request["backup"]), str(request["to"])
    context.set_run(backup_id=backup)
    _wait_for_its_own_run(context, backup)
    there = _target(context, backup, to)
    sources = [
        alias
        for alias, entry in sources_of(adapters, backup, to).items()
        if request.get("source") in (None, alias)
    ]
    if not sources:
        raise BackupNotFound(
            f"There is no good copy of {backup} to copy from.", f"`pgfleet show {backup}` lists its copies."
        )
    manifest = adapters.catalog(sources[0]).manifest(backup)
    wanted = _wanted(adapters, there, manifest, to, repair=bool(request.get("repair")))
    artifacts = [
        artifact.model_dump(mode="json", exclude={"parts"})
        for artifact in manifest.artifacts
        if artifact.name in wanted
    ]
    return Outcome({"destination": to, "sources": sources, "artifacts": artifacts, "size": manifest.size})


def sources_of(adapters: Adapters, backup: str, to: str) -> dict[str, Entry]:
    """The good copies elsewhere that have a manifest, the nearest first. Raises BackupNotFound."""
    choice = choose(adapters, CopyRequest(backup=backup, to=to))
    return {
        alias: entry
        for alias, entry in choice.copies.items()
        if alias != to and entry.manifest is not None and is_good(entry)
    }


def _wait_for_its_own_run(context: Context, backup: str) -> None:
    """The run that took the backup clears up after itself: not while something new is put there."""
    for run in context.ledger.runs(kind="backup", database=context.run.database, limit=200):
        if run.backup_id != backup:
            continue
        sweeps = context.ledger.steps(run.id, name="backup.sweep")
        if run.open or any(step.state in ("due", "running") for step in sweeps):
            raise Later(f"Run {run.id} is still busy with {backup}.", _SOON)


def _target(context: Context, backup: str, to: str) -> Entry | None:
    """What is there now. A run that catches up waits for a destination that is away."""
    try:
        return context.adapters.catalog(to).entry(backup, [backup])
    except (StorageUnavailable, BucketMissing) as error:
        if context.run.request.get("patient"):
            raise Later(error.message, _ASK_AGAIN) from error
        raise


def _wanted(
    adapters: Adapters, there: Entry | None, manifest: Manifest, to: str, *, repair: bool
) -> set[str]:
    """The names of the artifacts to bring. All, when it is not known which ones are wrong."""
    every = {artifact.name for artifact in manifest.artifacts}
    if there is None or (there.state == "incomplete" and not repair):
        return every
    if there.state in ("verified", "unverified") and not repair:
        return set()  # it is there already, and will be read back
    if not repair:
        raise StorageError(
            f"{to} has a damaged copy of {manifest.backup_id}.",
            f"Replace it by a good one: pgfleet repair {manifest.backup_id}",
        )
    sizes = {info.key: info.size for info in there.objects}
    wrong = {artifact.name for artifact in manifest.artifacts if sizes.get(artifact.name) != artifact.size}
    checks = [
        record
        for record in adapters.catalog(to).evidence(manifest.backup_id)
        if record.get("kind") in ("verify", "scrub")
    ]
    newest = max(checks, key=lambda record: str(record.get("at", "")), default={})
    wrong |= {str(problem.get("object")) for problem in newest.get("problems", ())} & every
    same = there.manifest is not None and _content(there.manifest) == _content(manifest)
    return wrong or (set() if not same else every)


def _content(manifest: Manifest) -> dict[str, tuple[int, str]]:
    return {artifact.name: (artifact.size, artifact.sha256) for artifact in manifest.artifacts}


def open_artifact(context: Context) -> Outcome:
    """Open the upload of one artifact (one part needs none), and fan its parts out."""
    data = context.step.data
    key, destination = data["artifact"]["name"], data["destination"]
    found = _artifact(context, data["sources"], key)
    upload_id = data.get("upload_id")
    if len(found.parts) > 1 and upload_id is None:
        store, target = context.adapters.store(destination), context.adapters.destination(destination)
        upload_id = open_upload(context, store, target, key)
    return Outcome({"object": key, "upload_id": upload_id}, _parts(found))


def _artifact(context: Context, sources: list[str], key: str) -> Artifact:
    manifest = context.adapters.catalog(sources[0]).manifest(str(context.run.backup_id))
    return next(artifact for artifact in manifest.artifacts if artifact.name == key)


def _parts(artifact: Artifact) -> Iterator[dict[str, Any]]:
    for part in artifact.parts:
        offset = (part.number - 1) * artifact.part_size
        yield {"number": part.number, "offset": offset, "size": part.size, "sha256": part.sha256}


def copy_part(context: Context) -> Outcome:
    """Fetch one part from the first source that has it right, and send it."""
    data = context.step.data
    context.progress(0, 2 * data["size"])
    spool = context.adapters.spool
    spool.need(data["size"], f"Part {data['number']} of {data['object']}")
    with tempfile.TemporaryFile(dir=spool.root) as file:
        part = cast(BinaryIO, file)
        source = _fetch(context, part)
        etag = _send(context, part)
    context.progress(2 * data["size"])
    row = {"number": data["number"], "size": data["size"], "sha256": data["sha256"], "etag": etag}
    return Outcome({**row, "source": source, "bytes": data["size"]})


def _fetch(context: Context, part: BinaryIO) -> str:
    """The source that the part was fetched from. Raises StorageError, StorageUnavailable when none has it."""
    data, wrong, again = context.step.data, list[str](), False
    for alias in data["sources"]:
        try:
            problem = _fetch_from(context, alias, part)
        except StorageError as error:
            problem, again = error.message.rstrip("."), again or error.retryable
        if not problem:
            return str(alias)
        wrong.append(f"{alias}: {problem}")
    kind = StorageUnavailable if again else StorageError
    raise kind(
        f"Part {data['number']} of {data['object']} cannot be had: {'; '.join(wrong)}.",
        "Check the other copies: pgfleet verify ID",
    )


def _fetch_from(context: Context, alias: str, part: BinaryIO) -> str:
    data, digest, done = context.step.data, hashlib.sha256(), 0
    part.seek(0)
    part.truncate()
    with context.adapters.store(alias).read(data["object"], data["offset"], data["size"]) as stream:
        while block := stream.read(_BLOCK):
            part.write(block)
            digest.update(block)
            done += len(block)
            context.progress(done)
    if done != data["size"]:
        return f"cut short ({done} bytes of {data['size']})"
    return "" if digest.hexdigest() == data["sha256"] else "its bytes differ from the manifest"


def _send(context: Context, part: BinaryIO) -> str:
    data, store = context.step.data, context.adapters.store(context.step.branch)
    key, size, sha256 = data["object"], data["size"], data["sha256"]
    part.seek(0)
    if data["upload_id"] is None:
        cold = storage_class(context, context.adapters.destination(context.step.branch))
        repair = bool(context.run.request.get("repair"))
        try:
            store.put(key, part, size=size, sha256=sha256, storage_class=cold, if_absent=not repair)
        except ObjectExists:  # a killed attempt's, or that of a run that could not finish: the same bytes
            if hash_stored(context, store, key) != sha256:
                raise
        return ""
    sent = store.put_part(key, data["upload_id"], data["number"], part, size=size, sha256=sha256)
    return sent.etag


def seal(context: Context) -> Outcome:
    """All parts are there: complete the uploads, then write the manifest, unless the right one is there."""
    to, backup = context.step.branch, str(context.run.backup_id)
    data, catalog = context.step.data, context.adapters.catalog(to)
    for step in list(context.ledger.steps(context.run.id, name="copy.open")):
        if step.result["upload_id"] is not None:
            _complete(context, step)
        context.check()
    source = context.adapters.catalog(data["sources"][0]).manifest(backup)
    target = context.adapters.destination(to)
    commands = recovery_commands(target, source.model_dump(mode="json"), source.artifacts)
    manifest = source.model_copy(
        update={"destination": to, "sealed_at": datetime.now(UTC), "restore": commands}
    )
    try:
        present = catalog.manifest(backup)
    except BackupNotFound:
        catalog.seal(manifest)
    except StorageError as error:
        if error.retryable:
            raise
        _overwrite(context, manifest)
    else:
        # Another part size is no contradiction; but to repair, each part's checksum has to be right too.
        repairing = bool(context.run.request.get("repair"))
        if _content(present) != _content(manifest) or (repairing and present.artifacts != manifest.artifacts):
            _overwrite(context, manifest)
    hold.carry(context.adapters, backup, sources=data["sources"], to=to)
    return Outcome({"size": manifest.size})


def _overwrite(context: Context, manifest: Manifest) -> None:
    """Only to repair: a damaged or replaced manifest gives way to one that good bytes agree with."""
    if not context.run.request.get("repair"):
        raise StorageError(
            f"{context.step.branch} has another manifest of {manifest.backup_id}.",
            f"If it is damaged, replace it: pgfleet repair {manifest.backup_id}",
        )
    body = manifest.to_json()
    context.adapters.store(context.step.branch).put(
        keys.manifest_key(manifest.backup_id),
        body,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )


def _complete(context: Context, opened: Step) -> None:
    key, upload_id = opened.result["object"], opened.result["upload_id"]
    store = context.adapters.store(context.step.branch)
    rows = sorted(
        (
            StoredPart(step.result["number"], step.result["size"], step.result["sha256"], step.result["etag"])
            for step in context.ledger.steps(context.run.id, name="copy.part")
            if step.data["object"] == key
        ),
        key=lambda row: row.number,
    )
    complete(store, key, upload_id, rows, overwrite=bool(context.run.request.get("repair")))
