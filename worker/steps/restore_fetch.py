"""Fetch the artifacts of a backup, part by part from whichever copy has it, and decrypt them."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker.core import parts
from worker.core.backup import Manifest
from worker.durable import durable_rename, hash_file
from worker.errors import DecryptionFailed, DownloadFailed, ObjectArchived, ObjectMissing, StorageError
from worker.steps.context import Context, Later, Outcome
from worker.steps.restore_choose import as_download, manifest_of

_CHUNK = 1024 * 1024
#: About how many hours a thaw takes: class → tier (Amazon S3 user guide, "Archive retrieval options").
_THAW_HOURS = {
    "DEEP_ARCHIVE": {"Expedited": 12.0, "Standard": 12.0, "Bulk": 48.0},
    "GLACIER": {"Expedited": 1 / 12, "Standard": 5.0, "Bulk": 12.0},
}
_ASK_AGAIN = 10  # periods of reconcile between two looks at an object that thaws


def thaw(context: Context) -> Outcome:
    """Wait until the nearest copy of an artifact can be read, make room for it, and fan its parts out."""
    artifact = context.step.data["artifact"]
    name, size = artifact["name"], artifact["size"]
    if "path" in artifact:
        return Outcome({"artifact": artifact})
    try:
        _ensure_readable(context, artifact["copies"][0], name)
    except ObjectMissing:
        pass  # the other copies may have it
    except StorageError as error:
        if len(artifact["copies"]) == 1:
            raise as_download(error) from error
    path = _cipher(context, artifact)
    if not path.exists() and not context.run_dir.joinpath(_plain_name(artifact)).exists():
        context.adapters.spool.need(size, f"Fetching {name}")
        _preallocate(path, size)
    return Outcome({"artifact": artifact}, _ranges(context, artifact, manifest_of(context.run_dir)))


def _ensure_readable(context: Context, alias: str, key: str) -> None:
    """Raises Later while the object is in cold storage, after having asked for it."""
    store = context.adapters.store(alias)
    state = store.thaw_state(key)
    if state == "ready":
        return
    settings, noted = context.settings, context.step.data.get("ready_about")
    if noted is None:
        kind = store.stat(key).storage_class
        hours = _THAW_HOURS.get(kind, _THAW_HOURS["GLACIER"])[settings.restore_thaw_tier]
        noted = datetime.fromtimestamp(time.time() + hours * 3600, UTC).isoformat(timespec="minutes")
        context.note(ready_about=noted, thawing=key)
    if state == "none":
        store.thaw(key, settings.thaw_days, settings.restore_thaw_tier)
    message = f"{key} is being thawed in {alias} ({settings.restore_thaw_tier}), ready about {noted}."
    raise Later(message, settings.reconcile_seconds * _ASK_AGAIN, {"waiting_for": message})


def _preallocate(path: Path, size: int) -> None:
    """Full size from the start, so that a disk that is too small says so now."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
            file.truncate(size)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DownloadFailed(
            f"The spool has no room for {path.name}: {error.strerror}.",
            "Free some space there, or set PGFLEET_SPOOL to a larger disk.",
        ) from error
    durable_rename(partial, path)


def _ranges(
    context: Context, artifact: dict[str, Any], manifest: Manifest | None
) -> Iterator[dict[str, Any]]:
    found = next((a for a in manifest.artifacts if a.name == artifact["name"]), None) if manifest else None
    if found is not None and found.parts:
        for part in found.parts:
            offset = (part.number - 1) * found.part_size
            yield {"number": part.number, "offset": offset, "size": part.size, "sha256": part.sha256}
        return
    plan = parts.plan(artifact["size"], context.settings.part_size)
    for number in plan.numbers():
        offset, length = plan.range(number)
        yield {"number": number, "offset": offset, "size": length, "sha256": ""}


