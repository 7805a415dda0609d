"""Whether the target can take the restore, asked before anything is written there; a dry run ends with the answer."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

from worker.config.model import Database, Server, Target
from worker.core import human
from worker.core.backup import Manifest
from worker.core.requests import RestoreRequest
from worker.core.restore_plan import (
    before_name,
    load_name,
    missing_extensions,
    missing_owners,
    restored_name,
    space_needed,
    too_old,
)
from worker.core.statements import grantees, tablespaces
from worker.core.toc import Selection, Toc
from worker.core.versions import dotted
from worker.errors import ConfigError, PgfleetError, RestoreFailed
from worker.ledger.model import Run
from worker.postgres import replace, targets
from worker.postgres.restore import read_toc, script_of
from worker.postgres.server import Connection
from worker.postgres.targets import Found, Identity, TargetFacts
from worker.postgres.tools import Tools
from worker.steps.context import Context, Outcome
from worker.steps.restore_check import (
    archives,
    kept_selection,
    main_archive,
    newest_tools,
    selected,
    tools_for,
)
from worker.steps.restore_choose import check_allowed, manifest_of, notes_so_far, restore_request, target_of
from worker.steps.restore_places import chosen

#: Connections beside the loading jobs: progress, maintenance, and one to spare.
_OTHER_CONNECTIONS = 3
#: Kinds of entries that say in which tablespace they are.
_IN_TABLESPACES = ("DATABASE", "TABLE", "MATERIALIZED VIEW", "INDEX", "CONSTRAINT")


@dataclass(frozen=True)
class Scene:
    """All that is known before the load."""

    request: RestoreRequest
    target: Target
    facts: TargetFacts
    toc: Toc
    selection: Selection
    manifest: Manifest | None
    tools: Tools


def prepare(context: Context) -> Outcome:
    """The plan of the load. Raises RestoreFailed or ConfigError for whatever would stop it later."""
    request = restore_request(context.run)
    target = target_of(context.adapters, request.target, context.run.database)
    check_allowed(request, target)
    toc, selection = read_toc(newest_tools(context), main_archive(context)), kept_selection(context.run_dir)
    with targets.maintenance(target) as connection:
        facts = targets.facts(connection)
        tools = tools_for(context, facts.version, toc)
        scene = Scene(request, target, facts, toc, selection, manifest_of(context.run_dir), tools)
        _check_server(scene)
        _check_roles(context, scene)
        plan = _where(context, scene, connection) | _how(context, scene)
        if plan["tablespaces"] and plan["mode"] == "in_place":
            raise ConfigError(
                f"{plan['name']} is there already, and what is restored into it cannot be put elsewhere.",
                "Restore into a new database, or leave out --tablespace.",
            )
        plan |= _space(context, scene)
        plan["expected_seconds"] = _expected_seconds(context, plan["needed_bytes"])
    if request.dry_run:
        report = plan | {"dry_run": True, "notes": [*notes_so_far(context), *plan["notes"]]}
        return Outcome(report, end="succeeded", run_result=report)
    context.set_run(
        data={"restore": {key: plan[key] for key in ("target", "mode", "name", "load", "before")}}
    )
    return Outcome(plan)


def _check_server(scene: Scene) -> None:
    facts, target = scene.facts, scene.target
    if facts.in_recovery:
        raise RestoreFailed(
            f"{target.alias} is a standby: nothing can be written there.", "Name its primary."
        )
    if too_old(scene.toc.server, facts.version):
        raise RestoreFailed(
            f"The backup is of PostgreSQL {dotted(scene.toc.server)}, and {target.alias} is {dotted(facts.version)}.",
            f"Restore into PostgreSQL {scene.toc.server[0]} or newer (--to TARGET).",
        )
    missing = missing_extensions(scene.toc, set(scene.selection.ids), facts.extensions)
    if missing:
        raise RestoreFailed(
            f"{target.alias} lacks the extensions {', '.join(missing)}.",
            "Install their packages on that server (CREATE EXTENSION is done by the restore).",
        )


def _check_roles(context: Context, scene: Scene) -> None:
    """Roles that the archive names and the server does not have: the load would stop at the first, maybe hours in."""
    request, ids = scene.request, set(scene.selection.ids)
    if request.globals_:
        if not archives(context, "globals"):
            raise RestoreFailed(
                "There are no roles in this backup.", "Leave out --globals, and create the roles."
            )
        if not scene.facts.may_create_roles:
            raise ConfigError(f"{scene.target.user} may not create roles.", "Use a role with CREATEROLE.")
        return
    missing = set() if request.no_owner else set(missing_owners(scene.toc, ids, scene.facts.roles))
    if not request.no_acl:
        grants = [e.id for e in scene.toc.of("ACL", "DEFAULT ACL") if e.id in ids]
        script = script_of(scene.tools, main_archive(context), grants, context.run_dir)
        missing |= grantees(script) - set(scene.facts.roles)
    if missing:
        raise RestoreFailed(
            f"{scene.target.alias} lacks roles that the backup names: {', '.join(sorted(missing)[:10])}.",
            "Create them, or restore with --globals, or without owners and grants (--no-owner --no-acl).",
        )


def _where(context: Context, scene: Scene, connection: Connection) -> dict[str, Any]:
    """Which database is loaded, what it is called in the end, and what becomes of one that has that name."""
    request, target, run = scene.request, scene.target, context.run
    wanted = request.as_name or restored_name(_dbname(scene, run), run.created_at)
    name = str(target.database) if request.replace else wanted
    found = targets.find(connection, name)
    where = {
        "target": target.alias,
        "name": name,
        "load": load_name(name, run.id),
        "before": before_name(name, run.id) if found else None,
        "sessions": len(targets.sessions(connection, name)) if found else 0,
    }
    if found is None:
        _may_create(scene)
        if request.data_only:
            raise RestoreFailed(f"There is no database {name} to put the rows into.", "Name it with --as.")
        return where | {"mode": "new"}
    if request.replace:
        _may_create(scene)
        replace.check_replace(connection, target, found, name)
        return where | {"mode": "replace", "replaced_bytes": found.bytes, "slots": found.slots}
    return where | _existing(context, scene, found, name, connection)


def _dbname(scene: Scene, run: Run) -> str:
    return scene.toc.dbname or run.database


def _existing(
    context: Context, scene: Scene, found: Found, name: str, connection: Connection
) -> dict[str, Any]:
    if scene.request.data_only:
        _check_live(context, scene, name, connection)
        return {"mode": "in_place", "load": name, "before": None}
    contents = targets.contents(scene.target, name)
    if contents:
        raise RestoreFailed(
            f"The database {name} is there and is not empty ({', '.join(contents[:3])}).",
            "Name another with --as, or replace the live one with --replace.",
        )
    if not (found.ours and scene.facts.may_create_databases):
        return {"mode": "in_place", "load": name, "before": None}
    replace.check_replace(connection, scene.target, found, name)
    return {"mode": "empty"}


def _check_live(context: Context, scene: Scene, name: str, connection: Connection) -> None:
    """Rows for a live database need what a replace of it needs: the configuration's leave, and a confirmation."""
    request = scene.request
    live = _live(context, scene, name, connection)
    if not live:
        return
    if not any(target.allow_replace for target in live):
        raise ConfigError(
            f"{name} is the live database of {live[0].alias}, which does not allow that a restore changes it.",
            "Set allow_replace = true for it (PGFLEET_ALLOW_REPLACE), or name another database with --as.",
        )
    if not (request.dry_run or request.force) and request.confirm != name:
        raise ConfigError(
            f"Putting rows into the live database {name} was not confirmed.",
            f"Give confirm={name!r}, or force (--force).",
        )


