"""``pgfleet restore`` and ``pgfleet fetch``: get the data back, through the fleet or with this machine alone."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from worker.cli import place
from worker.cli.restore_report import say_dry_run, say_restore
from worker.cli.see_through import see_through
from worker.core.requests import RestoreRequest
from worker.errors import ConfigError
from worker.ledger.model import Run
from worker.owner import me
from worker.steps import restore_choose
from worker.steps.context import Adapters
from worker.submit import after_restore, database_of, insert, restore_locally, submit

_CONSEQUENCE = {
    "undo": "gives way to the one that its restore has kept; what was written since stays in a database beside it",
    "finish": "stays; the old one that its restore has kept is dropped for good",
}


@click.command()
@click.argument("what", nargs=-1, metavar="[ID | latest | latest-proven | undo RUN | finish RUN]")
@click.option("--database", help="Whose backup (needed for latest when several databases are configured).")
@click.option("--before", metavar="TIME", help="The newest backup before this time (2024-01-31T02:00:00Z).")
@click.option("--destination", help="Only the copy in this destination; otherwise the nearest good one.")
@click.option(
    "--file", "file", type=click.Path(path_type=Path), help="A local archive, x.dump or x.dump.gpg."
)
@click.option(
    "--to", "target", metavar="TARGET", help="The target to restore into; the database's own server without."
)
@click.option("--as", "as_name", metavar="NAME", help="The database to make, or an empty one that is there.")
@click.option("--replace", is_flag=True, help="Put it in the place of the live database, which is kept.")
@click.option("--drop-old", is_flag=True, help="With --replace: drop the old database once all is well.")
@click.option(
    "--table", "tables", multiple=True, metavar="NAME", help="Only this table (schema.table); repeatable."
)
@click.option("--schema", "schemas", multiple=True, metavar="NAME", help="Only this schema; repeatable.")
@click.option("--exclude-table", "exclude_tables", multiple=True, metavar="NAME", help="All but this table.")
@click.option("--schema-only", is_flag=True, help="Definitions without rows.")
@click.option("--data-only", is_flag=True, help="Rows, into a database that has the tables already.")
@click.option("--globals", "globals_", is_flag=True, help="Create the roles that are missing on the target.")
@click.option("--no-owner", is_flag=True, help="Everything belongs to the role that restores.")
@click.option("--no-acl", is_flag=True, help="Without grants.")
@click.option(
    "--tablespace",
    "tablespaces",
    multiple=True,
    metavar="OLD=NEW",
    help="Put what was in OLD into NEW; repeatable.",
)
@click.option("--jobs", type=click.IntRange(1, 64), help="Parallel pg_restore jobs.")
@click.option("--dry-run", is_flag=True, help="Fetch and check, say what would happen, write nothing.")
@click.option("--force", is_flag=True, help="Do not ask; for automation.")
@click.option("--key", "idempotency_key", help="Asked twice with the same key, it is the same run.")
@click.option(
    "--wait/--no-wait", default=True, help="Wait for the end and show progress (default), or return at once."
)
@click.option("--here", is_flag=True, help="Do it in this process: no broker, no workers, no ledger needed.")
@click.option("--json", "as_json", is_flag=True, help="Print the run as one JSON object.")
def restore(
    what: tuple[str, ...],
    file: Path | None,
    before: str | None,
    wait: bool,
    here: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Restore a backup (the latest without an ID) into a new database, an empty one, or the live one.

    `undo RUN` puts back what a replace has kept; `finish RUN` drops it.

    Exit codes: 0 success, 1 general, 2 missing dependency, 3 configuration, 4 download failed, 5 decryption failed,
    6 restore failed.
    """
    if what and what[0] in _CONSEQUENCE:
        if len(what) != 2:
            raise click.UsageError(f"restore {what[0]} needs the id of a run.")
        return _after(what[0], what[1], wait=wait, here=here, as_json=as_json, **options)
    if len(what) > 1:
        raise click.UsageError("One backup at a time.")
    payload = {name.rstrip("_"): value for name, value in options.items() if value}
    if "tablespaces" in payload:
        payload["tablespaces"] = _pairs(payload["tablespaces"])
    payload |= {"backup": what[0] if what else "latest"} | ({"before": _moment(before)} if before else {})
    here = here or file is not None
    found = place.adapters_here() if here else place.adapters()
    _confirm(found, payload, file)
    if file is not None:
        run = restore_locally(
            found, payload, requested_by=place.requester(found), here=me(), file=str(file.absolute())
        )
    else:
        (run,) = submit(
            found, "restore", payload, requested_by=place.requester(found), here=me() if here else ""
        )
    return _see_through(found, run, wait=wait, here=here, as_json=as_json)


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    for old, _, new in pairs:
        if not old or not new:
            raise ConfigError("--tablespace says which one goes where.", "Write --tablespace OLD=NEW.")
    return {old: new for old, _, new in pairs}


