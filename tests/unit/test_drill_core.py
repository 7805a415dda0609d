"""What a drill comes to, in values."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.core.drill import Rto, Timed, answers, gates, phases, question, rto, scheduled, verdict_of
from worker.core.evidence import signed_text
from worker.errors import ConfigError, ValidationFailed
from worker.steps import drill_server


def steps() -> list[Timed]:
    return [
        Timed("restore.choose", 100, 101, 0),
        Timed("restore.thaw", 101, 101.5, 0),
        Timed("restore.fetch_part", 101.5, 104, 10),
        Timed("restore.fetch_part", 102, 105, 20),
        Timed("restore.decrypt", 105, 106, 30),
        Timed("drill.load", 108, 110, 0),
        Timed("drill.fingerprint", 110, 111, 0),
        Timed("drill.fingerprint_chunk", 111, 115, 5),
    ]


def test_phases_are_wall_time_over_their_steps() -> None:
    found = {phase.name: phase for phase in phases(steps(), 100)}
    assert (found["fetch"].began, found["fetch"].seconds, found["fetch"].bytes) == (1, 4, 30)
    assert found["load"].recovery
    assert not found["fingerprint"].recovery
    assert list(found) == ["choose", "fetch", "decrypt", "load", "fingerprint"]


def test_the_recovery_ends_with_the_load() -> None:
    measured = rto(phases(steps(), 100), 1800)
    assert measured.seconds == 10
    assert not measured.exceeded
    assert rto(phases(steps(), 100), 9).exceeded
    assert rto((), 1800).seconds == 0


@pytest.mark.parametrize(
    ("kind", "tier", "hours"),
    [("GLACIER", "Standard", 5), ("GLACIER", "Expedited", 1 / 12), ("DEEP_ARCHIVE", "Bulk", 48)],
)
def test_from_cold_storage_it_has_to_be_thawed_first(kind: str, tier: str, hours: float) -> None:
    measured = rto(phases(steps(), 100), 1800, kind, tier)
    assert measured.cold_seconds == pytest.approx(10 + hours * 3600, abs=0.001)
    assert measured.cold_class == kind


def test_no_copy_is_cold() -> None:
    assert rto(phases(steps(), 100), 1800, "STANDARD_IA").cold_seconds is None


@pytest.mark.parametrize(
    ("verdict", "encrypted", "seconds", "states"),
    [
        ("proven", True, 10, ("pass", "pass")),
        ("proven", False, 10, ("fail", "pass")),
        ("proven", True, 1801, ("pass", "fail")),
        ("refuted", True, 10, ("pass", "fail")),
        ("could_not_run", True, 10, ("open", "open")),
        ("could_not_run", None, 0, ("open", "open")),
    ],
)
def test_gates(verdict: str, encrypted: bool | None, seconds: float, states: tuple[str, str]) -> None:
    found = gates(verdict, encrypted, ["ABC"], Rto(seconds=seconds, target_seconds=9999))  # type: ignore[arg-type]
    assert tuple(gate.state for gate in found) == states
    assert all(gate.why for gate in found)


@pytest.mark.parametrize(
    ("expect", "value", "ok"),
    [
        ("> 0", 1, True), ("> 0", 0, False), ("= 42", "42.0", True), ("= 42", 41, False), ("<> 3", 4, True),
        ("= 'done'", "done", True), ("= done", "undone", False), (">= 2", None, False), ("!= 1", 1, False),
        ("<= 10", 9, True), ("< b", "a", True), ("= true", True, False), ("= True", True, True),
    ],
)  # fmt: skip
def test_answers(expect: str, value: object, ok: bool) -> None:
    assert answers(expect, value) is ok


def test_a_question() -> None:
    asked = question("orders.sql", "\ufeff--expect: >= 1  \nSELECT 1;\n")
    assert asked.expect == ">= 1"
    assert "SELECT 1" in asked.sql


@pytest.mark.parametrize(
    "text", ["SELECT 1", "-- expect: > 0\n", "-- expect: about 3\nSELECT 1", "", "-- expect: >\nSELECT 1"]
)
def test_no_question(text: str) -> None:
    with pytest.raises(ConfigError, match=r"orders\.sql"):
        question("orders.sql", text)


def test_the_schedule_takes_every_destination_in_turn_and_older_copies_too() -> None:
    places, slots = (
        ("near", "far", "cold"),
        [datetime(2026, month, 2, 4, tzinfo=UTC) for month in range(1, 13)],
    )
    newest = [scheduled("goimg", places, slot)[0][1]["destination"] for slot in slots]
    assert newest[:3] != newest[1:4]
    assert {newest[index] for index in range(3)} == set(places)
    older = [scheduled("goimg", places, slot)[1] for slot in slots]
    assert {job for job, _ in older} == {"drill-older:goimg"}
    ages = {
        slot - datetime.fromisoformat(request["before"])
        for slot, (_, request) in zip(slots, older, strict=True)
    }
    assert ages == {timedelta(days=7), timedelta(days=30), timedelta(days=90)}
    weekly = [datetime(2026, 3, day, 4, tzinfo=UTC) for day in (1, 8, 15)]
    assert {scheduled("goimg", places, slot)[0][1]["destination"] for slot in weekly} == set(places)


def test_without_destinations_the_nearest_copy_is_drilled() -> None:
    assert "destination" not in scheduled("goimg", (), datetime(2026, 1, 2, tzinfo=UTC))[0][1]


def test_what_is_signed_is_all_but_the_signature() -> None:
    record = {"b": "é", "a": [1, {"z": 1, "y": 0.5}], "signature": "…"}
    text = signed_text(record)
    assert text == '{"a":[1,{"y":0.5,"z":1}],"b":"é"}'.encode()
    assert signed_text(json.loads(json.dumps(record))) == text
    assert signed_text(record | {"a": []}) != text


@pytest.mark.parametrize(
    ("compared", "differences", "control", "verdict"),
    [
        (True, False, True, "proven"),
        (True, False, False, "could_not_run"),
        (True, True, False, "refuted"),
        (False, True, True, "could_not_run"),
        (False, False, True, "could_not_run"),
    ],
)
def test_a_verdict_needs_all_of_it(compared: bool, differences: bool, control: bool, verdict: str) -> None:
    assert verdict_of(compared=compared, differences=differences, control=control) == verdict


def test_of_a_seed_scripts_backup_nothing_recorded_what_it_contained(tmp_path: Path) -> None:
    context: Any = SimpleNamespace(
        run_dir=tmp_path, run=SimpleNamespace(backup_id="shop-backup-20240101-020000")
    )
    with pytest.raises(ValidationFailed, match=r"^Nothing recorded what shop-backup\S+ contained") as error:
        drill_server.provision(context)
    assert "`pgfleet restore shop-backup-20240101-020000`" in error.value.hint
    assert "FINGERPRINT" not in error.value.hint
