"""Cleanup, copies and scrub through a real fleet, and a destination that is down for a whole backup."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.conftest import Fleet, eventually
from worker.local.stack import DATABASE


@pytest.fixture(scope="module")
def backup(fleet: Fleet) -> str:
    answer = fleet("backup", "--json")
    assert answer.code == 0, answer.out + answer.err
    return str(answer.json["backup_id"])


def local(fleet: Fleet) -> Path:
    return Path(fleet.stack.env["BACKUP_DIR"])


def states(fleet: Fleet, backup: str) -> dict[str, str]:
    (listed,) = [item for item in fleet("list", "--json").json if item["backup_id"] == backup]
    return {copy["destination"]: copy["state"] for copy in listed["copies"]}


def test_cleanup(fleet: Fleet, backup: str) -> None:
    """Dumps that the seed's scripts left a year ago go; what the fleet took stays."""
    day = datetime.now(UTC) - timedelta(days=400)
    old = f"{DATABASE}-backup-{day:%Y%m%d}-020000"
    (local(fleet) / f"{old}.dump.gpg").write_bytes(b"by the seed")
    (local(fleet) / f"{old}.dump.gpg.bak").write_bytes(b"mine")
    dry = fleet("cleanup", "--dry-run")
    assert dry.code == 0, dry.err
    assert old in dry.out
    assert (local(fleet) / f"{old}.dump.gpg").exists()
    done = fleet("cleanup", "--json")
    assert done.code == 0, done.err
    assert done.json["result"]["destinations"]["local"]["removed"] == 1
    assert not (local(fleet) / f"{old}.dump.gpg").exists()
    assert (local(fleet) / f"{old}.dump.gpg.bak").exists()
    assert states(fleet, backup) == {"local": "verified", "s3": "verified"}


def test_rot_is_found_and_repaired(fleet: Fleet, backup: str) -> None:
    victim = local(fleet) / f"{backup}.dump.gpg"
    good = victim.read_bytes()
    victim.write_bytes(good[: len(good) // 2])
    found = fleet("scrub", "--json")
    assert found.code == 6, found.out + found.err
    assert found.json["result"]["destinations"]["local"]["damaged"] == [backup]
    assert states(fleet, backup) == {"local": "damaged", "s3": "verified"}
    repaired = fleet("repair", backup)
    assert repaired.code == 0, repaired.out + repaired.err
    assert victim.read_bytes() == good
    assert states(fleet, backup) == {"local": "verified", "s3": "verified"}
    assert fleet("repair", backup).code == 3, "nothing is damaged"


def test_one_more_copy(fleet: Fleet, backup: str) -> None:
    for file in local(fleet).glob(f"{backup}.*"):
        file.unlink()
    copied = fleet("copy", backup, "--to", "local", "--json")
    assert copied.code == 0, copied.out + copied.err
    assert states(fleet, backup) == {"local": "verified", "s3": "verified"}
    assert fleet("copy", backup, "--to", "nowhere").code == 3


def test_a_destination_that_is_down_catches_up(fleet: Fleet) -> None:
    """The other copy is complete and usable at once; nothing is dumped twice."""
    dumped = len(fleet.ledger.runs(kind="backup"))
    fleet.stack.s3.stop()
    try:
        run = fleet("backup", "--json", timeout=180).json
    finally:
        fleet.stack.s3.start()
    backup = run["backup_id"]
    assert {copy["destination"]: copy["state"] for copy in run["copies"]} == {
        "local": "verified",
        "s3": "failed",
    }
    eventually(lambda: states(fleet, backup) == {"local": "verified", "s3": "verified"}, 90, every=1)
    assert len(fleet.ledger.runs(kind="backup")) == dumped + 1
    assert fleet("verify", backup).code == 0
