"""Load the archives into a database that nobody knows yet, and see that it is whole."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from worker.config.model import Target
from worker.core.backup import Manifest
from worker.core.restore_plan import jobs_each, no_event_triggers, phases, session_settings
from worker.core.statements import identifier, renamed
from worker.core.toc import Toc
from worker.errors import RestoreFailed
from worker.postgres import replace, restored, targets
from worker.postgres.restore import Loading, listed, load, read_toc, script_of, write_list
from worker.postgres.server import Connection
from worker.postgres.tools import Tools, discover
from worker.steps import restore_places
from worker.steps.context import Context, Outcome
from worker.steps.restore_check import archives, kept_selection, main_archive, selected
from worker.steps.restore_choose import manifest_of, restore_request, target_of

_POLL_SECONDS = 2.0
_TABLESPACE = re.compile(r' TABLESPACE = ("(?:[^"]|"")*"|\S+)')

Plan = dict[str, Any]


def target_of_plan(context: Context, plan: Plan) -> Target:
    return target_of(context.adapters, plan["target"], context.run.database)


def tools_of_plan(context: Context, plan: Plan) -> Tools:
    return discover(tuple(context.settings.pg_bin))[plan["client"]]


def load_archives(context: Context) -> Outcome:
    """Make the database and fill it. Done again, it starts with a new one; nobody else's is touched."""
    plan: Plan = context.step.data["plan"]
    target, tools, main = target_of_plan(context, plan), tools_of_plan(context, plan), main_archive(context)
    toc, jobs = read_toc(tools, main), int(plan["jobs"])
    with targets.maintenance(target) as connection:
        facts = targets.facts(connection)
    late: list[str] = []
    if plan["mode"] != "in_place":
        targets.drop(target, plan["load"])
        late = _create(context, plan, target, tools, toc)
    how = Loading(
        target,
        plan["load"],
        tools,
        settings=session_settings(jobs, facts.shared_buffers, facts.maintenance_work_mem)
        | no_event_triggers(facts.version, facts.superuser),
        flags=[*plan["flags"], *(("--single-transaction",) if plan["mode"] == "in_place" else ())],
    )
    lists = _lists(context, tools, toc, superuser=facts.superuser)
    sections = _phases(context, plan)
    began = time.monotonic()
    with ExitStack() as stack:
        poll = _progress(context, stack, target, plan)
        if plan["mode"] == "in_place":
            _once(context, plan["name"])
        places: dict[str, str] = plan.get("tablespaces", {})
        placed = restore_places.read(tools, main, toc, kept_selection(context.run_dir).ids) if places else []
        for section, names in sections:
            chosen = [(context.run_dir / name, lists[name]) for name in names if name in lists]
            each = jobs_each(jobs, len(chosen))
            if section == "data" and places:
                restore_places.move(target, plan["load"], placed, places)
                if restore_request(context.run).schema_only:
                    continue
            if section == "post-data" and places:
                made = restore_places.index_lists(context.run_dir, listed(lists[main.name]), placed, places)
                for place, entries in made:
                    there = replaced(how, settings={**how.settings, "default_tablespace": place})
                    load(there, [(main, entries)], section=section, jobs=jobs, stop=context.stop, poll=poll)
                continue
            load(how, chosen, section=section, jobs=each, stop=context.stop, poll=poll)
    return Outcome({"plan": plan, "late": late, "load_seconds": round(time.monotonic() - began, 3)})


def _once(context: Context, name: str) -> None:
    """Nothing tells rows that an attempt has committed, before it was lost, from those that were there."""
    if context.step.data.get("loading"):
        raise RestoreFailed(
            "An earlier attempt may have committed its rows.",
            f"See whether they are in {name}; if not, restore again.",
        )
    context.note(loading=True)


def _phases(context: Context, plan: Plan) -> list[tuple[str | None, tuple[str, ...]]]:
    data = [path.name for path in archives(context, "data")]
    if data and plan["mode"] == "in_place":
        raise RestoreFailed(
            "This backup is in several archives, and they cannot be loaded into an existing database in one go.",
            "Restore into a new database, with a role that may create one.",
        )
    found = phases(main_archive(context).name, data, apart=bool(plan.get("tablespaces")))
    return [(phase.section, phase.archives) for phase in found]


def _create(context: Context, plan: Plan, target: Target, tools: Tools, toc: Toc) -> list[str]:
    """CREATE DATABASE as the archive says it, and the settings of the database. Returns what is to be said at the end.

    The statements of a database that has the name already take the place of the archive's.
    """
    name, request = plan["load"], restore_request(context.run)
    about = [entry.id for entry in toc.entries if entry.of_database]
    script = script_of(tools, main_archive(context), about, context.run_dir)
    said = renamed(script, toc.dbname, name)
    create = next((one for one in said if one.startswith("CREATE DATABASE")), "")
    late = [one for one in said if not one.startswith("CREATE DATABASE") and "IS_TEMPLATE" not in one]
    if request.no_owner:
        late = [one for one in late if " OWNER TO " not in one]
    if request.no_acl:
        late = [one for one in late if not one.startswith(("GRANT", "REVOKE"))]
    with targets.maintenance(target) as connection:
        present = targets.find(connection, plan["name"])
        if present is not None:
            late = replace.properties(connection, plan["name"], present, name)
        tablespace = present.tablespace if present is not None else None
        statement = create or _by_hand(connection, name, manifest_of(context.run_dir))
        _create_database(connection, name, statement, tablespace, plan)
        plan["loaded"] = _mark(context, connection, name)
        settings = [
            one for one in late if one.startswith(("ALTER DATABASE", "ALTER ROLE")) and " SET " in one
        ]
        plan["notes"] = [*plan["notes"], *replace.apply(connection, settings)]
    return [one for one in late if one not in settings]


