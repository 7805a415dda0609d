"""Weeks of a fleet's life for whoever looks at it: three databases, two destinations, drills, failures, work going on.

What is stored is written by the catalog, files of artifacts are sparse; the ledger's rows are of the kind that its
flows leave, with times of their own.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

from tests.integration import weeks_ledger as ledger
from tests.integration.weeks_ledger import DESTINATIONS, GIB
from worker.catalog import Catalog
from worker.config.load import load
from worker.core.backup import Artifact, Manifest, Part, Server, TableCount, backup_id, backup_type
from worker.core.evidence import signed_text
from worker.core.retention import Candidate, decide
from worker.ledger.model import WorkerInfo
from worker.metrics.readings import Readings
from worker.steps.context import Adapters
from worker.web.server import Server as WebServer

PART = 64 * 1024**2
DAYS = 200
#: database → (GiB stored today, source bytes for a stored one, seconds of a drill, hour of its backup)
DATABASES: Mapping[str, tuple[float, float, float, int]] = {
    "goimg": (6.1, 5.2, 720.0, 2),
    "shop": (2.4, 4.1, 390.0, 1),
    "analytics": (28.0, 7.4, 2350.0, 3),
}
KEY = "7B1C 2A90 44D5 E8F1 03C6  9D2E 5F17 A3B8 60CC 41DD".replace(" ", "")


@dataclass(frozen=True)
class Scene:
    """failed, running, replaced: ids of runs worth a look. newest: database → its newest backup."""

    adapters: Adapters
    failed: str
    running: str
    replaced: str
    newest: Mapping[str, str]
    refuted: str


def environment(directory: Path, **more: str) -> dict[str, str]:
    (directory / "spool").mkdir(exist_ok=True)
    databases = "\n".join(
        f'[databases.{alias}]\nallow_unencrypted = true\nhost = "db-{number}.internal"\nname = "{alias}"\n'
        f'schedule = "0 {hour} * * *"\ncleanup_schedule = "30 5 * * *"\n'
        for number, (alias, (_, _, _, hour)) in enumerate(DATABASES.items(), 1)
    )
    stores = "\n".join(
        f'[destinations.{alias}]\nkind = "directory"\npath = "{directory / alias}"\n'
        for alias in DESTINATIONS
    )
    config = directory / "pgfleet.toml"
    config.write_text(databases + stores)
    config.chmod(0o600)
    return {
        "PGFLEET_CONFIG": str(config),
        "PGFLEET_STATE_DIR": str(directory / "state"),
        "PGFLEET_SPOOL": str(directory / "spool"),
        "PGFLEET_SPOOL_RESERVE_BYTES": "1",
        "PGFLEET_LEDGER_URL": f"sqlite:///{directory / 'ledger.db'}",
        "PGFLEET_BROKER_URL": "redis://127.0.0.1:1/0",
        "GNUPGHOME": str(directory / "gnupg"),
        **more,
    }


def make(directory: Path, now: datetime | None = None, **more: str) -> Scene:
    """The whole of it, as of `now`."""
    now = now or datetime.now(UTC)
    chance = random.Random(7)
    adapters = Adapters(load(environment(directory, **more)))
    newest: dict[str, str] = {}
    for alias, (gib, ratio, drill, hour) in DATABASES.items():
        backups = _kept(alias, now, hour, adapters)
        for index, at in enumerate(backups):
            backup = backup_id(alias, at)
            age = (now - at).days
            size = int(gib * GIB * (1 - 0.0022 * age) * chance.uniform(0.985, 1.015))
            lost = alias == "shop" and index == 0
            for destination in DESTINATIONS:
                if lost and destination == "spaces":
                    continue
                _store(adapters, backup, at, destination, size, ratio * chance.uniform(0.98, 1.02))
            if age <= 80:
                ledger.backup_run(adapters, alias, backup, at, size, chance, manual=at.hour != hour)
        newest[alias] = backup_id(alias, backups[0])
        _drills(adapters, alias, backups, now, drill, chance)
    first = _kept("goimg", now, 2, adapters)
    hold = {
        "held": True, "reason": "before the schema migration", "until": None, "by": "maria@bastion",
        "at": (now - timedelta(days=9)).isoformat(),
    }  # fmt: skip
    for destination in DESTINATIONS:
        adapters.catalog(destination).evidence_put(backup_id("goimg", first[9]), "hold", hold)
    refuted = backup_id("shop", _kept("shop", now, 1, adapters)[4])
    failed = ledger.failed_run(adapters, "shop", now - timedelta(hours=3))
    replaced = ledger.replaced(adapters, "shop", newest["shop"], now - timedelta(hours=20))
    running = ledger.running(adapters, "analytics", now)
    for number, queues in enumerate(
        (("dump", "control", "spool.77aa01cc"), ("verify", "restore"), ("verify",)), 1
    ):
        adapters.ledger.beat(
            WorkerInfo(f"w{number}@host{number}", f"host{number}", queues, "77aa01cc", "0.1.0", 0.0)
        )
    adapters.ledger.beat(WorkerInfo("reconcile", "host1", (), "", "0.1.0", 0.0))
    return Scene(adapters, failed, running, replaced, newest, refuted)


@contextmanager
def served(adapters: Adapters, login: tuple[str, str] | None = None) -> Iterator[str]:
    """The pages, on a free port; their address."""
    with ExitStack() as running:
        readings = Readings(adapters.settings, max_age=60)
        server = running.enter_context(WebServer("127.0.0.1", 0, readings, login))
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.callback(thread.join)
        running.callback(server.shutdown)
        yield f"http://127.0.0.1:{server.server_port}"


def _kept(alias: str, now: datetime, hour: int, adapters: Adapters) -> list[datetime]:
    """What the retention has left of a backup a day, newest first; and one that somebody asked for by hand."""
    days = [
        (now - timedelta(days=back)).replace(hour=hour, minute=0, second=4, microsecond=0)
        for back in range(DAYS)
    ]
    candidates = [Candidate(backup_id(alias, at), 1) for at in days if at <= now]
    verdicts = decide(candidates, adapters.settings.databases[alias].retention, now)
    found = [verdict.candidate.at for verdict in verdicts if verdict.keep]
    if alias == "goimg":
        found.append((now - timedelta(days=2)).replace(hour=14, minute=21, second=37, microsecond=0))
    return sorted(found, reverse=True)


def _store(adapters: Adapters, backup: str, at: datetime, destination: str, size: int, ratio: float) -> None:
    store = adapters.store(destination)
    path = adapters.destination(destination).path
    assert path is not None
    path.mkdir(parents=True, exist_ok=True)
    sizes = {"dump": size - 9000, "globals.sql": 1800, "fingerprint.json": 7200}
    artifacts = []
    for stem, length in sizes.items():
        name = f"{backup}.{stem}.gpg"
        with (path / name).open("wb") as file:
            file.truncate(length)
        artifacts.append(_artifact(name, stem, length))
    Catalog(store).seal(_manifest(backup, at, destination, tuple(artifacts), int(size * ratio)))
    verified = {"ok": True, "at": (at + timedelta(minutes=40)).isoformat(), "parts": size // PART + 1}
    Catalog(store).evidence_put(backup, "verify", verified)
    if at < datetime.now(UTC) - timedelta(days=25):
        read = {
            "ok": True,
            "covered": 1.0,
            "at": (datetime.now(UTC) - timedelta(days=at.day % 20)).isoformat(),
        }
        Catalog(store).evidence_put(backup, "scrub", read)


def _artifact(name: str, stem: str, size: int) -> Artifact:
    digest = hashlib.sha256(name.encode()).hexdigest()
    lengths = [PART] * (size // PART) + ([size % PART] if size % PART or not size else [])
    kinds: dict[str, Any] = {"dump": "dump", "globals.sql": "globals", "fingerprint.json": "fingerprint"}
    return Artifact(
        name=name, kind=kinds[stem], size=size, sha256=digest, plain_size=size, plain_sha256=digest, part_size=PART,
        parts=tuple(Part(number=n, size=length, sha256=digest) for n, length in enumerate(lengths, 1)),
    )  # fmt: skip


def _manifest(
    backup: str, at: datetime, destination: str, artifacts: tuple[Artifact, ...], source: int
) -> Manifest:
    alias = backup.partition("-backup-")[0]
    tables = ("orders", "customers", "images", "events", "sessions", "invoices")
    return Manifest(
        backup_id=backup, run_id=f"run{backup[-15:]}", database=alias, dbname=alias, destination=destination,
        type=backup_type(at.date()), snapshot_at=at, sealed_at=at + timedelta(minutes=25), pgfleet="0.1.0",
        server=Server(version="17.5", version_num=170005, extensions={"pg_trgm": "1.6", "pgcrypto": "1.3"}),
        client="pg_dump (PostgreSQL) 17.5", compression="zstd:1", encrypted=True, recipients=(KEY,),
        artifacts=artifacts,
        tables=tuple(
            TableCount(schema_name="public", name=name, rows=source // 5000 // (n + 1), bytes=source // len(tables))
            for n, name in enumerate(tables)
        ),
        restore=(
            f"gpg --decrypt --output {backup}.globals.sql {backup}.globals.sql.gpg",
            f"gpg --decrypt --output {backup}.dump {backup}.dump.gpg",
            f"createdb --template=template0 --encoding=UTF8 {alias}",
            f"psql --dbname=postgres --file={backup}.globals.sql",
            f"pg_restore --exit-on-error --jobs=4 --dbname={alias} {backup}.dump",
        ),
    )  # fmt: skip


def _drills(
    adapters: Adapters,
    alias: str,
    backups: list[datetime],
    now: datetime,
    seconds: float,
    chance: random.Random,
) -> None:
    target = adapters.settings.databases[alias].rto_seconds
    for number, at in enumerate(reversed([*backups[10:], *backups[3:8:2]])):
        taken = at + timedelta(hours=5)
        refuted = alias == "shop" and at == backups[4]
        took = seconds * (0.72 + 0.02 * number) * chance.uniform(0.94, 1.06)
        _drill(adapters, backup_id(alias, at), taken, min(took, seconds * 1.1), target, refuted=refuted)
    if alias == "shop":
        _drill(adapters, backup_id(alias, backups[4]), now - timedelta(days=3), seconds, target, refuted=True)
    else:
        _drill(adapters, backup_id(alias, backups[2]), now - timedelta(days=1, hours=3), seconds, target)


def _drill(
    adapters: Adapters, backup: str, at: datetime, seconds: float, target: int, *, refuted: bool = False
) -> None:
    difference = {
        "kind": "content",
        "what": "public.orders",
        "expected": "9b1f…",
        "found": "03ac…",
        "reason": "",
    }
    record: dict[str, Any] = {
        "verdict": "refuted" if refuted else "proven", "ok": not refuted, "at": at.isoformat(), "backup_id": backup,
        "kind": "drill", "run_id": "drill1", "requested_by": "beat", "backup_bytes": 0,
        "rto": {"seconds": round(seconds, 1), "target_seconds": target},
        "compared": {
            "tables": 42, "rows": 18_204_551, "checksums": 42, "sequences": 17, "large_objects": 0, "objects": 210,
        },
        "differences": [difference] if refuted else [], "differences_total": int(refuted), "signed_by": KEY[-16:],
        "error": {"message": f"{backup} does not restore to what was backed up.", "hint": ""} if refuted else None,
    }  # fmt: skip
    record["signature"] = hashlib.sha256(signed_text(record)).hexdigest()
    adapters.catalog("nas").evidence_put(backup, "drill", record)
