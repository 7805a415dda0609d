"""Every kind of error that the package knows, wherever it is defined."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator

import worker
from worker.errors import PgfleetError

#: Importing these starts something: they configure logging, or run the command line.
_NOT_IMPORTED = ("worker.app", "worker.__main__")


def _all(kind: type[PgfleetError]) -> Iterator[type[PgfleetError]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from _all(inner)


for _module in pkgutil.walk_packages(worker.__path__, "worker."):
    if _module.name not in _NOT_IMPORTED:
        importlib.import_module(_module.name)


def _order(error: type[PgfleetError]) -> tuple[bool, str]:
    """Those of worker.errors as they stand there, then the others by name: which is imported first plays no part."""
    elsewhere = error.__module__ != "worker.errors"
    return elsewhere, error.__name__ if elsewhere else ""


#: By name.
ERRORS = {error.__name__: error for error in sorted(_all(PgfleetError), key=_order)}
