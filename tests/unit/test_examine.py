"""How a doctor asks: at once, within a time, and never by breaking down."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from worker.errors import ConfigError, DatabaseUnavailable, MissingDependency
from worker.gpg import Key
from worker.steps.doctor import _key
from worker.steps.doctor_database import skew_seconds
from worker.steps.examine import Check, Probe, examine, exit_code, failed, from_error, ok, warning

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def test_checks_come_in_the_order_of_the_probes() -> None:
    slow = threading.Event()

    def first() -> Iterator[Check]:
        yield ok("a", "")
        slow.wait(10)
        yield ok("b", "")

    def second() -> Iterator[Check]:
        yield ok("c", "")
        slow.set()

    found = list(examine([Probe("first", first), Probe("second", second)], 10))
    assert [check.name for check in found] == ["a", "b", "c"]


def test_a_probe_that_hangs_is_given_up_and_keeps_what_it_found() -> None:
    def hang() -> Iterator[Check]:
        yield ok("before", "")
        threading.Event().wait(60)

    started = time.monotonic()
    found = list(examine([Probe("hangs", hang), Probe("works", lambda: [ok("works", "")])], 0.2))
    assert time.monotonic() - started < 5
    assert [(check.name, check.status) for check in found] == [
        ("before", "ok"),
        ("hangs", "failed"),
        ("works", "ok"),
    ]
    assert "0.2 s" in found[1].detail


def test_an_error_is_an_answer() -> None:
    def fail() -> Iterator[Check]:
        yield ok("before", "")
        raise DatabaseUnavailable("It is down.", "Start it.")

    def break_down() -> Iterator[Check]:
        yield from ()
        raise ZeroDivisionError("oh")

    found = list(examine([Probe("one", fail), Probe("two", break_down)], 10))
    assert found[1] == Check("one", "failed", "It is down.", "Start it.", 1)
    assert found[2].status == "failed"
    assert "ZeroDivisionError: oh" in found[2].detail


@pytest.mark.parametrize(
    ("error", "code"), [(MissingDependency("m"), 2), (ConfigError("m"), 3), (DatabaseUnavailable("m"), 1)]
)
def test_codes_of_errors(error: MissingDependency, code: int) -> None:
    assert from_error("x", error).exit_code == code


@pytest.mark.parametrize(
    ("checks", "code"),
    [
        ([], 0),
        ([ok("a", ""), warning("b", "", "")], 0),
        ([failed("a", "", "", 1)], 1),
        ([failed("a", "", "", 1), failed("b", "", "", 3)], 3),
        ([failed("a", "", "", 3), failed("b", "", "", 2), ok("c", "")], 2),
    ],
)
def test_the_exit_code(checks: list[Check], code: int) -> None:
    assert exit_code(checks) == code


@pytest.mark.parametrize(
    ("theirs", "skew"), [(100.0, 0), (100.4, 0), (101.0, 0), (104.0, 3.0), (99.0, -1.0), (90.0, -10.0)]
)
def test_clock_skew_is_what_the_round_trip_does_not_explain(theirs: float, skew: float) -> None:
    assert skew_seconds(theirs, before=100.0, after=101.0) == skew


@pytest.mark.parametrize(
    ("days", "status"), [(None, "ok"), (400, "ok"), (30, "ok"), (29, "warning"), (0, "warning")]
)
def test_a_key_that_ends_soon(days: int | None, status: str) -> None:
    expires = None if days is None else NOW + timedelta(days=days, hours=1)
    key = Key("F" * 40, "Ops <ops@example.com>", expires, "RSA", ("E" * 16,), 4096)
    check = _key("x", key, NOW)
    assert check.status == status
    assert "ops@example.com" in check.detail
    assert bool(check.hint) == (status == "warning")
