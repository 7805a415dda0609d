"""From a request to a run in the ledger: the one way in for the CLI, the entry tasks and the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from worker import flows
from worker.catalog import Entry
from worker.core.backup import parse_id
from worker.core.requests import (
    LATEST,
    BackupRequest,
    CleanupRequest,
    CopyRequest,
    DrillRequest,
    Request,
    RestoreRequest,
    VerifyRequest,
    check_repeated,
    parse,
)
from worker.errors import BackupNotFound, ConfigError, PgfleetError, RunNotFound
from worker.ledger.model import NewRun, Run
from worker.steps import restore_choose
from worker.steps.context import Adapters
from worker.steps.inventory import choose, list_all, only_database


def submit(
    adapters: Adapters, kind: str, payload: Mapping[str, Any], *, requested_by: str, here: str = ""
) -> list[Run]:
    """One run for each database that is asked for. Raises ConfigError for a bad request, before any work."""
    return [insert(adapters, new) for new in _runs(adapters, kind, parse(kind, payload), requested_by, here)]


def insert(adapters: Adapters, new: NewRun) -> Run:
    """Raises ConfigError when its idempotency key was given to a request for something else."""
    run, created = adapters.ledger.create_run(new, flows.first(new))
    if not created and new.kind in ("restore", "drill"):
        check_repeated(new.idempotency_key, run.request, new.request)
    return run


def _runs(adapters: Adapters, kind: str, request: Request, requested_by: str, here: str) -> list[NewRun]:
    who = request.requested_by or requested_by
    match request:
        case BackupRequest():
            databases = request.databases or tuple(adapters.settings.databases)
            return [_backup_run(adapters, name, request, who, here) for name in databases]
        case VerifyRequest():
            return [_verify_run(adapters, request, who, here)]
        case CopyRequest():
            return [_copy_run(adapters, request, who, here)]
        case CleanupRequest():
            databases = (request.database,) if request.database else tuple(adapters.settings.databases)
            return [_cleanup_run(adapters, name, request, who, here) for name in databases]
        case RestoreRequest():
            return [_restore_run(adapters, request, who, here)]
        case DrillRequest():
            return [_drill_run(adapters, request, who, here)]
        case _:
            raise ConfigError(f"A {kind} cannot be asked for here.", "")


def _backup_run(adapters: Adapters, database: str, request: BackupRequest, who: str, here: str) -> NewRun:
    adapters.database(database)
    payload = {"databases": [database], "idempotency_key": request.idempotency_key, "requested_by": who}
    return NewRun("backup", database, payload, who, request.run_key(database), here=here)


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
    return NewRun("verify", database, payload, who, request.run_key(choice.backup_id), here=here)


def _copy_run(
    adapters: Adapters, request: CopyRequest, who: str, here: str, *, repair: bool = False
) -> NewRun:
    adapters.destination(request.to)
    backup = choose(adapters, request).backup_id
    payload = {**request.to_payload(), "backup": backup, "destinations": [request.to], "requested_by": who}
    payload |= {"repair": True} if repair else {}
    key = request.run_key(backup, request.to)
    return NewRun("copy", parse_id(backup)[0], payload, who, key, here=here)


def repair(
    adapters: Adapters, backup: str, *, requested_by: str, destination: str | None = None, here: str = ""
) -> list[Run]:
    """One run for each damaged copy of `backup`, or for the one in `destination`; it is replaced by a good one.

    Raises BackupNotFound when no good copy is left, ConfigError when nothing is damaged.
    """
    listed, failures = list_all(adapters, backup=backup)
    copies = listed[0].copies if listed else {}
    damaged = [alias for alias, entry in copies.items() if entry.state in ("damaged", "incomplete")]
    if destination is not None:
        adapters.destination(destination)
        damaged = [alias for alias in damaged if alias == destination]
    if not copies:
        for error in failures.values():
            raise error
        raise BackupNotFound(f"There is no backup {backup!r} here.", "`pgfleet list` shows what there is.")
    if not damaged:
        raise _sound(adapters, backup, copies, failures)
    requests = [CopyRequest(backup=backup, to=alias) for alias in damaged]
    return [
        insert(adapters, _copy_run(adapters, request, requested_by, here, repair=True))
        for request in requests
    ]


def _sound(
    adapters: Adapters, backup: str, copies: Mapping[str, Entry], failures: Mapping[str, PgfleetError]
) -> ConfigError:
    states = [f"{alias}: {entry.state}" for alias, entry in copies.items()]
    database = adapters.settings.databases.get(parse_id(backup)[0])
    wanted = database.destinations if database is not None else ()
    missing = [alias for alias in wanted if alias not in copies and alias not in failures]
    states += [f"{alias}: missing" for alias in missing]
    states += [f"{alias}: cannot be listed" for alias in failures]
    return ConfigError(
        f"Nothing of {backup} is known to be damaged ({', '.join(states)}).",
        f"Bring the copy that is missing: pgfleet copy {backup} --to {missing[0]}"
        if missing
        else f"Read it back: pgfleet verify {backup}",
    )


def scrub(
    adapters: Adapters,
    *,
    database: str | None,
    destination: str | None,
    requested_by: str,
    here: str = "",
) -> list[Run]:
    """Read today's share now: one run a database. Raises ConfigError for a name that nothing has."""
    names = [adapters.database(database).alias] if database else list(adapters.settings.databases)
    if destination is not None:
        adapters.destination(destination)
    runs = []
    for name in names:
        places = [destination] if destination else list(adapters.database(name).destinations)
        request = {"destinations": places, "requested_by": requested_by}
        runs.append(insert(adapters, NewRun("scrub", name, request, requested_by, here=here)))
    return runs


