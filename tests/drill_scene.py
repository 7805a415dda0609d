"""Drills in this process against real servers, and backups that hold something else than their fingerprint says."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.restore_scene import Scene, libpq
from tests.services import processes_below
from worker.catalog import Catalog
from worker.ledger.model import Run
from worker.postgres.queries import query
from worker.process import run as start
from worker.steps.context import Adapters

ROLE = "drill_reader"
PART = 5 * 1024 * 1024


@dataclass
class DrillScene(Scene):
    """Its backups can be drilled."""

    fingerprint: str = "full"


def make_database(connection: psycopg.Connection[Any], rows: int = 300) -> None:
    """What `pgfleet validate` seeds, and some more to damage."""
    with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):  # several share a server
        connection.execute(f"CREATE ROLE {ROLE}")
    connection.execute("SELECT set_config('pgfleet.rows', %s, false)", [str(rows)])
    connection.execute(query("validate_seed"))
    connection.execute(
        f"""CREATE TABLE left_hand (a int, b text); CREATE TABLE right_hand (a int, b text);
        INSERT INTO left_hand SELECT i, 'left ' || i FROM generate_series(1, 9) i;
        INSERT INTO right_hand SELECT i, 'right ' || i FROM generate_series(1, 9) i;
        GRANT SELECT ON users, images TO {ROLE}"""
    )


def drill(scene: Scene, adapters: Adapters | None = None, **request: Any) -> Run:
    request = {"database": scene.database, "destination": "near", **request}
    return scene.work(adapters or scene.adapters(), "drill", request)


def evidence(scene: Scene, backup: str, destination: str = "near") -> list[dict[str, Any]]:
    return scene.adapters().catalog(destination).evidence(backup, "drill")


def catalog(scene: Scene, destination: str = "near") -> Catalog:
    return scene.adapters().catalog(destination)


def forge(scene: Scene, backup: str, archive: Path) -> None:
    """Put another archive in the place of an unencrypted backup's in `near`: intact, and not what was backed up."""
    folder, content = scene.root / "near", archive.read_bytes()
    path = folder / f"{backup}.manifest.json"
    manifest = json.loads(path.read_text())
    (artifact,) = [one for one in manifest["artifacts"] if one["kind"] == "dump"]
    pieces = [content[at : at + PART] for at in range(0, len(content), PART)]
    artifact |= {
        "size": len(content), "plain_size": len(content), "part_size": PART,
        "sha256": _hash(content), "plain_sha256": _hash(content),
        "parts": [{"number": n, "size": len(p), "sha256": _hash(p)} for n, p in enumerate(pieces, 1)],
    }  # fmt: skip
    (folder / artifact["name"]).write_bytes(content)
    path.write_text(json.dumps(manifest))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextmanager
def clone(scene: Scene, name: str) -> Iterator[psycopg.Connection[Any]]:
    """A copy of the scene's database, to be damaged."""
    scene.source.createdb(name, template=scene.database)
    try:
        with scene.source.connect(name) as connection:
            yield connection
    finally:
        scene.source.dropdb(name)


def dump(scene: Scene, name: str, path: Path, *options: str) -> Path:
    argv = [str(scene.source.bin_dir / "pg_dump"), "-Fc", "-Z1", "-f", str(path), *options]
    done = start(argv, env=libpq(scene.source, name))
    assert done.returncode == 0, done.stderr
    return path


def litter(scene: Scene) -> set[str]:
    """Whatever a drill may have left: databases, files on the spool, servers, socket directories."""
    runs, spool = scene.root / "spool" / "runs", scene.root / "spool"
    found = {name for name in scene.databases() if name.startswith("pgfleet_")}
    found |= set(os.listdir(runs)) if runs.exists() else set()
    return found | set(processes_below(spool).values())
