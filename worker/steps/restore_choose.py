"""What to restore and where to: the backup with its copies, the target, and whether that is allowed at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from worker.config.model import Target
from worker.core import keys
from worker.core.backup import Manifest
from worker.core.requests import LATEST, DrillRequest, OfOneBackup, RestoreRequest
from worker.durable import durable_write
from worker.errors import BackupNotFound, ConfigError, DownloadFailed, PgfleetError, StorageError
from worker.ledger.model import Run
from worker.postgres import targets
from worker.postgres.server import Connection
from worker.steps.context import Adapters, Context, Outcome
from worker.steps.inventory import Choice
from worker.steps.inventory import choose as choose_backup

MANIFEST = "manifest.json"
#: What a run's request may hold beside a RestoreRequest; never taken from a message (`worker.submit`).
FILE, OUTPUT = "file", "output"
_KINDS: Mapping[str, tuple[str, ...]] = {
    "restore": ("dump", "data"),
    "drill": ("dump", "data", "globals", "fingerprint"),
}


def restore_request(run: Run) -> RestoreRequest:
    return RestoreRequest.from_payload({k: v for k, v in run.request.items() if k not in (FILE, OUTPUT)})


def target_of(adapters: Adapters, alias: str | None, database: str) -> Target:
    """The target called `alias`; without one that of `database`, its own server. Raises ConfigError."""
    known = adapters.settings.targets
    if (alias or database) in known:
        return known[alias or database]
    if alias is None:
        raise ConfigError(
            f"{database} is no database of this configuration, so it is not known where to restore it.",
            f"Name a target with --to: {', '.join(sorted(known)) or 'none is configured ([targets.ALIAS])'}.",
        )
    raise ConfigError(
        f"There is no target called {alias or database!r} here.",
        f"Configured: {', '.join(sorted(known)) or 'none'} (the databases, and [targets.ALIAS] tables).",
    )


def check_allowed(request: RestoreRequest, target: Target) -> None:
    """Raises ConfigError when a replace is not configured, or nobody has confirmed it."""
    if not request.replace:
        return
    if target.database is None:
        raise ConfigError(
            f"Target {target.alias} does not say which database a replace is about.",
            f"Set database in [targets.{target.alias}].",
        )
    if not target.allow_replace:
        raise ConfigError(
            f"{target.alias} does not allow that a restore replaces {target.database}.",
            "Set allow_replace = true for it (PGFLEET_ALLOW_REPLACE), or restore beside it and look first.",
        )
    if not (request.dry_run or request.force) and request.confirm != target.database:
        raise ConfigError(
            f"Replacing {target.database} was not confirmed.",
            f"Give confirm={target.database!r}, or force (--force).",
        )


def choose(context: Context) -> Outcome:
    """Decide all of it before a byte is fetched, and see that the target answers."""
    run = context.run
    if run.kind == "restore":
        request = restore_request(run)
        if OUTPUT in run.request:
            _check_output(Path(run.request[OUTPUT]))
        else:
            target = target_of(context.adapters, request.target, run.database)
            check_allowed(request, target)
            with targets.maintenance(target) as connection:
                if _is_done(run, connection):
                    result = {
                        "restored_as": run.data["restore"]["name"],
                        "target": target.alias,
                        "rewound": True,
                    }
                    return Outcome(result, end="succeeded", run_result=result)
        wanted: RestoreRequest | DrillRequest = request
    else:
        wanted = DrillRequest.from_payload(run.request)
    kinds = _KINDS[run.kind] + (("globals",) if getattr(wanted, "globals_", False) else ())
    notes: tuple[str, ...] = ()
    if FILE in run.request:
        backup_id, manifest, artifacts = _of_file(Path(run.request[FILE]), kinds)
    else:
        choice = _choice(context.adapters, wanted)
        backup_id, manifest, artifacts = _of_destinations(context, choice, kinds)
        notes = choice.notes
    context.set_run(backup_id=backup_id, spool_id=context.adapters.spool.id)
    (context.run_dir / MANIFEST).unlink(missing_ok=True)
    if manifest is not None:
        durable_write(context.run_dir / MANIFEST, manifest.to_json())
    size = sum(artifact["size"] for artifact in artifacts)
    plain = sum(artifact["plain_size"] or artifact["size"] for artifact in artifacts)
    local = all("path" in artifact for artifact in artifacts)
    context.adapters.spool.need((0 if local else size) + plain, f"Restoring {backup_id}")
    destination = artifacts[0]["copies"][0] if artifacts[0]["copies"] else None
    return Outcome(
        {
            "kind": run.kind,
            "backup_id": backup_id,
            "managed": manifest is not None,
            "destination": destination,
            "artifacts": artifacts,
            "fetched_bytes": size,
            "notes": list(notes),
        }
    )


def notes_so_far(context: Context) -> list[str]:
    """What speaks against taking the chosen backup for granted; for the run's result."""
    names = ("restore.choose", "restore.check")
    steps = [step for name in names for step in context.ledger.steps(context.run.id, name=name)]
    return [str(note) for step in steps for note in step.result.get("notes", ())]


def _check_output(path: Path) -> None:
    """Raises ConfigError for a directory that cannot be made or written to, before hours of downloading."""
    there = path if path.exists() else path.parent
    if not there.is_dir():
        raise ConfigError(f"{there} is no directory.", "Make it, or name another with -o.")
    if not os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        raise ConfigError(f"There is no right to write to {there}.", "Name another directory with -o.")


