"""The contents of large objects as checksums."""

from __future__ import annotations

from worker.core.fingerprint import Mode
from worker.postgres.queries import query
from worker.postgres.server import Connection

OBJECTS_PER_RANGE = 1000
#: Part of the algorithm: an object is hashed in pieces of this size.
PIECE = 1024 * 1024
PIECES_PER_QUERY = 16


def ranges(connection: Connection) -> list[tuple[int, int | None, int]]:
    """(first OID, OID of the next range or None at the end, bytes roughly) for ranges of OBJECTS_PER_RANGE."""
    rows = connection.execute(query("fingerprint_large_objects"), {"each": OBJECTS_PER_RANGE}).fetchall()
    lows = [oid for oid, _ in rows]
    return [
        (low, high, size // len(rows))
        for (low, size), high in zip(rows, [*lows[1:], None][: len(lows)], strict=True)
    ]


def checksums(connection: Connection, mode: Mode, low: int, high: int | None) -> dict[int, int]:
    """OID → checksum (0 when counting only) of the objects with low ≤ OID < high. Memory stays flat."""
    bounds = {"low": low, "high": high}
    oids = [row[0] for row in connection.execute(query("fingerprint_large_object_oids"), bounds).fetchall()]
    sums = dict.fromkeys(oids, 0)
    if mode == "counts":
        return sums
    going_on, first, pieces = oids, 0, 1
    while going_on:
        last = first + (pieces - 1) * PIECE
        parameters = {"oids": going_on, "first": first, "last": last, "size": PIECE}
        rows = connection.execute(query("fingerprint_large_object_pieces"), parameters).fetchall()
        for oid, total, _ in rows:
            sums[oid] += int(total)
        going_on, first, pieces = [oid for oid, _, more in rows if more], last + PIECE, PIECES_PER_QUERY
    return sums
