"""From a request to a run in the ledger: the one way in for the CLI, the entry tasks and the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker import flows
from worker.core.backup import parse_id
from worker.core.requests import BackupRequest, Request, VerifyRequest, parse
from worker.errors import BackupNotFound, ConfigError
from worker.ledger.model import NewRun, Run
from worker.steps.context import Adapters
from worker.steps.inventory import choose


def submit(
    adapters: Adapters, kind: str, payload: Mapping[str, Any], *, requested_by: str, here: str = ""
) -> list[Run]:
    """One run for each database that is asked for. Raises ConfigError for a bad request, before any work."""
    return [insert(adapters, new) for new in _runs(adapters, kind, parse(kind, payload), requested_by, here)]


def insert(adapters: Adapters, new: NewRun) -> Run:
    run, _ = adapters.ledger.create_run(new, flows.first(new))
    return run


def _runs(adapters: Adapters, kind: str, request: Request, requested_by: str, here: str) -> list[NewRun]:
    who = request.requested_by or requested_by
    match request:
        case BackupRequest():
            databases = request.databases or tuple(adapters.settings.databases)
            return [_backup_run(adapters, name, request.idempotency_key, who, here) for name in databases]
        case VerifyRequest():
            return [_verify_run(adapters, request, who, here)]
        case _:
            raise ConfigError(f"A {kind} cannot be asked for here.", "")


def _backup_run(adapters: Adapters, database: str, key: str | None, who: str, here: str) -> NewRun:
    adapters.database(database)
    request = {"databases": [database], "idempotency_key": key, "requested_by": who}
    return NewRun("backup", database, request, who, key and f"backup:{database}:{key}", here=here)


def _verify_run(adapters: Adapters, request: VerifyRequest, who: str, here: str) -> NewRun:
    choice = choose(adapters, request, destination=request.destination, usable=False)
    managed = [alias for alias, entry in choice.copies.items() if entry.manifest is not None]
    if not managed:
        raise BackupNotFound(
            f"{choice.backup_id} has no manifest, so there is nothing to compare its bytes with.",
            "Only backups that pgfleet took can be verified; a restore checks as much as is possible.",
        )
    payload = {"backup": choice.backup_id, "destinations": managed, "requested_by": who}
    database = parse_id(choice.backup_id)[0]
    return NewRun("verify", database, payload, who, request.idempotency_key, here=here)
