"""The one clock of the ledger: the database's, in epoch seconds. Workers' clocks never matter."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Double, select
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement


class now(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """The time of the statement as float seconds: milliseconds on SQLite, microseconds on PostgreSQL."""

    inherit_cache = True
    name = "ledger_now"
    type = Double()


@compiles(now, "sqlite")
def _sqlite(element: now, compiler: Any, **_: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42. julianday is exact to the millisecond; its double loses 0.02 ms.
    return "round((julianday('now') - 2440587.5) * 86400.0, 3)"


@compiles(now, "postgresql")
def _postgresql(element: now, compiler: Any, **_: Any) -> str:
    # A sub-select is computed once, so an index can serve `column <= now()`; a bare volatile call forbids it.
    return "(SELECT extract(epoch FROM clock_timestamp())::double precision)"


def read(conn: Connection) -> float:
    return conn.execute(select(now())).scalar_one()
