"""Read the archives' tables of contents, and settle what of them is restored, before anything is written anywhere."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.core.backup import TableCount
from worker.core.requests import RestoreRequest
from worker.core.restore_plan import client_for
from worker.core.toc import RELATIONS, Selection, Toc, select, written
from worker.core.versions import Version, dotted
from worker.durable import durable_write, replacing
from worker.errors import ConfigError, DownloadFailed, RestoreFailed, SpoolFull
from worker.postgres.restore import read_through, read_toc, readers
from worker.postgres.tools import Tools, discover
from worker.steps.context import Context, Outcome
from worker.steps.restore_choose import OUTPUT, notes_so_far, restore_request

SELECTION = "selection.json"
_BLOCK = 1024 * 1024


def archives(context: Context, kind: str) -> list[Path]:
    """The plain files of this kind that were decrypted, by name."""
    steps = context.ledger.steps(context.run.id, name="restore.decrypt")
    found = [step.result["archive"] for step in steps if step.state == "done"]
    return [context.run_dir / name for name in sorted(one["file"] for one in found if one["kind"] == kind)]


def main_archive(context: Context) -> Path:
    return archives(context, "dump")[0]


def newest_tools(context: Context) -> Tools:
    """The pg_restore that reads the most formats. Raises MissingDependency."""
    return client_for((99, 0), (0, 0), discover(tuple(context.settings.pg_bin)))


def tools_for(context: Context, server: Version, toc: Toc) -> Tools:
    """The pg_restore that reads this archive for that server. Raises MissingDependency."""
    return client_for(server, toc.client, readers(discover(tuple(context.settings.pg_bin)), toc))


def check(context: Context) -> Outcome:
    """Every archive is readable, of one database, and has what was asked for.

    Raises RestoreFailed for an archive that cannot be read, ConfigError for a name that is not in it.
    """
    tools, main = newest_tools(context), main_archive(context)
    toc = read_toc(tools, main)
    if not context.step.data["managed"]:
        read_through(tools_for(context, (99, 0), toc), main, stop=context.stop)
    for path in archives(context, "data"):
        read_toc(tools, path)
        context.check()
    request = restore_request(context.run) if context.run.kind == "restore" else RestoreRequest()
    selection = select(
        toc, tables=request.tables, schemas=request.schemas, exclude_tables=request.exclude_tables
    )
    if selection.unknown:
        raise _unknown(request, selection.unknown, toc)
    _keep(context.run_dir, selection)
    return Outcome(
        {
            "kind": "fetch" if OUTPUT in context.run.request else context.run.kind,
            "dbname": toc.dbname,
            "server": dotted(toc.server),
            "client": dotted(toc.client),
            "entries": len(selection.ids),
            "left_out": list(selection.left_out[:100]),
            "globals": bool(archives(context, "globals")),
            "notes": [] if context.step.data["managed"] or request.schema_only else _notes(toc, selection),
        }
    )


def _notes(toc: Toc, selection: Selection) -> list[str]:
    """What no manifest can tell: that rows are missing, since others of its archives have them."""
    wanted = frozenset(selection.ids)
    names = [entry.full_name for entry in toc.without_rows() if entry.id in wanted]
    if not names:
        return []
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return [f"The archive has no rows of {shown}: it was made without them, or is one of several."]


def _unknown(request: RestoreRequest, names: Sequence[str], toc: Toc) -> ConfigError:
    """The names that are meant are written as they must be given: quoted where they hold a dot or a quote."""
    tables = {written(entry.schema, entry.name): entry.name for entry in toc.of(*RELATIONS)}
    schemas = {written(schema): schema for schema in toc.schemas}
    close = [
        match for name in names for match in _close(name, schemas if name in request.schemas else tables)
    ]
    hint = (
        f"Did you mean {', '.join(dict.fromkeys(close))}?"
        if close
        else "Names are exact: `pgfleet show ID --json` lists the tables."
    )
    what = "schema" if set(names) <= set(request.schemas) else "table"
    return ConfigError(f"The backup has no {what} {', '.join(names)}.", hint)


def _close(wanted: str, known: Mapping[str, str]) -> list[str]:
    """Of `known` (as written, to the bare name) the two that look most like it."""
    ways = {way.casefold(): one for one, bare in sorted(known.items()) for way in (bare, one)}
    found = difflib.get_close_matches(wanted.casefold(), ways, 4)
    return list(dict.fromkeys(ways[one] for one in found))[:2]


def _keep(run_dir: Path, selection: Selection) -> None:
    kept = {"ids": selection.ids, "data": sorted(selection.data)}
    durable_write(run_dir / SELECTION, json.dumps(kept).encode())


def kept_selection(run_dir: Path) -> Selection:
    kept = json.loads((run_dir / SELECTION).read_bytes())
    return Selection(tuple(kept["ids"]), frozenset((schema, name) for schema, name in kept["data"]))


def selected(selection: Selection, tables: Iterable[TableCount]) -> tuple[TableCount, ...]:
    """Of a manifest's tables those whose rows are restored."""
    known = {(table.schema_name, table.name): table for table in tables}
    wanted = selection.tables(known)
    return tuple(table for name, table in known.items() if name in wanted)


def deliver(context: Context) -> Outcome:
    """`pgfleet fetch`: the checked files go where they were asked for, and the run ends."""
    target = Path(context.run.request[OUTPUT])
    try:
        target.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{target} cannot be made: {error.strerror}.",
            "Name another directory with -o; its parent must exist.",
        ) from error
    files: list[dict[str, Any]] = []
    for kind in ("dump", "data", "globals"):
        for path in archives(context, kind):
            final = target / path.name
            if path.exists():
                _copy(context, path, final)
            files.append({"file": str(final), "kind": kind, "bytes": final.stat().st_size})
    if not files:
        raise RestoreFailed("There was nothing to deliver.", "Please report this.")
    result = {"files": files, "checked": dict(context.step.data["check"]), "notes": notes_so_far(context)}
    return Outcome({"files": files}, end="succeeded", run_result=result)


def _copy(context: Context, source: Path, final: Path) -> None:
    try:
        with source.open("rb") as file, replacing(final) as output:
            while block := file.read(_BLOCK):
                output.write(block)
                context.check()
    except SpoolFull as error:
        raise DownloadFailed(
            f"{final.parent} has no room for {final.name}.", "Free some space there, or name another with -o."
        ) from error