def _is_done(run: Run, connection: Connection) -> bool:
    """Whether an earlier generation of this run, whose spool was lost, had given the database its name already.

    By the oid of the database that it made, which a rename keeps: a name alone may be anybody's.
    """
    kept = run.data.get("restore", {})
    loaded = kept.get("loaded")
    if loaded is None or loaded["oid"] is None:
        return False
    found, server = targets.find(connection, kept["name"]), targets.identity(connection)
    return found is not None and (found.oid, server.cluster if server else None) == (
        loaded["oid"],
        loaded["cluster"],
    )


def manifest_of(run_dir: Path) -> Manifest | None:
    """The manifest that `choose` kept; None for an unmanaged backup."""
    path = run_dir / MANIFEST
    return Manifest.from_json(path.read_bytes()) if path.exists() else None


def _of_destinations(
    context: Context, choice: Choice, kinds: tuple[str, ...]
) -> tuple[str, Manifest | None, list[dict[str, Any]]]:
    manifests = {
        alias: entry.manifest for alias, entry in choice.copies.items() if entry.manifest is not None
    }
    if not manifests:
        return choice.backup_id, None, _unmanaged(choice)
    try:
        manifest = context.adapters.catalog(next(iter(manifests))).manifest(
            choice.backup_id
        )  # with its parts
    except StorageError as error:
        raise as_download(error) from error
    artifacts = []
    for artifact in manifest.artifacts:
        if artifact.kind not in kinds:
            continue
        copies = [
            alias
            for alias, other in manifests.items()
            if any(a.sha256 == artifact.sha256 for a in other.artifacts)
        ]
        described = artifact.model_dump(mode="json", exclude={"parts"})
        artifacts.append(described | {"encrypted": manifest.encrypted, "copies": copies})
    return choice.backup_id, manifest, artifacts


def _choice(adapters: Adapters, wanted: RestoreRequest | DrillRequest) -> Choice:
    """The backup that is meant. Its damaged copies come last: a part that is bad in one may be good in the other."""
    try:
        return _with_damaged(adapters, wanted)
    except StorageError as error:
        raise as_download(error) from error


def _with_damaged(adapters: Adapters, wanted: RestoreRequest | DrillRequest) -> Choice:
    try:
        good = choose_backup(adapters, wanted, destination=wanted.destination)
    except BackupNotFound:
        if wanted.backup in LATEST:
            raise
        good = Choice(wanted.backup, {})
    exactly = OfOneBackup(backup=good.backup_id)
    every = choose_backup(adapters, exactly, destination=wanted.destination, usable=False)
    damaged = {
        alias: e for alias, e in every.copies.items() if e.state == "damaged" and e.manifest is not None
    }
    if not good.copies and not damaged:
        return choose_backup(adapters, wanted, destination=wanted.destination)  # for what it says
    return Choice(good.backup_id, good.copies | damaged, good.notes)


def _unmanaged(choice: Choice) -> list[dict[str, Any]]:
    """The archive of a backup that no manifest describes: its size is all that is known of it."""
    for alias, entry in choice.copies.items():
        for info in entry.objects:
            if info.key.removesuffix(".gpg") == keys.artifact_name(choice.backup_id, "dump", encrypted=False):
                return [_undescribed(info.key, info.size) | {"copies": [alias]}]
    raise BackupNotFound(f"{choice.backup_id} has no archive.", "Take another: pgfleet list.")


def _undescribed(name: str, size: int) -> dict[str, Any]:
    return {
        "name": name, "kind": "dump", "size": size, "sha256": "", "plain_size": 0, "plain_sha256": "",
        "part_size": 0, "encrypted": name.endswith(".gpg"),
    }  # fmt: skip


def _of_file(path: Path, kinds: tuple[str, ...]) -> tuple[str, Manifest | None, list[dict[str, Any]]]:
    """A local file; with its manifest beside it, all that this names."""
    if not path.is_file():
        raise DownloadFailed(f"There is no file {path}.", "Check its name (--file).")
    stem = path.name.removesuffix(".gpg").removesuffix(".dump")
    beside = path.with_name(keys.manifest_key(stem))
    if not beside.is_file():
        return stem, None, [_undescribed(path.name, path.stat().st_size) | {"copies": [], "path": str(path)}]
    manifest = Manifest.from_json(beside.read_bytes())
    artifacts = []
    for artifact in manifest.artifacts:
        if artifact.kind not in kinds:
            continue
        file = path.with_name(artifact.name)
        size = file.stat().st_size if file.is_file() else -1
        if size != artifact.size:
            what = "is missing" if size < 0 else f"has {size} bytes instead of {artifact.size}"
            raise DownloadFailed(
                f"{file} {what}.", "Take another copy; the manifest beside it says what belongs."
            )
        described = artifact.model_dump(mode="json", exclude={"parts"})
        artifacts.append(described | {"encrypted": manifest.encrypted, "copies": [], "path": str(file)})
    return manifest.backup_id, manifest, artifacts


def as_download(error: PgfleetError) -> DownloadFailed:
    """A store's refusal is exit code 6 in a backup and 4 in a restore."""
    failed = DownloadFailed(error.message, error.hint)
    failed.retryable = error.retryable
    return failed