def _moment(text: str) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--before: {text!r} is not a time.", "Write for example 2024-01-31T02:00:00Z."
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).isoformat()


def _confirm(found: Adapters, payload: dict[str, Any], file: Path | None = None) -> None:
    """A replace asks a person to type the database's name. Without a terminal it needs --force."""
    if not payload.get("replace") or payload.get("force") or payload.get("dry_run"):
        return
    database = payload.get("database") or database_of(found, payload["backup"])
    target = restore_choose.target_of(found, payload.get("target"), database)
    restore_choose.check_allowed(
        RestoreRequest(replace=True, force=True), target
    )  # before anybody types anything
    payload["confirm"] = _type_name(
        target.database or "",
        target.alias,
        f"is replaced by {_what(payload, file)}, and kept under another name; its sessions are cut",
    )


def _what(payload: dict[str, Any], file: Path | None) -> str:
    """The backup that is asked for, in words."""
    if file is not None:
        return f"the file {file}"
    named = {"latest": "its latest backup", "latest-proven": "its latest backup that a drill has proven"}
    before = f" before {payload['before']}" if "before" in payload else ""
    return f"{named.get(payload['backup'], payload['backup'])}{before}"


def _type_name(name: str, alias: str, what: str) -> str:
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{name} would be changed, and there is no terminal to ask at.", "Add --force if you mean it."
        )
    click.echo(f"The live database {name} on {alias} {what}.", err=True)
    typed = str(click.prompt("Type its name to go on", err=True))
    if typed != name:
        raise ConfigError(f"That is not {name}: nothing was done.", "Start again when you are sure.")
    return typed


def _after(
    what: str,
    run_id: str,
    *,
    wait: bool,
    here: bool,
    as_json: bool,
    target: str | None = None,
    database: str | None = None,
    force: bool = False,
    **_: Any,
) -> int:
    found = place.adapters_here() if here else place.adapters()
    new = after_restore(
        found,
        "undo" if what == "undo" else "finish",
        run_id,
        requested_by=place.requester(found),
        target=target,
        database=database,
        here=me() if here else "",
    )
    live = new.request["name"]
    if not force:
        _type_name(live, new.request["target"], _CONSEQUENCE[what])
    return _see_through(found, insert(found, new), wait=wait, here=here, as_json=as_json)


def _see_through(found: Adapters, run: Run, *, wait: bool, here: bool, as_json: bool) -> int:
    return see_through(found, [run], wait=wait, here=here, as_json=as_json, say=_say)


def _say(run: Run) -> None:
    if run.result.get("dry_run"):
        say_dry_run(run)
    else:
        say_restore(run)


@click.command()
@click.argument("backup", default="latest", metavar="[ID | latest | latest-proven]")
@click.option("--database", help="Whose backup.")
@click.option("--before", metavar="TIME", help="The newest backup before this time.")
@click.option("--destination", help="Only the copy in this destination.")
@click.option("--file", "file", type=click.Path(path_type=Path), help="A local archive instead.")
@click.option("--globals", "globals_", is_flag=True, help="The file of roles too.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Where to put it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the run as one JSON object.")
def fetch(
    backup: str, before: str | None, file: Path | None, output: Path, as_json: bool, **options: Any
) -> int:
    """Download, decrypt and check a backup, and leave the archives in a directory (the current one).

    Exit codes: 0 success, 1 general, 2 missing dependency, 3 configuration, 4 download failed, 5 decryption failed,
    6 not a readable archive.
    """
    found = place.adapters_here()
    payload = {name.rstrip("_"): value for name, value in options.items() if value} | {"backup": backup}
    payload |= {"before": _moment(before)} if before else {}
    local = {"output": str(output.absolute())} | ({"file": str(file.absolute())} if file else {})
    run = restore_locally(found, payload, requested_by=place.requester(found), here=me(), **local)
    return _see_through(found, run, wait=True, here=True, as_json=as_json)