def _cleanup_run(adapters: Adapters, database: str, request: CleanupRequest, who: str, here: str) -> NewRun:
    adapters.database(database)
    if request.destination is not None:
        adapters.destination(request.destination)
    payload = {**request.to_payload(), "database": database, "requested_by": who}
    return NewRun("cleanup", database, payload, who, request.run_key(database), here=here)


def _restore_run(adapters: Adapters, request: RestoreRequest, who: str, here: str, **local: str) -> NewRun:
    """`local`: what only this machine's own command line may say (restore_choose.FILE and OUTPUT)."""
    database = request.database or database_of(adapters, request.backup)
    if request.destination is not None:
        adapters.destination(request.destination)
    if restore_choose.OUTPUT not in local:
        target = restore_choose.target_of(adapters, request.target, database)
        restore_choose.check_allowed(request, target)
    payload = {**request.to_payload(), "requested_by": who, **local}
    return NewRun("restore", database, payload, who, request.run_key(database), here=here)


def _drill_run(adapters: Adapters, request: DrillRequest, who: str, here: str) -> NewRun:
    database = request.database or database_of(adapters, request.backup)
    adapters.database(database)
    if request.destination is not None:
        adapters.destination(request.destination)
    payload = {**request.to_payload(), "requested_by": who}
    return NewRun("drill", database, payload, who, request.run_key(database), here=here)


def database_of(adapters: Adapters, backup: str) -> str:
    """Whose backup that is, by its id; of `latest` the only one that is configured. Raises ConfigError."""
    return only_database(adapters) if backup in LATEST else parse_id(backup)[0]


def restore_locally(
    adapters: Adapters, payload: Mapping[str, Any], *, requested_by: str, here: str, **local: str
) -> Run:
    """A restore in this process of a file of this machine, or a fetch into a directory of it."""
    request = RestoreRequest.from_payload(payload)
    return insert(adapters, _restore_run(adapters, request, requested_by, here, **local))


def after_restore(
    adapters: Adapters,
    what: Literal["undo", "finish"],
    run_id: str,
    *,
    requested_by: str,
    target: str | None = None,
    database: str | None = None,
    here: str = "",
) -> NewRun:
    """The run (for `insert`) that undoes the replace of run `run_id`, or drops what that kept.

    Where the ledger that knew the run is gone, target and database come from the settings. Raises RunNotFound,
    ConfigError.
    """
    name = None
    try:
        run = adapters.ledger.run(run_id)
    except RunNotFound:
        if not here:
            raise
    else:
        kept = run.data.get("restore")
        if run.kind != "restore" or kept is None or kept["mode"] != "replace":
            raise ConfigError(f"Run {run.id} has replaced no database.", "`pgfleet runs` lists what ran.")
        run_id, database, target, name = run.id, run.database, kept["target"], kept["name"]
    alias = database or only_database(adapters)
    found = restore_choose.target_of(adapters, target, alias)
    restore_choose.check_allowed(RestoreRequest(replace=True, force=True), found)
    payload = {
        what: run_id,
        "target": found.alias,
        "name": name or found.database,
        "requested_by": requested_by,
    }
    return NewRun("restore", alias, payload, requested_by, here=here)
