"""Encrypt one archive to public keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.core.keys import artifact_name
from worker.durable import durable_rename, hash_file
from worker.errors import EncryptionFailed
from worker.steps.context import Context, Outcome
from worker.steps.keys import recipients


def encrypt(context: Context) -> Outcome:
    """The artifact to upload, described. Done again when killed: its output is renamed into place when whole.

    The plain archive stays until this step is committed: the upload removes it (the directory has mode 0700).
    """
    archive = context.step.data["archive"]
    keys = recipients(context.adapters, context.database)
    backup, size = str(context.run.backup_id), archive["size"]
    name = artifact_name(backup, archive["stem"], encrypted=bool(keys))
    plain, target = context.run_dir / archive["stem"], context.run_dir / name
    context.progress(0, size)
    if not keys:
        if plain.exists():  # else a killed attempt has renamed it
            _check_plain(context, plain, archive)
            durable_rename(plain, target)
        return Outcome(_described(archive, name, size, archive["sha256"]))
    _check_plain(context, plain, archive)
    context.adapters.spool.need(size, f"The encryption of {target.name}")
    made = context.adapters.gpg.encrypt(plain, target, keys, stop=context.stop, progress=context.progress)
    return Outcome(_described(archive, name, made.size, made.sha256))


def _check_plain(context: Context, plain: Path, archive: Mapping[str, Any]) -> None:
    """What is encrypted is what was dumped: a disk may rot, and a worker that lost its lease may still write."""
    if hash_file(plain, stop=context.stop) != (archive["size"], archive["sha256"]):
        raise EncryptionFailed(
            f"{plain.name} on the spool is not what was dumped any more.",
            "Check the spool's disk, then start anew.",
        )


def _described(archive: dict[str, Any], name: str, size: int, sha256: str) -> dict[str, Any]:
    """What the manifest will say of it (`worker.core.backup.Artifact`), less its parts."""
    artifact = {
        "name": name,
        "kind": archive["kind"],
        "size": size,
        "sha256": sha256,
        "plain_size": archive["size"],
        "plain_sha256": archive["sha256"],
    }
    return {"artifact": artifact, "bytes": size}
