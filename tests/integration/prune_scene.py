"""Backups that never were: tiny objects under real names, in a directory and in a real bucket."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

from tests.services import Bucket
from worker import flows, here
from worker.catalog import Catalog
from worker.config.load import load
from worker.core.backup import Artifact, Manifest, Part, Server, backup_id, backup_type
from worker.ledger.model import NewRun, NewStep, Run
from worker.owner import me
from worker.steps.context import Adapters
from worker.storage import ObjectStore
from worker.submit import submit

#: What a bucket takes for all parts but the last; archives of kind data have two, everything else is one part.
PART = 5 * 1024 * 1024
WHOLE = ("dump", "data-01.dump")


def id_of(day: date, hour: int = 2, name: str = "goimg") -> str:
    return backup_id(name, datetime.combine(day, time(hour), UTC))


def days_ago(days: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=days)


def put(store: ObjectStore, key: str, content: bytes) -> None:
    store.put(key, content, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def content_of(backup: str, stem: str = "dump") -> bytes:
    text = f"{backup} {stem} ".encode() * 2
    return text if not stem.startswith("data") else (text * (PART // len(text) + 1))[: PART + 100]


def manifest_of(backup: str, destination: str, stems: Iterable[str] = ("dump",)) -> Manifest:
    at = datetime.strptime(backup[-15:], "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
    return Manifest(
        backup_id=backup, run_id=f"run-{backup}", database=backup.partition("-backup-")[0], dbname="goimg",
        destination=destination, type=backup_type(at.date()), snapshot_at=at, sealed_at=at, pgfleet="0.1.0",
        server=Server(version="17.5", version_num=170005), client="pg_dump 17.5", compression="zstd:1",
        encrypted=True, artifacts=tuple(_artifact(backup, stem) for stem in stems),
        restore=("# nothing to see",),
    )  # fmt: skip


def _artifact(backup: str, stem: str) -> Artifact:
    content = content_of(backup, stem)
    parts = [content[at : at + PART] for at in range(0, len(content), PART)]
    return Artifact(
        name=f"{backup}.{stem}.gpg", kind="data" if stem.startswith("data") else "dump", size=len(content),
        sha256=hashlib.sha256(content).hexdigest(), plain_size=3, plain_sha256="00" * 32, part_size=PART,
        parts=tuple(
            Part(number=number, size=len(part), sha256=hashlib.sha256(part).hexdigest())
            for number, part in enumerate(parts, 1)
        ),
    )  # fmt: skip


def add_backup(
    store: ObjectStore, backup: str, *, verified: bool = True, stems: Iterable[str] = ("dump",)
) -> None:
    stems = tuple(stems)
    for stem in stems:
        put(store, f"{backup}.{stem}.gpg", content_of(backup, stem))
    catalog = Catalog(store)
    catalog.seal(manifest_of(backup, store.name, stems))
    if verified:
        at = manifest_of(backup, store.name).sealed_at + timedelta(minutes=5)
        catalog.evidence_put(backup, "verify", {"ok": True, "at": at.isoformat()})


def prove(store: ObjectStore, backup: str, verdict: str = "proven") -> None:
    at = manifest_of(backup, store.name).sealed_at + timedelta(hours=1)
    Catalog(store).evidence_put(backup, "drill", {"verdict": verdict, "at": at.isoformat()})


def backups_in(store: ObjectStore) -> set[str]:
    return {entry.backup_id for entry in Catalog(store).entries()}


class Killed(BaseException):
    """What a kill is to the code: nothing after it runs."""


class Mortal:
    """A store whose process dies at its nth change: before it, or right after."""

    def __init__(self, store: ObjectStore, lives: int) -> None:
        self._store, self.lives = store, lives

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if name not in ("delete", "put", "begin", "put_part", "complete", "abort"):
            return found

        def change(*arguments: Any, **named: Any) -> Any:
            self._die()
            result = found(*arguments, **named)
            self._die()
            return result

        return change

    def _die(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed


@dataclass
class Scene:
    """A fleet's settings with a directory `near` and, with a bucket, `far`; the ledger is a file."""

    adapters: Adapters

    def store(self, alias: str) -> ObjectStore:
        return self.adapters.store(alias)

    def put_in_place(self, alias: str, store: object) -> None:
        """Let the steps use `store` for that destination."""
        self.adapters._stores[alias] = store  # type: ignore[assignment]
        self.adapters._catalogs.pop(alias, None)

    def run(self, kind: str = "cleanup", **request: Any) -> Run:
        """Asked for and worked through in this process, as `--here` does."""
        (run,) = submit(self.adapters, kind, request, requested_by="test", here=me())
        return here.work(self.adapters, run.id)

    def plan(self, run: Run) -> dict[tuple[str, str], tuple[bool, str]]:
        """(destination, backup) → (kept, rule)."""
        (step,) = self.adapters.ledger.steps(run.id, name="cleanup.plan")
        return {
            (row["destination"], row["backup_id"]): (row["keep"], row["rule"]) for row in step.result["plan"]
        }


def new_cleanup(**request: object) -> tuple[NewRun, list[NewStep]]:
    """A cleanup of the fleet's, to be done step by step."""
    new = NewRun("cleanup", "goimg", {"database": "goimg", **request})
    return new, flows.first(new)


def scene(
    directory: Path, bucket: Bucket | None = None, *, aliases: Iterable[str] = ("near",), **settings: Any
) -> Scene:
    """settings: of [pgfleet]. `database`, `far`: further keys of their tables; `kept`: destination → its retention."""
    database, far, kept = (settings.pop(name, {}) for name in ("database", "far", "kept"))
    lines = [
        "[pgfleet]",
        f"state_dir = {json.dumps(str(directory / 'state'))}",
        f"ledger_url = {json.dumps(f'sqlite:///{directory}/ledger.db')}",
        "retry_base_seconds = 0.05",
        *_lines(settings),
        "[databases.goimg]",
        'recipients = ["nobody@example.com"]',
        *_lines({key: value for key, value in database.items() if key != "retention"}),
        "[databases.goimg.retention]",
        *_lines(database.get("retention", {})),
    ]
    for alias in aliases:
        (directory / "stores").mkdir(exist_ok=True)
        lines += [
            f"[destinations.{alias}]",
            'kind = "directory"',
            f"path = {json.dumps(str(directory / 'stores' / alias))}",
        ]
    if bucket is not None:
        table: dict[str, Any] = {
            "kind": "s3", "profile": "seaweedfs", "endpoint": bucket.server.endpoint, "bucket": bucket.name,
            "prefix": "fleet/one", "access_key": bucket.server.access_key,
            "secret_key": bucket.server.secret_key, "max_attempts": 1, **far,
        }  # fmt: skip
        lines += ["[destinations.far]", *_lines(table)]
    for alias, rules in kept.items():
        lines += [f"[destinations.{alias}.retention]", *_lines(rules)]
    file = directory / "pgfleet.toml"
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)
    return Scene(Adapters(load({"PGFLEET_CONFIG": str(file)})))


def _lines(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in table.items()]