def _mark(context: Context, connection: Connection, name: str) -> dict[str, Any]:
    """What tells the database of this run from any other of its name, renamed or not: also to a later generation."""
    found, server = targets.find(connection, name), targets.identity(connection)
    loaded = {"oid": found.oid if found else None, "cluster": server.cluster if server else None}
    if "restore" in context.run.data:  # a drill's database keeps its name
        context.set_run(data={"restore": {**context.run.data["restore"], "loaded": loaded}})
    return loaded


def _create_database(
    connection: Connection, name: str, statement: str, tablespace: str | None, plan: Plan
) -> None:
    said = _TABLESPACE.search(statement)
    if said is not None and (tablespace or "--no-tablespaces" in plan["flags"]):
        tablespace = tablespace or plan.get("tablespaces", {}).get(identifier(said[1]))
        statement = statement[: said.start()] + statement[said.end() :]
    if tablespace:
        statement += f" TABLESPACE = {Identifier(tablespace).as_string(connection)}"
    try:
        connection.execute(statement.encode())
    except psycopg.errors.Error as error:
        if connection.closed:
            raise
        raise RestoreFailed(
            f"{name} could not be created: {error.diag.message_primary}.",
            "Its locale or encoding must exist on the target's machine (locale -a), and the role be allowed to.",
        ) from error


def _by_hand(connection: Connection, name: str, manifest: Manifest | None) -> str:
    """For archives that do not say how their database was made."""
    parts = [SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(name))]
    if manifest is not None:
        server = manifest.server
        parts.append(SQL("ENCODING {}").format(Literal(server.encoding)))
        if server.collate:
            parts.append(
                SQL("LC_COLLATE {} LC_CTYPE {}").format(Literal(server.collate), Literal(server.ctype))
            )
    return SQL(" ").join(parts).as_string(connection)


def _lists(context: Context, tools: Tools, toc: Toc, *, superuser: bool) -> dict[str, Path]:
    """For each archive the file that names the entries to load; none where nothing of it is wanted."""
    selection, main = kept_selection(context.run_dir), main_archive(context)
    ids = [number for number in selection.ids if not toc.by_id[number].of_database]
    if not superuser:  # only its owner may comment on an extension, and on a managed server that is never us
        theirs = {e.id for e in toc.of("COMMENT") if not e.schema and e.text.startswith("EXTENSION ")}
        ids = [number for number in ids if number not in theirs]
    lists = {main.name: write_list(context.run_dir / f"{main.name}.list", ids)}
    for path in archives(context, "data"):
        rows = [e.id for e in read_toc(tools, path).of("TABLE DATA") if (e.schema, e.text) in selection.data]
        if rows:
            lists[path.name] = write_list(context.run_dir / f"{path.name}.list", rows)
    return lists


def _progress(context: Context, stack: ExitStack, target: Target, plan: Plan) -> Callable[[], None]:
    """Tells how large the database has become, by a connection of its own; it may fail without harm."""
    connection = stack.enter_context(targets.maintenance(target))
    asked = [0.0]

    def poll() -> None:
        context.check()
        if time.monotonic() - asked[0] < _POLL_SECONDS:
            return
        asked[0] = time.monotonic()
        try:
            found = targets.find(connection, plan["load"])
        except psycopg.Error:
            return
        if found is not None and found.bytes:
            context.progress(found.bytes, max(found.bytes, plan["needed_bytes"]))

    return poll


def finish(context: Context) -> Outcome:
    """ANALYZE, then every check. Raises RestoreFailed when one fails: what was there before is still in its place."""
    plan: Plan = context.step.data["plan"]
    target, jobs, request = target_of_plan(context, plan), int(plan["jobs"]), restore_request(context.run)
    manifest = manifest_of(context.run_dir)
    began = time.monotonic()
    analyzed = restored.analyze(target, plan["load"], jobs, context.check)
    checks = restored.inspect(target, plan["load"], _whole(context, plan))
    if manifest is not None and not request.schema_only:
        expected = manifest.tables
        if request.partial:
            expected = selected(kept_selection(context.run_dir), expected)
        checks.append(restored.count(target, plan["load"], jobs, expected, context.check))
    failed = [check for check in checks if not check.ok]
    if failed:
        raise RestoreFailed(
            f"What was loaded is not what was backed up: {'; '.join(f'{c.name}: {c.detail}' for c in failed)}.",
            "Restore another copy or backup, and report this: pg_restore had no errors.",
        )
    notes = _say(target, plan, context.step.data["late"])
    with targets.maintenance(target) as connection:
        found = targets.find(connection, plan["load"])
    return Outcome(
        {
            "plan": plan | {"notes": [*plan["notes"], *notes]},
            "tables": analyzed,
            "checks": [check._asdict() for check in checks],
            "restored_bytes": found.bytes if found else None,
            "finish_seconds": round(time.monotonic() - began, 3),
        }
    )


def _whole(context: Context, plan: Plan) -> Toc | None:
    """The table of contents to count against, when all of it was restored."""
    if restore_request(context.run).partial:
        return None
    return read_toc(tools_of_plan(context, plan), main_archive(context))


def _say(target: Target, plan: Plan, late: Sequence[str]) -> list[str]:
    """Owner, grants, comment and connection limit of the database: last, for they may keep us out."""
    if not late:
        return []
    with targets.maintenance(target) as connection:
        owner_last = sorted(late, key=lambda one: " OWNER TO " in one)
        return replace.apply(connection, owner_last)
