"""Logs: one line per event on stderr, for people or for machines.

``2026-11-23T02:00:05Z INFO backup.dump run=… step=… size=… message``, or one JSON object a line with the keys
``time level logger action message``, then the context, the event's own values, ``error`` and ``traceback``.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

from worker.redaction import redact
from worker.redaction import register as register_secret

__all__ = ["context", "register_secret", "setup"]

Format = Literal["text", "json"]
#: They log credentials, headers or parameters when one asks for DEBUG, and chatter at INFO.
_QUIET = ("amqp", "boto3", "botocore", "gnupg", "kombu", "s3transfer", "sqlalchemy", "urllib3")
_OURS = "pgfleet."
_KEYS = ("time", "level", "logger", "action", "message", "error", "traceback")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_context: ContextVar[Mapping[str, Any]] = ContextVar("pgfleet_log_context", default={})  # noqa: B039 - never changed


@contextmanager
def context(**values: Any) -> Iterator[None]:
    """Add values to every event of this thread (or task) for a while; inner ones win.

    with log.context(run=run.id, step=step.name): …
    """
    token = _context.set({**_context.get(), **values})
    try:
        yield
    finally:
        _context.reset(token)


def setup(format: Format, level: str) -> None:
    """Send all logs to stderr in one way. May be called again; the last call counts."""
    handler = _Stderr()
    handler.setFormatter(_Json() if format == "json" else _Text())
    root = logging.getLogger()
    for old in [one for one in root.handlers if isinstance(one, _Stderr)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(level)))


class _Stderr(logging.StreamHandler[TextIO]):
    """Asks for sys.stderr at each event: whoever replaces it (a test, a progress display) gets the lines."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def _event(record: logging.LogRecord) -> dict[str, Any]:
    """The event as plain, masked values, in the order in which they are shown."""
    extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    logger = record.name.removeprefix(_OURS)
    event: dict[str, Any] = {
        "time": f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%dT%H:%M:%SZ}",
        "level": record.levelname,
        "logger": record.name,
        "action": _action(logger, extra.pop("action", "")),
        "message": redact(record.getMessage()),
    }
    for name, value in {**_context.get(), **extra}.items():
        event[f"extra_{name}" if name in _KEYS else redact(name)] = _plain(value)
    if record.exc_info and record.exc_info[0] is not None:
        kind, error, _ = record.exc_info
        event["error"] = redact(f"{kind.__name__}: {error}")
        event["traceback"] = redact("".join(traceback.format_exception(*record.exc_info)))
    return event


def _action(logger: str, action: str) -> str:
    """``backup.dump``: the logger's area and the event's verb, which may name its area itself."""
    if not action:
        return logger
    return action if "." in action else f"{logger}.{action}"


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {redact(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return redact(str(value))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return _line(json.dumps(_event(record), ensure_ascii=False))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event = _event(record)
        values = " ".join(f"{name}={_word(value)}" for name, value in event.items() if name not in _KEYS[:5])
        head = f"{event['time']} {event['level']} {event['action']}"
        return _line(" ".join(part for part in (head, values, event["message"]) if part))


def _word(value: Any) -> str:
    """A value without spaces as it is, any other as JSON: it can be told from the message."""
    if isinstance(value, str):
        plain = value.isprintable() and value and not set(value) & set(' "=')
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)


def _line(text: str) -> str:
    """On one line: what breaks it is shown as its escape, so that no input can forge an event."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)