def fetch_part(context: Context) -> Outcome:
    """Write one range into its place, from the nearest copy that has it right; the result says which.

    Raises DownloadFailed when no copy has it (retryable when one of them did not answer).
    """
    data = context.step.data
    artifact, wrong, again = data["artifact"], list[str](), False
    if not _cipher(context, artifact).exists():  # decrypted already, by an attempt that could not say so
        return Outcome({"source": "", "bytes": data["size"], "wrong": []})
    context.progress(0, data["size"])
    for alias in artifact["copies"]:
        try:
            problem = _fetch(context, alias)
        except ObjectArchived:
            _ensure_readable(context, alias, artifact["name"])
            problem, again = "in cold storage", True
        except StorageError as error:
            problem, again = error.message.rstrip("."), again or error.retryable
        if not problem:
            return Outcome({"source": alias, "bytes": data["size"], "wrong": wrong})
        wrong.append(f"{alias}: {problem}")
    failed = DownloadFailed(
        f"Part {data['number']} of {artifact['name']} cannot be had: {'; '.join(wrong)}.",
        "Check the copies (pgfleet verify ID), or restore another backup.",
    )
    failed.retryable = again
    raise failed


def _fetch(context: Context, alias: str) -> str:
    """What is wrong with this copy's range, or "" once it is written."""
    data, store = context.step.data, context.adapters.store(alias)
    offset, size, digest, done = data["offset"], data["size"], hashlib.sha256(), 0
    descriptor = os.open(_cipher(context, data["artifact"]), os.O_WRONLY | os.O_CLOEXEC)
    try:
        with store.read(data["artifact"]["name"], offset, size) as stream:
            while block := stream.read(_CHUNK):
                if done + len(block) > size:
                    return "more bytes than asked for"
                _write(descriptor, block, offset + done)
                digest.update(block)
                done += len(block)
                context.progress(done, size)
        os.fdatasync(descriptor)
    except ObjectMissing:
        return "missing"
    finally:
        os.close(descriptor)
    if done != size:
        return f"cut short ({done} bytes of {size})"
    return "its bytes differ from the manifest" if data["sha256"] not in ("", digest.hexdigest()) else ""


def _write(descriptor: int, block: bytes, offset: int) -> None:
    rest = memoryview(block)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def decrypt(context: Context) -> Outcome:
    """The plain file of an artifact, compared with the manifest; the encrypted one is removed.

    Raises DecryptionFailed without the private key, and for content that is not what was encrypted.
    """
    artifact = context.step.data["artifact"]
    plain, source = context.run_dir / _plain_name(artifact), _source(context, artifact)
    context.progress(0, artifact["plain_size"] or artifact["size"])
    if plain.exists():  # an attempt was killed after it was done
        size, sha256 = hash_file(plain, stop=context.stop)
    elif artifact["encrypted"]:
        context.adapters.spool.need(artifact["plain_size"] or artifact["size"], f"Decrypting {source.name}")
        made = context.adapters.gpg.decrypt(
            source,
            plain,
            passphrase_file=context.settings.gpg_passphrase_file,
            stop=context.stop,
            progress=context.progress,
        )
        size, sha256 = made.size, made.sha256
    else:
        size, sha256 = hash_file(source, stop=context.stop, progress=context.progress)
        if "path" in artifact:
            plain.symlink_to(source)
        else:
            durable_rename(source, plain)
    if artifact["plain_sha256"] not in ("", sha256):
        plain.unlink(missing_ok=True)
        raise DecryptionFailed(
            f"{artifact['name']} does not hold what was backed up: its SHA-256 is not the manifest's.",
            "Restore from another copy (--destination), and check this one: pgfleet verify ID",
        )
    if "path" not in artifact:
        source.unlink(missing_ok=True)
    archive = {"file": plain.name, "kind": artifact["kind"], "size": size, "sha256": sha256}
    return Outcome({"archive": archive, "checked": bool(artifact["plain_sha256"]), "bytes": size})


def _source(context: Context, artifact: dict[str, Any]) -> Path:
    return Path(artifact["path"]) if "path" in artifact else _cipher(context, artifact)


def _cipher(context: Context, artifact: dict[str, Any]) -> Path:
    """Where the stored bytes go: under their own name, which errors tell, unless the plain file has it."""
    name = str(artifact["name"])
    return context.run_dir / (name if name != _plain_name(artifact) else f"{name}.fetched")


def _plain_name(artifact: dict[str, Any]) -> str:
    return str(artifact["name"]).removesuffix(".gpg")
