"""A sample database, so that there is something to back up."""

from __future__ import annotations

from importlib.resources import files

from worker.local.postgres import Postgres


def load_sample(postgres: Postgres, dbname: str, scale: int = 1) -> int:
    """Fill an empty database with about 20 MB × scale, always the same. Returns its size in bytes."""
    script = files("worker.local").joinpath("sample.sql").read_text().replace("{scale}", str(scale))
    with postgres.connect(dbname) as connection:
        connection.execute(script.encode())
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(str(row[0]))