def _live(context: Context, scene: Scene, name: str, connection: Connection) -> list[Target]:
    """The targets whose live database this is, by whatever host name, address, socket or pooler they reach it."""
    settings = context.settings
    databases = (replacing(one) for one in settings.databases.values())
    known = [one for one in (*settings.targets.values(), *databases) if one.database == name]
    here = targets.identity(connection)
    return [one for one in known if _same_address(one, scene.target) or _same_server(one, here)]


def replacing(database: Database) -> Target:
    """A configured database as a target of that name; [targets.ALIAS] may name another server for its restores."""
    fields = database.model_dump(include=set(Target.model_fields) - {"database"})
    return Target.model_validate({**fields, "database": database.name})


def _same_address(one: Server, other: Server) -> bool:
    return one.port == other.port and (one.host == other.host or bool(_addresses(one) & _addresses(other)))


def _addresses(server: Server) -> set[str]:
    if server.host.startswith("/"):  # the directory of a Unix socket
        return {"127.0.0.1", "::1"}
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(server.host, server.port)}
    except OSError:
        return set()


def _same_server(one: Target, here: Identity | None) -> bool:
    """Asked of the server itself. One that does not answer is told by its address only."""
    if here is None:
        return False
    try:
        with targets.maintenance(one) as connection:
            return targets.identity(connection) == here
    except PgfleetError:
        return False


