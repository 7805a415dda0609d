"""What deleting early costs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from worker.core.cost import MINIMUM_DAYS, early_delete_note

STORED = datetime(2024, 1, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("storage_class", "days"),
    [("STANDARD_IA", 30), ("ONEZONE_IA", 30), ("GLACIER_IR", 90), ("GLACIER", 90), ("DEEP_ARCHIVE", 180)],
)
def test_the_note_ends_with_the_minimum_duration(storage_class: str, days: int) -> None:
    end = STORED + timedelta(days=days)
    assert early_delete_note(storage_class, STORED, end) is None
    assert early_delete_note(storage_class, STORED, end - timedelta(seconds=1)) == (
        f"{storage_class} is charged for at least {days} days: deleting now still pays for 1 more day."
    )
    note = early_delete_note(storage_class, STORED, STORED + timedelta(days=10, hours=1))
    assert note is not None
    assert note.endswith(f"{days - 10} more days.")


def test_a_clock_that_is_behind_does_not_lengthen_the_duration() -> None:
    note = early_delete_note("GLACIER", STORED, STORED - timedelta(days=3))
    assert note is not None
    assert note.endswith("for 90 more days.")


@pytest.mark.parametrize(
    "storage_class", ["", "STANDARD", "INTELLIGENT_TIERING", "REDUCED_REDUNDANCY", "UNKNOWN"]
)
def test_other_classes_cost_nothing(storage_class: str) -> None:
    assert storage_class not in MINIMUM_DAYS
    assert early_delete_note(storage_class, STORED, STORED) is None
