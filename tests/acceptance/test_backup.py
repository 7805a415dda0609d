"""The main job: what a user sees of a backup that goes through the fleet, and how to do without us."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import psycopg
import pytest
from celery import Celery

from tests.acceptance.conftest import Fleet, eventually
from worker.client import Client
from worker.core.backup import Manifest
from worker.local.stack import BUCKET, DATABASE


@pytest.fixture(scope="module")
def backup(fleet: Fleet) -> str:
    """The id of a verified backup."""
    answer = fleet("backup", "--json")
    assert answer.code == 0, answer.out + answer.err
    assert answer.json["state"] == "verified"
    return str(answer.json["backup_id"])


def counts(dsn: str) -> dict[str, int]:
    tables = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    with psycopg.connect(dsn) as connection:
        names = [row[0] for row in connection.execute(tables)]
        return {name: connection.execute(f"SELECT count(*) FROM ONLY {name}").fetchone()[0] for name in names}


def manifest(fleet: Fleet, backup: str) -> Manifest:
    body = fleet.stack.s3.client().get_object(Bucket=BUCKET, Key=f"{backup}.manifest.json")["Body"]
    return Manifest.from_json(body.read())


def test_json_of_a_backup(fleet: Fleet) -> None:
    answer = fleet("backup", DATABASE, "--json")
    run = answer.json
    assert run["exit_code"] == 0
    assert {copy["destination"]: copy["state"] for copy in run["copies"]} == {
        "local": "verified",
        "s3": "verified",
    }
    shown = fleet("run", "show", run["run_id"], "--json").json
    assert shown["state"] == "verified"
    assert {step["name"] for step in shown["steps"]} >= {
        "backup.dump", "backup.encrypt", "backup.upload", "backup.upload_part", "backup.seal",
        "backup.verify", "backup.verify_part", "backup.attest", "backup.conclude",
    }  # fmt: skip


def test_it_is_listed_and_shown(fleet: Fleet, backup: str) -> None:
    (listed,) = [item for item in fleet("list", "--json").json if item["backup_id"] == backup]
    assert [copy["state"] for copy in listed["copies"]] == ["verified", "verified"]
    assert backup in fleet("list").out
    shown = fleet("show", backup)
    assert shown.code == 0
    assert "pg_restore" in shown.out
    assert fleet("show", "latest", "--json").json["backup_id"] == fleet("list", "--json").json[0]["backup_id"]


def test_the_bucket_holds_only_what_the_manifest_names(fleet: Fleet, backup: str) -> None:
    names = {key for key in fleet.stored() if key.startswith(backup)}
    named = {artifact.name for artifact in manifest(fleet, backup).artifacts}
    evidence = {name for name in names if ".verify-" in name}
    assert len(evidence) == 1
    assert names == named | evidence | {f"{backup}.manifest.json"}
    assert all(name.endswith(".gpg") for name in named)
    assert not fleet.open_uploads()


def test_a_large_artifact_went_up_in_equal_parts(fleet: Fleet, backup: str) -> None:
    dump = next(artifact for artifact in manifest(fleet, backup).artifacts if artifact.kind == "dump")
    assert len(dump.parts) > 1
    assert {part.size for part in dump.parts[:-1]} == {dump.part_size}
    assert sum(part.size for part in dump.parts) == dump.size


def test_the_manifest_counts_the_rows(fleet: Fleet, backup: str) -> None:
    counted = {t.name: t.rows for t in manifest(fleet, backup).tables}
    real = counts(fleet.stack.postgres.dsn(DATABASE))
    assert {name: counted[name] for name in real} == real
    assert sum(real.values()) > 1000


def test_by_hand_with_nothing_of_ours(fleet: Fleet, backup: str, tmp_path: Path) -> None:
    """curl, gpg, createdb and pg_restore, as the manifest says; only the download is curl's instead of aws's."""
    stack, pg = fleet.stack, fleet.stack.postgres
    env = stack.environment | {
        "PATH": f"{pg.bin_dir}:{stack.environment['PATH']}",
        "PGHOST": pg.host, "PGPORT": str(pg.port), "PGUSER": pg.user, "PGPASSWORD": pg.password,
    }  # fmt: skip
    for command in manifest(fleet, backup).restore:
        words = shlex.split(command, comments=True)
        if words[:3] == ["aws", "s3", "cp"]:
            key = words[-2].removeprefix(f"s3://{BUCKET}/")
            words = [
                "curl", "--fail", "--silent", "--aws-sigv4", "aws:amz:us-east-1:s3",
                "--user", f"{stack.s3.access_key}:{stack.s3.secret_key}",
                "--output", key, f"{stack.s3.endpoint}/{BUCKET}/{key}",
            ]  # fmt: skip
        elif words[0] == "psql":
            continue  # the roles of this server are there; PostgreSQL's own words would be "already exists"
        subprocess.run(words, cwd=tmp_path, env=env, check=True, capture_output=True)
    restored = counts(pg.dsn(f"{DATABASE}_restored"))
    assert restored == counts(pg.dsn(DATABASE))
    pg.dropdb(f"{DATABASE}_restored")


def test_damage_is_found_and_never_listed_as_good(fleet: Fleet) -> None:
    backup = fleet("backup", "--json").json["backup_id"]
    assert fleet("verify", backup).code == 0
    victim = Path(fleet.stack.env["BACKUP_DIR"]) / f"{backup}.dump.gpg"
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)

    answer = fleet("verify", backup, "--json")

    assert answer.code == 6
    assert answer.json["state"] == "damaged"
    (listed,) = [item for item in fleet("list", "--json").json if item["backup_id"] == backup]
    assert {copy["destination"]: copy["state"] for copy in listed["copies"]} == {
        "local": "damaged",
        "s3": "verified",
    }


def test_an_application_asks_and_waits(fleet: Fleet) -> None:
    client = Client(fleet.stack.valkey.url, fleet.stack.env["PGFLEET_LEDGER_URL"], name="shop")
    run = client.request_backup(DATABASE, idempotency_key="before-migration-1")
    assert client.request_backup(DATABASE, idempotency_key="before-migration-1").id == run.id
    ended = client.wait(run.id, timeout=90, poll=0.2)
    assert ended.state == "verified"
    assert ended.backup_id in {known.backup_id for known in client.backups(DATABASE)}


def test_another_celery_application_asks_by_message_alone(fleet: Fleet) -> None:
    before = {run.id for run in fleet.ledger.runs(kind="backup")}
    with Celery(broker=fleet.stack.valkey.url) as other:
        other.send_task("pgfleet.backup", args=[{"databases": [DATABASE]}], queue="control")
    (new,) = eventually(lambda: {run.id for run in fleet.ledger.runs(kind="backup")} - before)
    assert eventually(lambda: not fleet.ledger.run(new).open)
    assert fleet.ledger.run(new).state == "verified"


def test_here_needs_no_broker_and_no_workers(fleet: Fleet) -> None:
    gone = {
        "PGFLEET_BROKER_URL": "redis://127.0.0.1:1/0",
        "PGFLEET_LEDGER_URL": "postgresql://127.0.0.1:1/none",
    }
    answer = fleet("backup", "--here", "--json", env=gone)
    assert answer.code == 0, answer.out + answer.err
    assert answer.json["state"] == "verified"


def test_cancel_stops_and_sweeps(fleet: Fleet) -> None:
    with psycopg.connect(fleet.stack.postgres.dsn(DATABASE)) as blocker:
        blocker.execute("LOCK TABLE images IN ACCESS EXCLUSIVE MODE")
        run_id = fleet("backup", "--no-wait", "--json").json["run_id"]
        eventually(lambda: fleet.ledger.run(run_id).state == "running")
        assert fleet("cancel", run_id).code == 0
        assert fleet.ledger.run(run_id).state == "cancelled"
    sweep = lambda: [s.state for s in fleet.ledger.steps(run_id, name="backup.sweep")]  # noqa: E731
    eventually(lambda: sweep() == ["done"])
    assert not (Path(fleet.stack.env["PGFLEET_SPOOL"]) / "runs" / run_id).exists()


def test_no_secret_is_told(fleet: Fleet, backup: str) -> None:
    stack = fleet.stack
    secrets = [stack.env[name] for name in ("DB_PASSWORD", "S3_SECRET_KEY")] + [stack.valkey.password]
    logs = "".join(path.read_text() for path in stack.path.glob("worker*.log"))
    assert backup in logs or "backup.dump" in logs
    shown = fleet("config").out + fleet("config", "--json").out
    for secret in secrets:
        assert secret not in logs
        assert secret not in shown