def _may_create(scene: Scene) -> None:
    if not scene.facts.may_create_databases:
        raise ConfigError(
            f"{scene.target.user} may not create databases on {scene.target.alias}.",
            "ALTER ROLE … CREATEDB; or create an empty database and name it with --as.",
        )


def _how(context: Context, scene: Scene) -> dict[str, Any]:
    """Client, jobs and flags of pg_restore, and what is worth to be known about them."""
    request, facts, notes = scene.request, scene.facts, list[str]()
    jobs = request.jobs or context.settings.restore_jobs
    if facts.free_connections - _OTHER_CONNECTIONS < jobs:
        jobs = max(1, facts.free_connections - _OTHER_CONNECTIONS)
        notes.append(f"Only {jobs} jobs: {scene.target.alias} has {facts.free_connections} connections free.")
    flags = [
        flag
        for flag, wanted in (
            ("--no-owner", request.no_owner),
            ("--no-acl", request.no_acl),
            ("--schema-only", request.schema_only),
            ("--data-only", request.data_only),
            ("--disable-triggers", request.data_only and facts.superuser),
        )
        if wanted
    ]
    used = _tablespaces(context, scene)
    places = chosen(request.tablespaces, used, facts.tablespaces, scene.target.alias)
    absent = [name for name in used if name not in places]
    if (
        absent or request.tablespaces
    ):  # --globals does not make them either: they need a directory on that server
        flags.append("--no-tablespaces")
    if absent:
        what = "what was in them" if request.tablespaces else "all"
        notes.append(
            f"{scene.target.alias} lacks the tablespaces {', '.join(absent)}: {what} goes to the default one."
        )
    return {
        "jobs": jobs,
        "client": scene.tools.major,
        "flags": flags,
        "notes": notes,
        "tablespaces": places if request.tablespaces else {},
        "source_server": dotted(scene.toc.server),
        "target_server": dotted(facts.version),
    }


def _tablespaces(context: Context, scene: Scene) -> list[str]:
    """Those that the source used, beside the default one; a backup without a manifest tells by its statements."""
    if scene.manifest is not None:
        return list(scene.manifest.server.tablespaces)
    ids = [entry.id for entry in scene.toc.of(*_IN_TABLESPACES)]
    return sorted(tablespaces(script_of(scene.tools, main_archive(context), ids, context.run_dir)))


def _space(context: Context, scene: Scene) -> dict[str, Any]:
    tables = scene.manifest.tables if scene.manifest else ()
    rows = 0 if scene.request.schema_only else sum(table.bytes for table in selected(scene.selection, tables))
    size = sum(path.stat().st_size for kind in ("dump", "data") for path in archives(context, kind))
    needed = space_needed(rows, 0 if tables else size)
    free = targets.free_space(scene.target, scene.facts)
    if free is not None and needed > free:
        raise RestoreFailed(
            f"The restored database needs about {human.size(needed)}, and {scene.target.alias} has {human.size(free)}.",
            "Free some space on its disk, restore parts (--table, --schema), or name another target.",
        )
    return {"needed_bytes": needed, "free_bytes": free}


def _expected_seconds(context: Context, needed: int) -> float | None:
    """What the last restore of about this size took, scaled; None when there was none."""
    for run in context.ledger.runs(kind="restore", states=("succeeded",), limit=200):
        size, seconds = run.result.get("restored_bytes") or 0, run.result.get("seconds")
        if seconds and size and 0.25 <= needed / size <= 4:
            return round(float(seconds) * max(0.5, needed / size), 1)
    return None
