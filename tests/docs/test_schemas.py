"""Real manifests and records, of a real fleet, against the published schemas: nothing in them is undescribed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator, ValidationError

from scripts.reference.pages import DIRECTORY
from tests.acceptance.conftest import QUICK, Fleet
from tests.docs.conftest import ROOT
from worker.core.keys import EvidenceKind
from worker.local.stack import DATABASE, Stack

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def stored() -> Iterator[Found]:
    """Name → content of what lies in a destination after a backup, hold, scrub, restore and drill."""
    with Stack(workers=1, flower=False, settings={**QUICK, "PGFLEET_SCRUB_DAYS": "1"}) as stack:
        with stack.postgres.connect(DATABASE) as connection:
            connection.execute("CREATE TABLE users AS SELECT n AS id FROM generate_series(1, 100) n")
        fleet = Fleet(stack)
        backup = fleet("backup", "--json").json["backup_id"]
        for command in (
            ("hold", backup, "--reason", "a court case"),
            ("scrub",),
            ("restore", "--as", "again", "--table", "public.users"),
        ):
            answer = fleet(*command)
            assert answer.code == 0, answer.out + answer.err
        signed = {"PGFLEET_SIGNING_KEY": stack.keys.recipient}
        answer = fleet("drill", "--here", env=signed)
        assert answer.code == 0, answer.out + answer.err
        yield {path.name: json.loads(path.read_text()) for path in (stack.path / "backups").glob("*.json")}


@cache
def _schema(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((DIRECTORY / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return schema


def _closed(schema: Any) -> Any:
    """Nothing but what is described."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return {**closed, "additionalProperties": False} if isinstance(schema.get("properties"), dict) else closed


def _check(name: str, document: dict[str, Any]) -> None:
    Draft202012Validator(_closed(_schema(name)), format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
        document
    )


def test_manifests(stored: Found) -> None:
    manifests = [content for name, content in stored.items() if name.endswith(".manifest.json")]
    assert len(manifests) == 1
    released = sorted((ROOT / "tests/data/manifests").glob("*.json"))
    for manifest in [*manifests, *(json.loads(path.read_text()) for path in released)]:
        _check("manifest", manifest)


def test_evidence(stored: Found) -> None:
    records = [content for content in stored.values() if "kind" in content]
    assert {record["kind"] for record in records} >= {*get_args(EvidenceKind), "audit"}
    assert any("signature" in record for record in records if record["kind"] == "drill")
    for record in records:
        _check("evidence", record)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        (".manifest.json", {"encrypted": "yes"}),
        (".manifest.json", {"further": 1}),
        (".manifest.json", {"artifacts": []}),
        (".verify-", {"ok": None}),
        (".verify-", {"kind": "drill"}),
        (".drill-", {"verdict": "maybe"}),
        (".drill-", {"further": 1}),
        (".hold-", {"until": 5}),
    ],
)
def test_a_wrong_one_is_refused(stored: Found, name: str, change: dict[str, Any]) -> None:
    document = deepcopy(next(content for key, content in stored.items() if name in key))
    schema = "manifest" if "manifest" in name else "evidence"
    _check(schema, document)
    with pytest.raises(ValidationError):
        _check(schema, document | change)


def test_a_missing_field_is_refused(stored: Found) -> None:
    for key, document in stored.items():
        schema, field = ("manifest", "database") if "manifest" in key else ("evidence", "at")
        with pytest.raises(ValidationError):
            _check(schema, {name: value for name, value in document.items() if name != field})


def test_the_schemas_are_beside_their_pages() -> None:
    for name in ("manifest", "evidence"):
        assert Path(DIRECTORY / f"{name}.md").is_file()
        assert _schema(name)["$schema"].startswith("https://json-schema.org/draft/2020-12")
