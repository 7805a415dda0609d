"""Where a drill restores to: a throwaway server of its own or a configured target; loading it, and taking it away."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from psycopg.errors import DependentObjectsStillExist, DuplicateObject
from psycopg.sql import SQL, Identifier

from worker.config.model import Target
from worker.core.backup import Manifest
from worker.core.restore_plan import (
    missing_extensions,
    missing_owners,
    preload_settings,
    preloads,
    space_needed,
    too_old,
)
from worker.core.statements import grantees, identifier, statements
from worker.core.toc import Toc
from worker.core.versions import dotted
from worker.errors import RestoreFailed, ValidationFailed
from worker.owner import me
from worker.postgres import replace, restored, targets, throwaway
from worker.postgres.restore import read_toc, script_of
from worker.postgres.targets import TargetFacts
from worker.steps.context import Adapters, Context, Later, Outcome
from worker.steps.restore_check import archives, kept_selection, main_archive, newest_tools, tools_for
from worker.steps.restore_choose import manifest_of
from worker.steps.restore_globals import restore_globals
from worker.steps.restore_load import load_archives

THROWAWAY = "throwaway"
_ELSEWHERE = 600  # how often, a second apart, a step looks for a worker of the server's host

Plan = dict[str, Any]


class _Drilling(Context):
    """The same step, for the steps of a restore: the throwaway server is a target of theirs."""

    def __init__(self, outer: Context, target: Target) -> None:
        settings = outer.settings
        known = {**settings.targets, target.alias: target}
        super().__init__(Adapters(settings.model_copy(update={"targets": known}), outer.ledger), outer.claim)
        self.stop = outer.stop
        self._outer = outer

    def progress(self, done: int, total: int | None = None) -> None:
        self._outer.progress(done, total)


def provision(context: Context) -> Outcome:
    """A server that answers, and the plan of the load.

    Raises ValidationFailed when the backup has no fingerprint, MissingDependency and RestoreFailed without a server.
    """
    manifest = manifest_of(context.run_dir)
    if manifest is None or not archives(context, "fingerprint"):
        raise _nothing_to_compare(context.run.backup_id or "", manifest)
    toc = read_toc(newest_tools(context), main_archive(context))
    target, major = _server(context, toc, manifest)
    with targets.maintenance(target) as connection:
        facts = targets.facts(connection)
    _check(context, target, facts, toc)
    tools = tools_for(context, facts.version, toc)
    name = database_name(context.run.id)
    plan: Plan = {
        "target": target.alias,
        "name": name,
        "load": name,
        "mode": "new",
        "jobs": context.request("drill").jobs or context.settings.restore_jobs,  # type: ignore[attr-defined]
        "client": tools.major,
        "flags": ["--no-tablespaces"] if manifest.server.tablespaces else [],
        "notes": [],
        "needed_bytes": space_needed(sum(table.bytes for table in manifest.tables), 0),
    }
    server = {"alias": target.alias, "major": major, "version": dotted(facts.version), "place": place()}
    context.set_run(data={"drill": {"server": server, "database": name}})
    return Outcome({"plan": plan, "server": server})


def _nothing_to_compare(backup_id: str, manifest: Manifest | None) -> ValidationFailed:
    if manifest is None:
        return ValidationFailed(
            f"Nothing recorded what {backup_id} contained when it was dumped, so there is nothing to compare it with.",
            f"Restore it (`pgfleet restore {backup_id}`), or drill a backup that pgfleet has taken.",
        )
    why = next((f": {gap.why.rstrip('.')}" for gap in manifest.missing if gap.what == "fingerprint"), "")
    return ValidationFailed(
        f"{backup_id} was stored without a fingerprint, so there is nothing to compare it with{why}.",
        "See that the next one is taken, and drill that."
        if why
        else "Set FINGERPRINT=full for the database, and drill the next backup.",
    )


def database_name(run_id: str) -> str:
    return f"pgfleet_drill_{run_id}"


def _server(context: Context, toc: Toc, manifest: Manifest) -> tuple[Target, int]:
    """The target, and the major to find the throwaway server again (0 for a configured one)."""
    alias = context.settings.drill_server
    if alias is not None:
        return context.settings.targets[alias], 0
    size = sum(table.bytes for table in manifest.tables)
    context.adapters.spool.need(space_needed(size, 0), f"The drill of {context.run.backup_id}")
    libraries, name = preloads(manifest.server), database_name(context.run.id)
    major, settings = toc.server[0], preload_settings(libraries, name)
    made = throwaway.provision(
        context.run_dir, context.run.id, major, context.settings.pg_bin, libraries, settings
    )
    return made.target, made.major


def _check(context: Context, target: Target, facts: TargetFacts, toc: Toc) -> None:
    if facts.in_recovery or too_old(toc.server, facts.version):
        raise RestoreFailed(
            f"The drill server {target.alias} is PostgreSQL {dotted(facts.version)}"
            f"{', a standby' if facts.in_recovery else ''}: a backup of {dotted(toc.server)} cannot be restored there.",
            "Name another PGFLEET_DRILL_SERVER, or none for a throwaway server.",
        )
    missing = missing_extensions(toc, set(kept_selection(context.run_dir).ids), facts.extensions)
    if missing:
        raise RestoreFailed(
            f"The drill server lacks the extensions {', '.join(missing)}.",
            f"Install them for PostgreSQL {facts.version[0]} on the drill host, or set PGFLEET_DRILL_SERVER.",
        )


def place() -> str:
    """This host, or container: where a process is seen and its Unix socket reached."""
    return me().rpartition("/")[0].rpartition("/")[0]


def _check_place(context: Context, there: str) -> None:
    """Of several hosts that mount the spool, one has the server: leave the step to a worker over there."""
    if there == place():
        return
    waits = int(context.step.data.get("elsewhere", 0)) + 1
    if waits > _ELSEWHERE:
        raise RestoreFailed(
            "The throwaway server is on another host that mounts this spool, and no worker there takes the step.",
            "Give each host a spool of its own, or set PGFLEET_DRILL_SERVER.",
        )
    raise Later("The throwaway server is on another host.", 1.0, {"elsewhere": waits})


def drill_target(context: Context) -> tuple[Target, str]:
    """(server, database) of this run's drill. Raises RestoreFailed when the throwaway server is gone."""
    drill = context.run.data["drill"]
    server = drill["server"]
    if server["alias"] != THROWAWAY:
        return context.settings.targets[server["alias"]], drill["database"]
    _check_place(context, server["place"])
    found = throwaway.found(context.run_dir, context.run.id, server["major"])
    return found.target, drill["database"]


