"""The report says what the record says, escapes what is foreign, and needs nothing beside it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import pytest

from worker.core.drill import Phase
from worker.report import render
from worker.report.pictures import Past, timeline, trend

PHASES = [
    {"name": "fetch", "recovery": True, "began": 0.0, "seconds": 4.0, "bytes": 1024},
    {"name": "load", "recovery": True, "began": 4.0, "seconds": 90.0, "bytes": 0},
    {"name": "compare", "recovery": False, "began": 94.0, "seconds": 1.0, "bytes": 0},
]


def record(**changes: Any) -> dict[str, Any]:
    return {
        "format": 1, "kind": "drill", "backup_id": "goimg-backup-20260102-020000", "at": "2026-01-02T03:00:00+00:00",
        "verdict": "proven", "ok": True, "error": None, "run_id": "run1", "requested_by": "ann@host",
        "database": "goimg", "dbname": "goimg", "destination": "s3", "snapshot_at": "2026-01-02T02:00:00+00:00",
        "age_seconds": 3600.0, "backup_bytes": 12345, "restored_bytes": 99999, "recipients": ["ABCDEF"],
        "client": "pg_dump 17.5", "server": {"source": "17.5", "drill": "17.5", "kind": "a throwaway server"},
        "rto": {"seconds": 94.0, "target_seconds": 1800, "phases": PHASES, "cold_class": "", "cold_seconds": None},
        "mode": "full",
        "compared": {"tables": 3, "rows": 1234567, "checksums": 3, "sequences": 1, "large_objects": 0, "objects": 9},
        "differences": [], "differences_total": 0, "expected_changes": [], "tables": [],
        "checks": {"foreign_keys": 2, "amcheck": 4, "no_amcheck": "", "questions": []},
        "control": {"table": "public.t", "change": "one row deleted", "ok": True, "found": ["public.t"], "skipped": ""},
        "gates": [{"id": "S9-PROD-003", "title": "Encrypted", "state": "pass", "why": "Yes."}],
        "notes": ["A note."], "pgfleet": "0.1.0", "signed_by": "",
    } | changes  # fmt: skip


class _Page(HTMLParser):
    """Tags that are open at the end, and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def page(html: str) -> _Page:
    found = _Page()
    found.feed(html)
    assert found.open == []
    return found


def test_a_page_that_needs_nothing_beside_it() -> None:
    report = render(record())
    assert page(report.html).addresses == []
    assert "http" not in report.html
    assert "This backup restores to the database that it was taken from." in report.html
    assert "1\u202f234\u202f567" in report.html
    assert "1 min 34 s" in report.html


def test_what_is_foreign_is_escaped() -> None:
    evil = '<script>alert("x")</script>|b\nc'
    difference = {"kind": "content", "what": evil, "expected": evil, "found": "absent", "reason": ""}
    report = render(
        record(
            verdict="refuted", differences=[difference], differences_total=1, notes=[evil], database=evil,
            error={"message": evil, "hint": evil},
        )
    )  # fmt: skip
    assert "<script" not in report.html
    page(report.html)
    (row,) = [line for line in report.markdown.splitlines() if line.startswith("| content |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 5


@pytest.mark.parametrize("verdict", ["proven", "refuted", "could_not_run"])
@pytest.mark.parametrize("kind", ["drill", "validate"])
def test_each_kind_and_verdict(kind: str, verdict: str) -> None:
    error = {"message": "It broke.", "hint": "Mend it."} if verdict != "proven" else None
    nothing = {"seconds": 0.0, "target_seconds": 1800, "phases": [], "cold_class": "", "cold_seconds": None}
    changes = {"compared": None, "rto": nothing} if verdict == "could_not_run" else {}
    report = render(record(kind=kind, verdict=verdict, error=error, **changes))
    page(report.html)
    assert ("It broke." in report.html) is (error is not None)
    assert ("Timeline" in report.html) is (verdict != "could_not_run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"checksums": 0}, "What is in the rows was not compared."),
        ({"tables": 0, "rows": 0, "checksums": 0}, "there is no table in it"),
    ],
)
def test_a_proof_of_less_does_not_read_like_a_whole_one(changes: dict[str, int], said: str) -> None:
    report = render(record(mode="counts", compared=record()["compared"] | changes))
    for text in report:
        assert said in text
        assert "restores to the database that it was taken from" not in text


def test_cold_storage_is_told() -> None:
    rto = record()["rto"] | {"cold_class": "GLACIER", "cold_seconds": 18094.0}
    report = render(record(rto=rto))
    assert "GLACIER" in report.html
    assert "5 h 2 min" in report.markdown


def test_pictures_are_well_formed() -> None:
    phases = [Phase.model_validate(phase) for phase in PHASES]
    drawn = ElementTree.fromstring(timeline(phases, 94.0))
    assert len(drawn.findall("rect")) == 3
    past = [Past(f"2026-{month:02}-02", 60.0 + month, "proven") for month in range(1, 13)]
    drawn = ElementTree.fromstring(trend([*past, Past("<now>", 4000.0, "refuted")], 1800))
    assert len(drawn.findall("circle")) == 13
    assert trend([], 1800) == timeline([], 0) == ""


@pytest.mark.parametrize("seconds", [0.0, 0.001, 5.0, 90_000.0])
def test_any_time_can_be_drawn(seconds: float) -> None:
    ElementTree.fromstring(timeline([Phase(name="load", recovery=True, began=0.0, seconds=seconds)], seconds))
    ElementTree.fromstring(trend([Past("today", seconds, "proven")], 1800))
