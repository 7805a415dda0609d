"""Copy artifacts to one destination and seal the copy with its manifest.

Killed at any line: the object keys are fixed, the upload's id is in the ledger before the first part, a part is
always the same bytes, and the manifest is written last, only when there is none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from worker.config.model import Destination
from worker.core import parts
from worker.core.backup import Artifact, Manifest, Part, backup_type, parse_id
from worker.errors import ObjectExists, ObjectMissing, StorageError, UploadGone
from worker.ledger.model import Step
from worker.steps.context import Context, Outcome
from worker.steps.facts import FACTS, recovery_commands
from worker.storage import ObjectStore, OpenUpload, StoredPart
from worker.storage.slice import FileSlice

_BLOCK = 1024 * 1024
_SKEW = timedelta(minutes=15)  # between this host's clock and the store's
_ROTTEN = "Check the spool's disk, then start the backup again."


def upload(context: Context) -> Outcome:
    """Put a small artifact whole, or open the multipart upload of a large one and fan its parts out."""
    data = context.step.data
    artifact, destination = data["artifact"], context.adapters.destination(data["destination"])
    store = context.adapters.store(destination.alias)
    key, size = artifact["name"], artifact["size"]
    # The artifact is recorded, so nobody needs the archive that it was encrypted from any more.
    (context.run_dir / context.step.key.rpartition("@")[0]).unlink(missing_ok=True)
    plan = parts.plan(size, context.settings.part_size)
    outcome = {"object": key, "size": size, "part_size": plan.part_size}
    if len(plan) == 1:
        context.note(putting=True)
        _put_whole(context, store, destination, artifact)
        return Outcome({**outcome, "upload_id": None, "sha256": artifact["sha256"], "bytes": size})
    hashes = _part_hashes(context, context.run_dir / key, plan, artifact["sha256"])
    upload_id = data.get("upload_id")
    if upload_id is None:
        _refuse_strangers(store, key)
        upload_id = open_upload(context, store, destination, key)
    arrived = {part.number: part for part in store.list_parts(key, upload_id)}
    return Outcome(
        {**outcome, "upload_id": upload_id, "parts": len(plan)}, _part_steps(plan, arrived, hashes)
    )


def _put_whole(
    context: Context, store: ObjectStore, destination: Destination, artifact: Mapping[str, Any]
) -> None:
    """Never over something else: a name that is taken holds these very bytes, or the copy fails."""
    key, size, sha256 = artifact["name"], artifact["size"], artifact["sha256"]
    context.progress(0, size)
    try:
        with FileSlice(context.run_dir / key, 0, size) as body:
            cold = storage_class(context, destination)
            store.put(key, body, size=size, sha256=sha256, if_absent=True, storage_class=cold)
    except ObjectExists:  # of a killed attempt of ours, or a stranger's
        if hash_stored(context, store, key) != sha256:
            raise
    context.progress(size)


def hash_stored(context: Context, store: ObjectStore, key: str) -> str:
    """The SHA-256 of a small stored object, read back. Raises ObjectMissing, LeaseLost."""
    digest = hashlib.sha256()
    with store.read(key) as stored:
        while block := stored.read(_BLOCK):
            digest.update(block)
            context.check()
    return digest.hexdigest()


def _refuse_strangers(store: ObjectStore, key: str) -> None:
    """Ours is completed only after its upload's id was recorded: what is there before is somebody else's."""
    if any(info.key == key for info in store.list(key)):
        raise ObjectExists(
            f"{store.name} has {key} already, and not from this run.",
            "Two fleets write the same database to the same place: give each a prefix of its own.",
        )


def _part_hashes(context: Context, path: Path, plan: parts.PartPlan, wanted: str) -> list[str]:
    """The SHA-256 of every part, of a file that as a whole is still what was encrypted. Raises StorageError."""
    whole, found = hashlib.sha256(), []
    for number in plan.numbers():
        one = hashlib.sha256()
        with FileSlice(path, *plan.range(number)) as body:
            while block := body.read(_BLOCK):
                whole.update(block)
                one.update(block)
                context.check()
        found.append(one.hexdigest())
    if whole.hexdigest() != wanted:
        raise StorageError(f"{path.name} on the spool is not what was encrypted any more.", _ROTTEN)
    return found


def open_upload(context: Context, store: ObjectStore, destination: Destination, key: str) -> str:
    """The id of the upload of `key`, in the ledger before it is used.

    What a killed attempt has opened is adopted: it said when it was about to. A stranger's upload never is.
    """
    found = own_uploads(context.step, key, store.open_uploads(key))
    if not found:
        context.note(opening=datetime.now(UTC).isoformat())
    upload_id = found[0] if found else store.begin(key, storage_class=storage_class(context, destination))
    context.note(upload_id=upload_id)
    return upload_id


def own_uploads(step: Step, key: str, uploads: Iterable[OpenUpload]) -> list[str]:
    """The ids of those uploads of `key` that this step has opened."""
    upload_id, opening = step.data.get("upload_id"), step.data.get("opening")
    if upload_id is not None:
        return [one.upload_id for one in uploads if (one.key, one.upload_id) == (key, upload_id)]
    if opening is None:
        return []
    since = datetime.fromisoformat(opening) - _SKEW
    return [one.upload_id for one in uploads if one.key == key and one.started >= since]


def _part_steps(
    plan: parts.PartPlan, arrived: Mapping[int, StoredPart], hashes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    for number in plan.numbers():
        part = arrived.get(number)
        step = {"number": number, "sha256": hashes[number - 1]}
        yield step | ({"arrived": _stored(part)} if part is not None else {})


def _stored(part: StoredPart) -> dict[str, Any]:
    return {"size": part.size, "sha256": part.sha256, "etag": part.etag}


def upload_part(context: Context) -> Outcome:
    """Send one part, unless it is there already with this very content."""
    data = context.step.data
    store = context.adapters.store(data["destination"])
    key, number, upload_id = data["object"], data["number"], data["upload_id"]
    offset, length = parts.PartPlan(data["size"], data["part_size"]).range(number)
    path = context.run_dir / key
    sha256 = _hash(context, path, offset, length)
    if sha256 != data["sha256"]:
        raise StorageError(f"Part {number} of {key} has changed on the spool.", _ROTTEN)
    context.progress(0, length)
    stored = data.get("arrived") or (
        _arrived(store, key, upload_id, number) if context.step.attempts > 1 else None
    )
    if stored is None or (stored["size"], stored["sha256"]) != (length, sha256):
        with FileSlice(path, offset, length) as body:
            stored = _stored(store.put_part(key, upload_id, number, body, size=length, sha256=sha256))
    context.progress(length)
    return Outcome(
        {"number": number, "size": length, "sha256": sha256, "etag": stored["etag"], "bytes": length}
    )


def _hash(context: Context, path: Path, offset: int, length: int) -> str:
    digest = hashlib.sha256()
    with FileSlice(path, offset, length) as body:
        while block := body.read(_BLOCK):
            digest.update(block)
            context.check()
    return digest.hexdigest()


def _arrived(store: ObjectStore, key: str, upload_id: str, number: int) -> dict[str, Any] | None:
    for part in store.list_parts(key, upload_id):
        if part.number == number:
            return _stored(part)
    return None


def seal(context: Context) -> Outcome:
    """All parts are there: complete the uploads, then write the manifest, last."""
    destination = context.step.data["destination"]
    store = context.adapters.store(destination)
    encrypted = context.ledger.steps(context.run.id, name="backup.encrypt")
    artifacts = {step.key: step.result["artifact"] for step in encrypted}
    sealed = []
    for step in list(context.ledger.steps(context.run.id, name="backup.upload", branch=destination)):
        described = artifacts[step.key.rpartition("@")[0]]
        sealed.append(_complete(context, store, step, described))
        context.check()
    manifest = _manifest(context, destination, tuple(sorted(sealed, key=lambda artifact: artifact.name)))
    manifest = context.adapters.catalog(destination).seal(manifest)
    return Outcome({"size": manifest.size, "objects": len(manifest.artifacts)})


def _complete(context: Context, store: ObjectStore, step: Step, described: Mapping[str, Any]) -> Artifact:
    result = step.result
    key, size, upload_id = result["object"], result["size"], result["upload_id"]
    if upload_id is None:
        rows = [StoredPart(1, size, result["sha256"], "")]
    else:
        rows = _part_rows(context, step, parts.PartPlan(size, result["part_size"]))
        complete(store, key, upload_id, rows)
    listed = tuple(Part(number=row.number, size=row.size, sha256=row.sha256) for row in rows)
    return Artifact(**described, part_size=result["part_size"], parts=listed)


def _part_rows(context: Context, step: Step, plan: parts.PartPlan) -> list[StoredPart]:
    steps = context.ledger.steps(context.run.id, name="backup.upload_part", branch=step.branch)
    rows = sorted(
        (
            StoredPart(row.result["number"], row.result["size"], row.result["sha256"], row.result["etag"])
            for row in steps
            if row.key.rpartition("#")[0] == step.key
        ),
        key=lambda row: row.number,
    )
    if [row.number for row in rows] != list(plan.numbers()) or sum(row.size for row in rows) != plan.size:
        raise StorageError(
            f"The parts of {step.result['object']} in the ledger do not add up to the file.", ""
        )
    return rows


def complete(
    store: ObjectStore, key: str, upload_id: str, rows: list[StoredPart], *, overwrite: bool = False
) -> None:
    """Join the parts, over nothing that is there unless told to. Raises ObjectExists, UploadGone.

    A killed attempt may have done it and died before it could say so: then the object has the right size.
    """
    size = sum(row.size for row in rows)
    try:
        store.complete(key, upload_id, rows, if_absent=not overwrite)
    except ObjectExists:
        if store.stat(key).size != size:
            raise
        store.abort(key, upload_id)
    except UploadGone:
        _complete_already(store, key, size)


def _complete_already(store: ObjectStore, key: str, size: int) -> None:
    try:
        found = store.stat(key).size
    except ObjectMissing:
        found = -1
    if found != size:
        raise UploadGone(
            f"The upload of {key} to {store.name} has vanished from the bucket before it was complete.",
            "Look for a lifecycle rule that aborts uploads too early, then start the backup again.",
        )


def _manifest(context: Context, destination: str, artifacts: tuple[Artifact, ...]) -> Manifest:
    facts = json.loads((context.run_dir / FACTS).read_bytes())
    target = context.adapters.destination(destination)
    whole = facts | {
        "destination": destination,
        "sealed_at": datetime.now(UTC),
        "artifacts": artifacts,
        "restore": recovery_commands(target, facts, artifacts),
    }
    return Manifest.model_validate(whole)


def storage_class(context: Context, destination: Destination) -> str:
    _, at = parse_id(str(context.run.backup_id))
    return destination.storage_class.get(backup_type(at.date()), "")
