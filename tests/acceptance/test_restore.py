"""A restore as a person, an application and a message ask for it, through a fleet; and without any of us."""

from __future__ import annotations

import importlib.util
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pytest
from celery import Celery

from tests.acceptance.conftest import QUICK, Fleet, eventually
from tests.restore_scene import content_of
from worker.client import Client
from worker.errors import ConfigError
from worker.local.sample import load_sample
from worker.local.stack import BUCKET, DATABASE, Stack

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Stack(workers=2, flower=False, settings={**QUICK, "PGFLEET_ALLOW_REPLACE": "true"}) as stack:
        load_sample(stack.postgres, DATABASE)
        fleet = Fleet(stack)
        answer = fleet("backup", "--json")
        assert answer.code == 0, answer.out + answer.err
        yield fleet


@pytest.fixture
def client(fleet: Fleet) -> Client:
    return Client(fleet.stack.valkey.url, fleet.stack.env["PGFLEET_LEDGER_URL"], name="shop")


def same(fleet: Fleet, name: str) -> bool:
    pg = fleet.stack.postgres
    return content_of(pg, name) == content_of(pg, DATABASE)


def databases(fleet: Fleet) -> set[str]:
    with fleet.stack.postgres.connect() as connection:
        return {str(row[0]) for row in connection.execute("SELECT datname FROM pg_database")}


def test_the_latest_into_a_new_database(fleet: Fleet) -> None:
    answer = fleet("restore", "--json")
    assert answer.code == 0, answer.out + answer.err
    result = answer.json["result"]
    assert re.fullmatch(rf"{DATABASE}_restored_\d{{8}}_\d{{6}}", result["restored_as"])
    assert same(fleet, result["restored_as"])
    assert {"choose", "fetch_part", "decrypt", "load", "finish", "swap"} <= result["phases"].keys()
    assert all(check["ok"] for check in result["checks"])
    eventually(lambda: any(".restore-" in key for key in _local(fleet)))


def _local(fleet: Fleet) -> list[str]:
    return os.listdir(fleet.stack.env["BACKUP_DIR"])


def test_replace_undo_finish(fleet: Fleet) -> None:
    with psycopg.connect(fleet.stack.postgres.dsn(DATABASE), autocommit=True) as writer:
        writer.execute("CREATE TABLE since (id int)")
    assert fleet("restore", "--replace").code == 3, "nobody was there to be asked"
    dry = fleet("restore", "--replace", "--dry-run")
    assert dry.code == 0, dry.out + dry.err
    assert "would be replaced" in dry.out
    answer = fleet("restore", "--replace", "--force", "--json")
    assert answer.code == 0, answer.out + answer.err
    run = answer.json
    kept = run["result"]["kept_as"]
    assert kept in databases(fleet)
    assert "public.since" not in content_of(fleet.stack.postgres, DATABASE)
    assert fleet("restore", "undo", run["run_id"], "--force").code == 0
    assert "public.since" in content_of(fleet.stack.postgres, DATABASE)
    done = fleet("restore", "finish", run["run_id"], "--force", "--json")
    assert done.code == 0, done.out
    assert not {name for name in databases(fleet) if run["run_id"] in name}
    with psycopg.connect(fleet.stack.postgres.dsn(DATABASE), autocommit=True) as writer:
        writer.execute("DROP TABLE since")
    asked = {"restore", "undo", "finish", "settings"}
    eventually(lambda: asked <= {entry["action"] for entry in audited(fleet) if entry["destinations"]})
    of_run = [entry for entry in audited(fleet) if entry["detail"].get("of_run") == run["run_id"]]
    assert {(entry["action"], entry["result"]) for entry in of_run} == {
        ("undo", "succeeded"),
        ("finish", "succeeded"),
    }
    roles = {entry["detail"]["role"] for entry in audited(fleet) if entry["action"] == "settings"}
    assert roles == {"worker", "beat", "command"}
    nobody = {"PGFLEET_LEDGER_URL": "postgresql://127.0.0.1:1/none"}
    stored = [entry for entry in audited(fleet) if entry["destinations"]]
    assert audited(fleet, env=nobody) == stored, "the ledger is not needed"


