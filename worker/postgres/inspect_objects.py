"""Everything of a database but its rows: schema objects with their definitions, and where sequences stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from worker.core.fingerprint import Excluded, Position, SequenceFingerprint
from worker.postgres.inspect_columns import quoted
from worker.postgres.queries import query
from worker.postgres.server import Connection

_SUBJECTS = (
    "relations",
    "columns",
    "sequences",
    "tables",
    "types",
    "routines",
    "operators",
    "search",
    "database",
    "publications",
    "rights",
    "remarks",
)
_SEQUENCES_PER_QUERY = 200


def schema_objects(connection: Connection, excluded: Excluded) -> dict[str, dict[str, str]]:
    """Kind → identity → definition, all sorted. Names in definitions are qualified (`pin`). Raises psycopg.Error.

    Members of extensions are left out, as in a dump: the extension and its version stand for them.
    """
    found: dict[str, dict[str, str]] = {}
    with connection.transaction(force_rollback=True):  # gives back the locks that deparsing takes
        for subject in _SUBJECTS:
            for kind, identity, definition, schema, relation in _rows(connection, subject):
                if not excluded.covers(schema, relation):
                    found.setdefault(kind, {})[identity] = definition or ""
    return {kind: dict(sorted(found[kind].items())) for kind in sorted(found)}


def sequences(connection: Connection, excluded: Excluded) -> tuple[SequenceFingerprint, ...]:
    """Every sequence as it stands now (before = after). No snapshot holds sequences still. Raises psycopg.Error."""
    with connection.transaction(force_rollback=True):
        known = [
            row
            for row in connection.execute(
                query("fingerprint_scope") + query("fingerprint_sequences")
            ).fetchall()
            if not excluded.covers(row[0], row[1]) and not excluded.covers(row[4], row[5])
        ]
        positions = list(_positions(connection, [(row[0], row[1]) for row in known]))
    return tuple(
        SequenceFingerprint(
            schema_name=row[0], name=row[1], ascending=row[2], cycles=row[3], before=position, after=position
        )
        for row, position in zip(known, positions, strict=True)
    )


def _rows(connection: Connection, subject: str) -> list[tuple[Any, ...]]:
    if subject == "publications" and connection.info.server_version < 150000:
        subject = "publications_14"
    return connection.execute(query("fingerprint_scope") + query(f"fingerprint_objects_{subject}")).fetchall()


def _positions(connection: Connection, names: Sequence[tuple[str, str]]) -> Iterator[Position]:
    remaining = iter(names)
    while batch := list(islice(remaining, _SEQUENCES_PER_QUERY)):
        # the catalogs do not hold the values: each sequence is a relation of one row
        statement = " UNION ALL ".join(
            f"SELECT {number}, last_value, is_called FROM {quoted(schema)}.{quoted(name)}"  # noqa: S608 - quoted
            for number, (schema, name) in enumerate(batch)
        )
        rows = connection.execute(f"{statement} ORDER BY 1".encode(connection.info.encoding)).fetchall()
        yield from (Position(last_value, is_called) for _, last_value, is_called in rows)
