"""What a backup of a database does not have in it, and why: the manifest says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker.config.model import Database
from worker.core.backup import Gap
from worker.postgres.queries import query
from worker.postgres.server import Connection, ServerFacts
from worker.postgres.tables import TableInfo


def gaps(
    connection: Connection, database: Database, facts: ServerFacts, tables: Sequence[TableInfo]
) -> list[Gap]:
    """For the manifest's `missing`; those of roles come from `dump_globals`. Needs a pinned session."""
    found: dict[str, list[str]] = {}
    for kind, name in connection.execute(query("gaps")):
        found.setdefault(kind, []).append(name)
    return [
        *_configured(database),
        *(
            Gap(
                what=f"rows of foreign table {name}",
                why="they are on another server; the definition is in the dump",
            )
            for name in found.get("foreign", ())
        ),
        *_matviews(tables),
        *_unlogged(tables, facts),
        *_subscriptions(found.get("subscription", ()), facts),
        *(
            Gap(
                what=f"the directory of tablespace {name}",
                why="a target must have this tablespace, or be restored to with --no-tablespaces",
            )
            for name in facts.server.tablespaces
        ),
    ]


def _configured(database: Database) -> Iterable[Gap]:
    for pattern in database.exclude_schemas:
        yield Gap(what=f"schemas {pattern}", why="excluded by the configuration (exclude_schemas)")
    for pattern in database.exclude_tables:
        yield Gap(what=f"tables {pattern}", why="excluded by the configuration (exclude_tables)")


def _matviews(tables: Sequence[TableInfo]) -> Iterable[Gap]:
    for table in tables:
        if table.kind == "matview":
            yield Gap(
                what=f"rows of materialized view {table}", why="a restore computes them anew from its query"
            )


def _unlogged(tables: Sequence[TableInfo], facts: ServerFacts) -> Iterable[Gap]:
    for table in tables:
        if table.unlogged and facts.in_recovery and table.kind == "table":
            yield Gap(what=f"rows of unlogged table {table}", why="a standby does not have them")


def _subscriptions(names: Sequence[str], facts: ServerFacts) -> Iterable[Gap]:
    for name in names:
        if facts.superuser:
            why = "it is restored disabled, without its replication slot on the publisher"
            yield Gap(what=f"the state of subscription {name}", why=why)
        else:
            yield Gap(what=f"subscription {name}", why="pg_dump shows subscriptions to superusers only")
