"""What a flow is made of: rules from a step that ended to the steps that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from worker.ledger.model import NewStep, Step

Result = Mapping[str, Any]
Rule = Callable[[Step, Result, Iterable[Result]], Iterator[NewStep]]
