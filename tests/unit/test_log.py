"""One line per event, in two formats, without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from worker import log, redaction

logger = logging.getLogger("pgfleet.backup")
HOSTILE = st.text(
    st.characters(codec="utf-8", exclude_characters="*"), min_size=redaction.SHORTEST, max_size=40
)


@pytest.fixture(autouse=True)
def _own_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    monkeypatch.setattr(redaction, "_known", set())
    monkeypatch.setattr(redaction, "_pattern", None)
    yield
    root.handlers[:], level = before
    root.setLevel(level)


def lines(format: log.Format, emit: Any, level: str = "INFO") -> list[str]:
    log.setup(format, level)
    stderr, sys.stderr = sys.stderr, io.StringIO()
    try:
        emit()
        return sys.stderr.getvalue().splitlines()
    finally:
        sys.stderr = stderr


def test_text() -> None:
    def emit() -> None:
        with log.context(run="r1", step="backup.dump"):
            logger.info("dumped %s", "goimg", extra={"action": "dump", "size": 12, "rate": "3 MiB/s"})

    (line,) = lines("text", emit)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO backup\.dump "
        r'run=r1 step=backup\.dump size=12 rate="3 MiB/s" dumped goimg',
        line,
    )


def test_json_has_stable_keys() -> None:
    def emit() -> None:
        with log.context(run="r1"):
            logger.warning(
                "hm", extra={"action": "backup.dump", "size": 12, "level": "mine", "parts": [1, 2]}
            )

    (line,) = lines("json", emit)
    event = json.loads(line)
    assert list(event)[:5] == ["time", "level", "logger", "action", "message"]
    assert event["time"].endswith("Z")
    assert {**event, "time": ""} == {
        "time": "", "level": "WARNING", "logger": "pgfleet.backup", "action": "backup.dump", "message": "hm",
        "run": "r1", "size": 12, "extra_level": "mine", "parts": [1, 2],
    }  # fmt: skip


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exception_and_a_broken_line_stay_one_line(format: log.Format) -> None:
    def emit() -> None:
        logger.info("first\nsecond\u2028third\x1b[31m", extra={"file": "a\nb"})
        try:
            raise ValueError("no\nway")
        except ValueError:
            logger.exception("failed")

    found = lines(format, emit)
    assert len(found) == 2
    assert "ValueError" in found[1]
    assert "Traceback" in found[1]
    assert "\x1b" not in found[0]


def test_context_nests_and_ends() -> None:
    def emit() -> None:
        with log.context(run="r1", step="a"):
            with log.context(step="b"):
                logger.info("inner")
            logger.info("outer")
        logger.info("none")

    steps = [json.loads(line).get("step") for line in lines("json", emit)]
    assert steps == ["b", "a", None]


def test_context_is_of_one_thread() -> None:
    def emit() -> None:
        with log.context(run="r1"):
            thread = threading.Thread(target=lambda: logger.info("other"))
            thread.start()
            thread.join()

    (line,) = lines("json", emit)
    assert "run" not in json.loads(line)


def test_levels_and_chatty_libraries() -> None:
    def emit() -> None:
        logger.debug("ours")
        logging.getLogger("botocore.auth").debug("Authorization: …")
        logging.getLogger("botocore.auth").warning("told")

    assert [line.split(" ")[-1] for line in lines("text", emit, "DEBUG")] == ["ours", "told"]
    assert lines("text", lambda: logger.debug("ours")) == []


def test_setting_up_twice_logs_once() -> None:
    log.setup("json", "INFO")
    assert len(lines("text", lambda: logger.info("once"))) == 1


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(secret=HOSTILE, format=st.sampled_from(["text", "json"]))
def test_a_registered_secret_appears_nowhere(secret: str, format: log.Format) -> None:
    redaction._known.clear()
    log.register_secret(secret)

    def emit() -> None:
        logger.info(f"message {secret} end")
        logger.info("args %s %r", secret, {"password": secret})
        logger.info(
            "extra",
            extra={"dsn": secret, "deep": {"list": [secret, {"x": secret}]}, "error_": ValueError(secret)},
        )
        logger.info("url %s", f"redis://:{quote(secret, safe='')}@host/0")
        with log.context(run=secret):
            logger.info("context")
        try:
            raise RuntimeError(f"cannot connect with {secret}")
        except RuntimeError:
            logger.exception("failed")

    found = lines(format, emit)
    assert len(found) == 6
    for line in found:
        assert redaction.MASK in line
        shown = json.loads(line) if format == "json" else {"line": line}
        shown.pop("time", None)
        assert not _holds(shown, secret)


def _holds(value: Any, secret: str) -> bool:
    """In a value, though not in what every line has: a secret like "INFO" would be found in each."""
    if isinstance(value, dict):
        return any(_holds(inner, secret) for inner in value.values())
    if isinstance(value, list):
        return any(_holds(inner, secret) for inner in value)
    frame = re.compile(r"\d{4}-\d\d-\d\dT[\d:]+Z|INFO|ERROR|backup|pgfleet|Traceback[^*]*")
    return secret in frame.sub("", str(value))


def test_an_unregistered_text_is_left_alone() -> None:
    log.register_secret("hunter22")
    (line,) = lines("text", lambda: logger.info("hunter2 and hunter 22"))
    assert line.endswith("hunter2 and hunter 22")


def test_the_longer_of_two_secrets_is_masked_whole() -> None:
    log.register_secret("hunter")
    log.register_secret("hunter-and-more")
    assert redaction.redact("x hunter-and-more y") == f"x {redaction.MASK} y"


def test_a_secret_too_short_to_mask_does_not_blot_out_every_line() -> None:
    log.register_secret("a")
    assert redaction.redact("a banana") == "a banana"
