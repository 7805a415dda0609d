"""What a flow is made of: rules from a step that ended to the steps that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from worker.ledger.model import NewStep, Step

Result = Mapping[str, Any]
Rule = Callable[[Step, Result, Iterable[Result]], Iterator[NewStep]]

#: After a run has ended, however it ended: the audit record of who asked for it.
ANSWERED_FOR = NewStep("audit.record", always=True, max_attempts=20)
