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

#: By name, each after the one that it is a kind of.
ERRORS = {error.__name__: error for error in _all(PgfleetError)}