def audited(fleet: Fleet, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    answer = fleet("audit", "--json", env=env)
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


@pytest.mark.parametrize(("typed", "code"), [("goimg2", 3), (DATABASE, 0)])
def test_a_person_types_the_name(fleet: Fleet, typed: str, code: int) -> None:
    terminal, theirs = pty.openpty()
    os.write(terminal, f"{typed}\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "worker", "restore", "--replace", "--drop-old"],
        env=fleet.stack.environment,
        stdin=theirs,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(terminal)
    os.close(theirs)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Type its name" in done.stderr
    assert not {name for name in databases(fleet) if "_before_" in name}


def test_here_with_nothing_but_the_bucket_and_a_key(fleet: Fleet, tmp_path: Path) -> None:
    gone = {
        "PGFLEET_BROKER_URL": "redis://127.0.0.1:1/0",
        "PGFLEET_LEDGER_URL": "postgresql://127.0.0.1:1/none",
        "PGFLEET_STATE_DIR": str(tmp_path / "state"),
        "PGFLEET_SPOOL": str(tmp_path / "spool"),
    }
    answer = fleet("restore", "--here", "--as", "burned", "--destination", "s3", "--json", env=gone)
    assert answer.code == 0, answer.out + answer.err
    assert same(fleet, "burned")
    fetched = fleet("fetch", "latest", "-o", str(tmp_path), "--json", env=gone)
    assert fetched.code == 0, fetched.out + fetched.err
    (file,) = fetched.json["result"]["files"]
    again = fleet("restore", "--file", file["file"], "--as", "from_file", "--json", env=gone)
    assert again.code == 0, again.out + again.err
    assert same(fleet, "from_file")


def test_an_application(fleet: Fleet, client: Client) -> None:
    run = client.request_restore(DATABASE, as_name="for_shop", idempotency_key="ticket-1")
    assert client.request_restore(DATABASE, as_name="for_shop", idempotency_key="ticket-1").id == run.id
    with pytest.raises(ConfigError, match="given to another request"):
        client.request_restore(DATABASE, as_name="for_others", idempotency_key="ticket-1")
    assert fleet("restore", "--as", "for_others", "--key", "ticket-1").code == 3
    assert client.wait(run.id, timeout=90, poll=0.2).state == "succeeded"
    view = client.restored(run.id)
    assert (view.restored_as, view.target) == ("for_shop", DATABASE)
    assert same(fleet, "for_shop")
    refused = client.request_restore(DATABASE, replace=True, confirm="something else")
    assert client.wait(refused.id, timeout=60, poll=0.2).error["exit_code"] == 3  # type: ignore[index]


def test_the_example_application(fleet: Fleet, client: Client) -> None:
    spec = importlib.util.spec_from_file_location(
        "restore_app", ROOT / "docs" / "examples" / "restore_app.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    web = module.create_app(client).test_client()
    asked = web.post(
        "/restores", json={"database": DATABASE, "as_name": "by_web"}, headers={"Idempotency-Key": "web-1"}
    )
    assert asked.status_code == 202
    url = f"/restores/{asked.json['run_id']}"
    eventually(lambda: web.get(url).json["state"] == "succeeded", 90)
    assert web.get(url).json["restored_as"] == "by_web"
    assert same(fleet, "by_web")
    assert web.get("/restores/nothing").status_code == 404
    for wrong in (
        {"database": DATABASE, "backup": "../../etc"},
        {"database": DATABASE, "tables": 5},
        {},
        [],
        "x",
    ):
        assert web.post("/restores", json=wrong).status_code == 400, wrong


def test_a_message_names_aliases_only(fleet: Fleet) -> None:
    before = {run.id for run in fleet.ledger.runs(kind="restore")}
    with Celery(broker=fleet.stack.valkey.url) as other:
        for bad in ({"target": "host=evil"}, {"file": "/etc/passwd"}, {"output": "/tmp"}, {"undo": "x"}):
            other.send_task("pgfleet.restore", args=[{"database": DATABASE, **bad}], queue="control")
        other.send_task(
            "pgfleet.restore", args=[{"database": DATABASE, "as_name": "by_message"}], queue="control"
        )
    eventually(lambda: {run.id for run in fleet.ledger.runs(kind="restore")} - before)
    (new,) = {run.id for run in fleet.ledger.runs(kind="restore")} - before
    eventually(lambda: not fleet.ledger.run(new).open, 90)
    assert fleet.ledger.run(new).state == "succeeded"


def test_a_worker_killed_while_loading(fleet: Fleet) -> None:
    run_id = fleet("restore", "--as", "survived", "--no-wait", "--json").json["run_id"]
    eventually(
        lambda: any(s.state == "running" for s in fleet.ledger.steps(run_id, name="restore.load")), every=0.01
    )
    for worker in fleet.stack.fleet.workers.values():
        worker.kill()
    for worker in fleet.stack.fleet.workers.values():
        worker.start()
    eventually(lambda: not fleet.ledger.run(run_id).open, 90)
    assert fleet.ledger.run(run_id).state == "succeeded", fleet.ledger.run(run_id).error
    assert same(fleet, "survived")
    eventually(lambda: [s.state for s in fleet.ledger.steps(run_id, name="restore.sweep")] == ["done"])
    assert not {name for name in databases(fleet) if "_restore_" in name}
    assert not (Path(fleet.stack.env["PGFLEET_SPOOL"]) / "runs" / run_id).exists()


def test_cancelled_while_loading(fleet: Fleet) -> None:
    run_id = fleet("restore", "--as", "unwanted", "--no-wait", "--json").json["run_id"]
    eventually(
        lambda: any(s.state == "running" for s in fleet.ledger.steps(run_id, name="restore.load")), every=0.01
    )
    assert fleet.ledger.cancel(run_id, "test")
    eventually(lambda: [s.state for s in fleet.ledger.steps(run_id, name="restore.sweep")] == ["done"])
    assert not {name for name in databases(fleet) if "_restore_" in name or name == "unwanted"}


AWS = """#!{python}
import os, sys, fnmatch, boto3
words = [word for word in sys.argv[1:]]
endpoint = words.pop(words.index("--endpoint-url") + 1); words.remove("--endpoint-url")
s3 = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
def listed(bucket):
    return s3.list_objects_v2(Bucket=bucket)["Contents"]
bucket, _, key = words[2].removeprefix("s3://").partition("/")
if words[:2] == ["s3", "ls"]:
    for found in listed(bucket):
        print(f"{{found['LastModified']:%Y-%m-%d %H:%M:%S}} {{found['Size']:>10}} {{found['Key']}}")
elif "--recursive" in words:
    pattern = words[words.index("--include") + 1]
    for found in listed(bucket):
        if fnmatch.fnmatch(found["Key"], pattern):
            s3.download_file(bucket, found["Key"], found["Key"])
else:
    s3.download_file(bucket, key, key)
"""


def test_recovery_without_pgfleet_as_written(fleet: Fleet, tmp_path: Path) -> None:
    """The page's own commands in one shell, with gpg, pg_restore, and a stand-in for the aws command's two verbs."""
    page = (ROOT / "docs" / "recovery-without-pgfleet.md").read_text()
    blocks = re.findall(r"```sh run( one| several)?\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 7
    script = "set -euo pipefail\nset +o pipefail\n" + "\n".join(
        text for kind, text in blocks if kind != " several"
    )
    (tmp_path / "bin").mkdir()
    aws = tmp_path / "bin" / "aws"
    aws.write_text(AWS.format(python=sys.executable))
    aws.chmod(0o755)
    stack, pg = fleet.stack, fleet.stack.postgres
    env = {
        "PATH": f"{aws.parent}:{pg.bin_dir}:{os.environ['PATH']}", "HOME": str(tmp_path),
        "GNUPGHOME": stack.env["GNUPGHOME"], "LC_ALL": "C.UTF-8",
        "AWS_ACCESS_KEY_ID": stack.s3.access_key, "AWS_SECRET_ACCESS_KEY": stack.s3.secret_key,
        "PGHOST": pg.host, "PGPORT": str(pg.port), "PGUSER": pg.user, "PGPASSWORD": pg.password,
        "ENDPOINT": stack.s3.endpoint, "BUCKET": BUCKET, "DATABASE": DATABASE,
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{DATABASE}-backup-" in done.stdout
    assert re.search(r"\.dump: good", done.stdout)
    assert re.search(r"globals\.sql: good", done.stdout)
    assert same(fleet, f"{DATABASE}_recovered")