def roles(context: Context) -> Outcome:
    """Roles from the backup's globals; without those, the ones that the archive names, empty.

    A configured server stays after the drill, so its roles get neither passwords nor rights, and go with the database.
    """
    plan: Plan = context.step.data["plan"]
    target, _ = drill_target(context)
    if target.alias == THROWAWAY and archives(context, "globals"):
        return restore_globals(_Drilling(context, target))
    tools = newest_tools(context)
    toc, ids = read_toc(tools, main_archive(context)), kept_selection(context.run_dir).ids
    with targets.maintenance(target) as connection:
        known = targets.facts(connection).roles
        script = script_of(
            tools,
            main_archive(context),
            [e.id for e in toc.of("ACL", "DEFAULT ACL") if e.id in set(ids)],
            context.run_dir,
        )
        wanted = set(missing_owners(toc, ids, known)) | grantees(script) | _roles_of_globals(context)
        absent = sorted(wanted - set(known))
        made = set(context.run.data.get("drill_roles", ()))
        context.set_run(data={"drill_roles": sorted(made | set(absent))})
        for role in absent:
            try:
                connection.execute(SQL("CREATE ROLE {} NOLOGIN").format(Identifier(role)))
                made.add(role)
            except DuplicateObject:  # somebody else's, made this instant
                context.set_run(data={"drill_roles": sorted(made | set(absent[absent.index(role) + 1 :]))})
    note = f"Made up for the drill, without login or rights: {', '.join(absent)}."
    return Outcome(
        {"plan": plan | {"notes": [*plan["notes"], *([note] if absent else [])]}, "created": absent}
    )


def _roles_of_globals(context: Context) -> set[str]:
    """The names only. Reserved ones are the server's own."""
    names = {
        identifier(tokens[2])
        for path in archives(context, "globals")
        for tokens in statements(path.read_text())
        if [token.upper() for token in tokens[:2]] == ["CREATE", "ROLE"]
    }
    return {name for name in names if not name.startswith("pg_")}


def load(context: Context) -> Outcome:
    """Restore, set what the database itself has, ANALYZE: then it could take connections."""
    target, name = drill_target(context)
    loaded = load_archives(_Drilling(context, target)).result
    with targets.maintenance(target) as connection:
        late = sorted(loaded["late"], key=lambda one: " OWNER TO " in one)
        notes = [*loaded["plan"]["notes"], *replace.apply(connection, late)]
    began = time.monotonic()
    restored.analyze(target, name, loaded["plan"]["jobs"], context.check)
    with targets.maintenance(target) as connection:
        found = targets.find(connection, name)
    return Outcome(
        {
            "notes": notes,
            "load_seconds": loaded["load_seconds"],
            "analyze_seconds": round(time.monotonic() - began, 3),
            "flags": loaded["plan"]["flags"],
            "bytes": (found.bytes if found else None) or 0,
        }
    )


def sweep(context: Context) -> Outcome:
    """Stop and delete the throwaway server, or drop the drill's database and roles; clear the spool."""
    drill, spool, removed = context.run.data.get("drill"), context.adapters.spool, False
    if drill is not None and drill["server"]["alias"] != THROWAWAY:
        target = context.settings.targets[drill["server"]["alias"]]
        removed = targets.drop(target, drill["database"])
        _drop_roles(target, context.run.data.get("drill_roles", ()))
    if context.run.spool_id in (None, spool.id):
        removed |= throwaway.remove(context.run_dir, context.run.id)
        spool.remove(context.run.id)
    return Outcome({"removed": removed})


def _drop_roles(target: Target, names: Iterable[str]) -> None:
    """Those that this drill made. One that something else of the server depends on by now stays."""
    with targets.maintenance(target) as connection:
        for name in names:
            with suppress(DependentObjectsStillExist):
                connection.execute(SQL("DROP ROLE IF EXISTS {}").format(Identifier(name)))
