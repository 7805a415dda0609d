"""What core must not believe: impossible names, manifests that contradict themselves."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from worker.core import keys
from worker.core.backup import Manifest, backup_id
from worker.core.parts import MIB, plan
from worker.errors import StorageError

FORMAT_1 = Path("tests/data/manifests/format-1.json")
OTHER = "goimg-backup-20240101-020000.dump.gpg"


@pytest.mark.parametrize(
    "name",
    [
        "goimg-backup-20241399-990000.dump.gpg",
        "goimg-backup-20240230-020000.manifest.json",
        "goimg-backup-\u0662\u0660\u0662\u0664\u0660\u0663\u0660\u0661-020000.dump.gpg",
        "goimg-backup-20240301-020000.verify-99999999T999999999999Z.json",
    ],
)
def test_a_name_with_an_impossible_time_is_a_stranger(name: str) -> None:
    assert keys.parse(name) is None


def test_objects_of_an_alias_that_holds_an_id_are_found() -> None:
    backup = backup_id("a-backup-20240301-020000.x", datetime(2024, 3, 2, tzinfo=UTC))
    assert keys.parse(keys.manifest_key(backup)) == keys.Name(backup, "manifest")


def changed(**fields: Any) -> str:
    return json.dumps(json.loads(FORMAT_1.read_text()) | fields)


def artifact(**fields: Any) -> dict[str, Any]:
    first: dict[str, Any] = json.loads(FORMAT_1.read_text())["artifacts"][0]
    return first | fields


@pytest.mark.parametrize(
    "fields",
    [
        {"backup_id": "../../x"},
        {"artifacts": []},
        {"artifacts": [artifact(name="../../etc/passwd")]},
        {"artifacts": [artifact(name=OTHER)]},  # cleanup would delete another backup's object
        {"artifacts": [artifact(), artifact()]},
        {"artifacts": [artifact(size=-5)]},
        {"artifacts": [artifact(size=artifact()["size"] + 1)]},  # parts do not add up
        {"artifacts": [artifact(part_size=5_000_000)]},  # offsets would be wrong
        {"artifacts": [artifact(sha256="x")]},
        {"snapshot_at": "2024-03-03T02:00:00"},  # naive: cannot be compared
        {"snapshot_at": 5},
        {"encrypted": "off"},
    ],
)
def test_a_manifest_that_contradicts_itself_is_damaged(fields: dict[str, Any]) -> None:
    with pytest.raises(StorageError):
        Manifest.from_json(changed(**fields))


@pytest.mark.parametrize("name", ["a b", "a/b", "", ".."])
def test_an_id_that_could_not_be_read_back_is_not_made(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        backup_id(name, datetime(2024, 3, 1, tzinfo=UTC))


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        plan(-1, 64 * MIB)
