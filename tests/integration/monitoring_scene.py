"""Two destinations, a ledger and some backups, for whoever looks at them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.integration.prune_scene import add_backup
from worker import flows
from worker.catalog import Catalog
from worker.config.load import load
from worker.core.backup import backup_id
from worker.ledger.model import NewRun, Run, RunKind
from worker.ledger.outcomes import RunEnd
from worker.owner import me
from worker.steps.context import Adapters


def environment(directory: Path, *, database: str = "", **more: str) -> dict[str, str]:
    """Of one database, goimg, with copies in `near` and `far`. database: further lines of its settings."""
    (directory / "spool").mkdir(exist_ok=True)
    config = directory / "pgfleet.toml"
    config.write_text(
        f"""
        [databases.goimg]
        allow_unencrypted = true
        {database}
        [destinations.near]
        kind = "directory"
        path = "{directory}/near"
        [destinations.far]
        kind = "directory"
        path = "{directory}/far"
        """
    )
    config.chmod(0o600)
    return {
        "PGFLEET_CONFIG": str(config),
        "PGFLEET_STATE_DIR": str(directory / "state"),
        "PGFLEET_SPOOL": str(directory / "spool"),
        "PGFLEET_LEDGER_URL": f"sqlite:///{directory / 'ledger.db'}",
        "PGFLEET_BROKER_URL": "redis://127.0.0.1:1/0",
        "GNUPGHOME": str(directory / "gnupg"),
        **more,
    }


def adapters(directory: Path, *, database: str = "", **more: str) -> Adapters:
    return Adapters(load(environment(directory, database=database, **more)))


def waiting(adapters: Adapters, kind: RunKind = "backup", here: str = "") -> Run:
    """A run that nobody has begun; `here`: of this one process."""
    new = NewRun(kind, "goimg", {"databases": ["goimg"], "destinations": ["near"]}, "a test", here=here)
    run, _ = adapters.ledger.create_run(new, flows.first(new))
    return run


def hours_ago(hours: float) -> str:
    return backup_id("goimg", datetime.now(UTC) - timedelta(hours=hours))


def back_up(here: Adapters, hours: float, *destinations: str, verified: bool = True) -> str:
    """A backup of so many hours ago in these destinations (both, by default)."""
    backup = hours_ago(hours)
    for alias in destinations or ("near", "far"):
        add_backup(here.store(alias), backup, verified=verified)
    return backup


def drill(
    here: Adapters, backup: str, destination: str, verdict: str = "proven", *, seconds: float = 600.0
) -> None:
    record = {
        "verdict": verdict,
        "at": datetime.now(UTC).isoformat(),
        "backup_bytes": 0,
        "rto": {"seconds": seconds, "target_seconds": 1800},
    }
    Catalog(here.store(destination)).evidence_put(backup, "drill", record)


def damage(here: Adapters, backup: str, destination: str) -> None:
    """A later look found it to be wrong."""
    record = {"ok": False, "at": datetime.now(UTC).isoformat()}
    Catalog(here.store(destination)).evidence_put(backup, "verify", record)


def lose(here: Adapters, destination: str) -> None:
    """The destination cannot be listed any more: there is a file where its directory was."""
    path = here.destination(destination).path
    assert path is not None
    path.rename(path.with_suffix(".gone"))
    path.write_text("no directory")


def stranger(here: Adapters, destination: str, backup: str) -> None:
    """A dump of the seed's scripts: no manifest."""
    content = b"PGDMP"
    here.store(destination).put(
        f"{backup}.dump", content, size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )


def begin(here: Adapters, kind: RunKind = "backup") -> Run:
    """A run whose first step has begun."""
    run = waiting(here, kind)
    step = next(iter(here.ledger.steps(run.id)))
    assert here.ledger.claim(run.id, step.id, owner=me()) is not None
    return here.ledger.run(run.id)


def end(
    here: Adapters,
    state: str,
    kind: RunKind = "backup",
    *,
    error: str = "SpoolFull",
    copies: dict[str, str] | None = None,
    **result: object,
) -> Run:
    """A run that has begun and ended."""
    run = begin(here, kind)
    bad = state in ("failed", "damaged", "refuted", "could_not_run") or error != "SpoolFull"
    told = {
        "type": error,
        "message": "The disk is full.",
        "hint": "Make room.",
        "exit_code": 4,
        "step": "backup.dump",
    }
    shown = [
        {"destination": alias, "state": copy, "bytes": 1, "error": None}
        for alias, copy in (copies or {}).items()
    ]
    ending = RunEnd(state, {"copies": shown, **result}, told if bad else None)  # type: ignore[arg-type]
    assert here.ledger.end_run(run.id, ending)
    return here.ledger.run(run.id)


def named(here: Adapters, backup: str) -> Run:
    """A run at work on this backup."""
    run = begin(here)
    step = next(iter(here.ledger.steps(run.id, name="backup.dump")))
    here.ledger.break_dead_leases(lambda owner: True)
    claim = here.ledger.claim(run.id, step.id, owner=me())
    assert claim is not None
    here.ledger.set_run(claim, backup_id=backup)
    return run


def lose_before(here: Adapters) -> None:
    """Neither destination can be listed, and none of them ever held anything."""
    for alias in ("near", "far"):
        path = here.destination(alias).path
        assert path is not None
        path.mkdir(parents=True, exist_ok=True)
        lose(here, alias)
