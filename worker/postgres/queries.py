"""The SQL files of this package."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def query(name: str) -> bytes:
    """The text of ``sql/<name>.sql``; its comments say what it asks and which parameters it takes."""
    return (files(__package__) / "sql" / f"{name}.sql").read_bytes()
