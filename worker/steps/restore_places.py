"""Tablespaces that have another name on the target: what was in OLD is put into NEW (``--tablespace OLD=NEW``).

pg_restore can only keep the names or drop them. So it drops them: tables are moved while they are still empty, and the
indexes of each tablespace are made by a call of their own, in sessions whose default tablespace it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from psycopg.sql import SQL, Identifier

from worker.config.model import Target
from worker.core.statements import Placement, placements
from worker.core.toc import Toc
from worker.errors import ConfigError, RestoreFailed
from worker.postgres import targets
from worker.postgres.restore import script_of, write_list
from worker.postgres.tools import Tools

_MOVED = {"TABLE": "TABLE", "MATERIALIZED VIEW": "MATERIALIZED VIEW"}
_MADE_THERE = ("INDEX", "CONSTRAINT")


def chosen(
    wanted: Mapping[str, str], used: Sequence[str], there: Sequence[str], alias: str
) -> dict[str, str]:
    """OLD → NEW for each tablespace of the backup that has a place on the target. Raises ConfigError, RestoreFailed."""
    if strange := sorted(set(wanted) - set(used)):
        raise ConfigError(
            f"The backup uses no tablespace {', '.join(strange)}.",
            f"It uses {', '.join(used)}." if used else "All of it is in the default tablespace.",
        )
    if absent := sorted(set(wanted.values()) - set(there)):
        raise RestoreFailed(
            f"{alias} lacks the tablespaces {', '.join(absent)}.",
            f"CREATE TABLESPACE there first, or name one of {', '.join(sorted(there))}.",
        )
    return {old: wanted.get(old, old) for old in used if wanted.get(old, old) in there}


def read(tools: Tools, archive: Path, toc: Toc, ids: Sequence[int]) -> list[Placement]:
    """The selected tables, views and indexes that are in a tablespace of their own."""
    kinds = set(toc.of(*_MOVED, *_MADE_THERE))
    about = [number for number in ids if toc.by_id[number] in kinds]
    return placements(script_of(tools, archive, about, archive.parent, verbose=True))


def move(target: Target, dbname: str, placed: Sequence[Placement], places: Mapping[str, str]) -> None:
    """Between definitions and rows: what is empty is moved in no time. Raises RestoreFailed."""
    with targets.session(target, dbname) as connection:
        for one in placed:
            if one.kind in _MOVED and one.tablespace in places:
                statement = SQL("ALTER {} {}.{} SET TABLESPACE {}").format(
                    SQL(_MOVED[one.kind]),
                    Identifier(one.schema),
                    Identifier(one.name),
                    Identifier(places[one.tablespace]),
                )
                connection.execute(statement)


def index_lists(
    directory: Path, ids: Sequence[int], placed: Sequence[Placement], places: Mapping[str, str]
) -> list[tuple[str, Path]]:
    """(tablespace, list of entries to make there), and last ("", the list of the others)."""
    where = {
        one.id: places[one.tablespace]
        for one in placed
        if one.kind in _MADE_THERE and one.tablespace in places
    }
    groups = [
        (new, [number for number in ids if where.get(number) == new]) for new in sorted(set(where.values()))
    ]
    groups.append(("", [number for number in ids if number not in where]))
    return [
        (new, write_list(directory / f"tablespace-{number}.list", group))
        for number, (new, group) in enumerate(groups)
    ]
