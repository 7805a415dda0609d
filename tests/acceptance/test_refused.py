"""Each mistake has its sentence, its hint and its exit code, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.acceptance.conftest import Fleet

MISTAKES = {
    "wrong password": ({"DB_PASSWORD": "wrong"}, 3, "password"),
    "unknown database": ({"DB_NAME": "nothere"}, 3, "nothere"),
    "server does not answer": ({"DB_PORT": "1"}, 4, "127.0.0.1"),
    "bucket does not answer": ({"S3_ENDPOINT": "http://127.0.0.1:1"}, 6, "127.0.0.1:1"),
    "wrong bucket": ({"S3_BUCKET": "nothere"}, 6, "nothere"),
    "wrong secret key": ({"S3_SECRET_KEY": "wrong-wrong-wrong"}, 6, "s3"),
    "unknown recipient": ({"GPG_RECIPIENT": "nobody@example.com"}, 5, "nobody@example.com"),
    "no recipient": ({"GPG_RECIPIENT": ""}, 3, "GPG_RECIPIENT"),
    "misspelt variable": ({"S3_BUKET": "backups"}, 3, "S3_BUCKET"),
    "full spool": ({"PGFLEET_SPOOL_RESERVE_BYTES": "900TB"}, 4, "spool"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake(fleet: Fleet, mistake: str, tmp_path: Path) -> None:
    env, code, word = MISTAKES[mistake]
    # A ledger of its own: the fleet, whose settings are right, would make good for a copy that failed.
    env = {"PGFLEET_MAX_ATTEMPTS": "1", "PGFLEET_LEDGER_URL": f"sqlite:///{tmp_path}/ledger", **env}

    answer = fleet("backup", "--here", "--json", env=env)

    assert answer.code == code, answer.out + answer.err
    error = answer.json["error"]
    assert error["exit_code"] == code
    assert word.lower() in (error["message"] + error["hint"]).lower()
    assert error["message"].count("\n") == 0
    assert error["hint"]
    assert "Traceback" not in answer.out + answer.err
    assert not any((Path(fleet.stack.env["PGFLEET_SPOOL"]) / "runs").iterdir())
    backup = answer.json.get("backup_id")
    assert not [key for key in fleet.stored() if backup and key.startswith(backup)]


@pytest.mark.parametrize(("local", "dumped"), [("", False), ("elsewhere", True)])
def test_what_no_destination_would_take_is_not_dumped(
    fleet: Fleet, tmp_path: Path, local: str, dumped: bool
) -> None:
    answer = fleet(
        "backup", "--here", "--json",
        env={
            "PGFLEET_MAX_ATTEMPTS": "1", "PGFLEET_LEDGER_URL": f"sqlite:///{tmp_path}/ledger",
            "S3_BUCKET": "nothere", "BACKUP_DIR": str(tmp_path / local) if local else "",
        },
    )  # fmt: skip
    assert answer.code == 6
    assert "nothere" in answer.json["error"]["message"]
    assert bool(answer.json["backup_id"]) == dumped, "one that takes it gets its copy"


def test_a_person_sees_three_lines(fleet: Fleet) -> None:
    answer = fleet("backup", "--here", env={"DB_PASSWORD": "wrong", "PGFLEET_MAX_ATTEMPTS": "1"})
    assert answer.code == 3
    assert [line.split(" ")[0] for line in answer.err.splitlines()] == ["✗", "Error:", "Hint:"], answer.err


def test_nothing_proven_yet(fleet: Fleet) -> None:
    assert fleet("backup").code == 0
    answer = fleet("restore", "latest-proven", "--dry-run", "--here", "--json")
    assert answer.code == 1
    assert answer.json["error"]["message"] == "No drill has proven a backup that is here yet."
    assert "pgfleet drill latest" in answer.json["error"]["hint"]


def test_an_unknown_database_is_refused_before_any_run(fleet: Fleet) -> None:
    answer = fleet("backup", "shop", "--json")
    assert answer.code == 3
    assert "goimg" in answer.json["error"]["hint"]
    assert not fleet.ledger.runs(database="shop")
