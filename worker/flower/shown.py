"""A task as monitors show it: arguments that a person can read, an end in one sentence, an error with what to do."""

from __future__ import annotations

import json
import logging
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Task
from celery.exceptions import Retry, TaskPredicate

from worker.core import human
from worker.core.requests import parse
from worker.errors import ConfigError, PgfleetError
from worker.flower.progress import Progress
from worker.ledger.model import Claim, Hint
from worker.redaction import redact
from worker.runner import Watch
from worker.steps.context import Context, Outcome

logger = logging.getLogger("pgfleet.tasks")
_HIDDEN = "not shown: what is refused may hold a secret"


class Said:
    """What a task returns: monitors show a result's repr, and that of a text would be quoted."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


class TaskFailed(Exception):
    """An error as monitors show it: its repr is the sentence itself."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __repr__(self) -> str:
        return self.message

    __str__ = __repr__


class ShownTask(Task):  # type: ignore[type-arg]
    """Errors leave it as TaskFailed, and where monitors expect a traceback they find what to do.

    A traceback helps nobody there, and may hold what should not be seen; the worker's log has it where it matters.
    """

    abstract = True
    typing = False  # a wrong request is refused by its own check, in a sentence
    throws = (TaskFailed,)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except (TaskPredicate, TaskFailed):
            raise
        except PgfleetError as error:
            logger.warning(error.message, extra={"action": "refused", "task": self.name, "hint": error.hint})
            raise _failed(type(error).__name__, error.message, error.hint) from None
        except Exception as error:
            logger.exception("a task ended in a way that nobody expects", extra={"task": self.name})
            text = " ".join(str(error).split())[:500]
            hint = "The worker's log has the details; please report it."
            raise _failed(type(error).__name__, text or "no message", hint) from None

    def on_failure(self, exc: Any, task_id: Any, args: Any, kwargs: Any, einfo: Any) -> None:
        einfo.traceback = getattr(exc, "hint", "")

    on_retry = on_failure


class EntryTask(ShownTask):
    """A task that takes a request: as one object, or its fields by name. What is refused is not shown."""

    abstract = True
    kind = ""

    def apply_async(self, args: Any = None, kwargs: Any = None, *rest: Any, **options: Any) -> Any:
        if not isinstance(kwargs, dict | None):
            args, kwargs = [*(args or ()), kwargs], {}  # refused by the worker, in a sentence
        try:
            payload = request_of(self.kind, args or (), kwargs or {})
            parse(self.kind, payload)
            shown = json.dumps(payload)
        except ConfigError:
            shown = _HIDDEN
        options = {"argsrepr": "", "kwargsrepr": shown, **options}
        return super().apply_async(args, kwargs, *rest, **options)


def request_of(kind: str, args: Any, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request that came as one object or by name. Raises ConfigError."""
    if not args:
        return dict(fields)
    if len(args) > 1 or fields or not isinstance(args[0], dict | None):
        raise ConfigError(
            f"The {kind} request is refused: it is neither one JSON object nor fields by name.",
            'Send {"kwargs": {…}} with the fields, or {"args": [{…}]} with one object that has them.',
        )
    return dict(args[0] or {})


def arguments(hint: Hint) -> tuple[str, str]:
    """What the step works on (``goimg dump.gpg@s3#3``), and for which run and backup: args and kwargs as shown.

    What differs between tasks comes first, for lists cut the rest off.
    """
    key = hint.key.removeprefix(hint.backup_id).lstrip(".") if hint.backup_id else hint.key
    return f"{hint.database} {key}".rstrip(), f"run {hint.run_id} {hint.backup_id or ''}".rstrip()


class Shown(Watch):
    """How one attempt at a step went, for the task that made it."""

    def __init__(self, task: ShownTask) -> None:
        self._task = task
        self._end: Said | Exception = Said("nothing to do: it is done already, or not due yet")

    def during(self, context: Context) -> AbstractContextManager[object]:
        return Progress(self._task, context)

    def done(self, claim: Claim, outcome: Outcome, seconds: float) -> None:
        size = outcome.result.get("bytes")
        text = f"done in {human.duration(seconds)}"
        if isinstance(size, int) and size:
            text = f"{human.size(size)} in {human.duration(seconds)} ({human.rate(size, seconds)})"
        self._end = Said(f"the {claim.run.kind} ended: {outcome.end}" if outcome.end is not None else text)

    def again(self, claim: Claim, error: PgfleetError, seconds: float, *, counts: bool) -> None:
        """Monitors show it as retried. Celery sends no further message: the ledger knows when it is due."""
        tries = (
            f", attempt {claim.step.attempts} of {claim.step.max_attempts} failed" if counts else ", waiting"
        )
        text = f"{type(error).__name__}: {error.message} (again in {human.duration(seconds)}{tries})"
        if not counts:
            text = f"{error.message} (again in {human.duration(seconds)})"
        self._end = Retry(exc=TaskFailed(redact(text), _advice(claim, error.hint)), when=_in(seconds))

    def failed(self, claim: Claim, error: PgfleetError) -> None:
        self._end = _failed(type(error).__name__, error.message, _advice(claim, error.hint))

    def lost(self, claim: Claim) -> None:
        self._end = Said("cancelled, or taken over by another worker")

    def conclude(self) -> Said:
        """What the task returns. Raises Retry, TaskFailed."""
        if isinstance(self._end, Exception):
            raise self._end
        return self._end


def _in(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _failed(kind: str, message: str, hint: str) -> TaskFailed:
    return TaskFailed(redact(f"{kind}: {message}"), redact(hint))


def _advice(claim: Claim, hint: str) -> str:
    return redact("\n".join(filter(None, [hint, f"All of it: pgfleet run show {claim.run.id}"])))
