"""`pgfleet doctor` against real parts: each thing that can be wrong is found, and only that."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from click.testing import CliRunner

from tests.services import Bucket, Database
from worker.cli import cli
from worker.config.load import load
from worker.ledger import Ledger
from worker.ledger.model import WorkerInfo
from worker.local.keys import Keys
from worker.local.postgres import Postgres
from worker.local.valkey import Valkey
from worker.steps.context import Adapters
from worker.steps.doctor_database import checks as database_checks


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        return {check["name"]: check for check in json.loads(self.out)["checks"]}

    def wrong(self) -> dict[str, str]:
        return {name: check["status"] for name, check in self.checks.items() if check["status"] != "ok"}


Doctor = Callable[..., Answer]


@pytest.fixture(scope="module")
def keys(place: Path) -> Iterator[Keys]:
    made = Keys(place / "doctor-keys")
    made.start()
    made.add("soon", "10d")
    yield made
    made.stop()


@pytest.fixture
def env(database: Database, bucket: Bucket, valkey: Valkey, keys: Keys, tmp_path: Path) -> dict[str, str]:
    """Everything as it should be, but for the workers: there are none."""
    return {
        **database.env,
        **bucket.env,
        "BACKUP_DIR": str(tmp_path / "backups"),
        "GNUPGHOME": str(keys.home),
        "GPG_RECIPIENT": keys.recipient,
        "PGFLEET_BROKER_URL": valkey.url,
        "PGFLEET_STATE_DIR": str(tmp_path / "state"),
        "PGFLEET_SPOOL_RESERVE_BYTES": "1MiB",
        "PGFLEET_PG_BIN": str(database.server.bin_dir),
    }


@pytest.fixture
def doctor(env: dict[str, str]) -> Doctor:
    """The command in this process: programs and SDKs are looked at once."""
    Path(env["BACKUP_DIR"]).mkdir()

    def run(*options: str, timeout: float = 30, **changes: str) -> Answer:
        arguments = ["doctor", "--timeout", str(timeout), *options]
        done = CliRunner().invoke(cli, arguments, env={**env, **changes}, standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return Answer(int(done.return_value), done.stdout, done.stderr)

    return run


def workers_are_seen(env: Mapping[str, str], *queues: str) -> None:
    settings = load(env)
    ledger = Ledger(settings.ledger_url.get_secret_value())
    ledger.migrate()
    ledger.beat(WorkerInfo("worker1@host", "host", queues, "spool", "1", 0.0))
    ledger.close()


def test_all_is_well(doctor: Doctor, env: dict[str, str]) -> None:
    workers_are_seen(env, "control", "dump", "verify", "restore")
    answer = doctor("--json", PGFLEET_SIGNING_KEY=env["GPG_RECIPIENT"])
    old_tools = {name: status for name, status in answer.wrong().items() if name.startswith("client tools")}
    assert answer.wrong() == old_tools, answer.out  # what this machine happens to have besides
    assert set(old_tools.values()) <= {"warning"}
    assert answer.code == 0
    report = json.loads(answer.out)
    assert list(report) == ["status", "exit_code", "checks"]
    assert list(report["checks"][0]) == ["name", "status", "detail", "hint", "exit_code"]
    found = answer.checks
    name = env["DB_NAME"]
    assert "PostgreSQL 17." in found[f"database {name}: connection"]["detail"]
    assert "superuser" in found[f"database {name}: connection"]["detail"]
    assert "pg_dump 17." in found[f"database {name}: client"]["detail"]
    assert found[f"database {name}: privileges"]["status"] == "ok"
    assert found[f"database {name}: clock"]["status"] == "ok"
    assert found[f"database {name}: space"]["status"] == "ok"
    assert "never expires" in found[f"database {name}: encryption"]["detail"]
    assert "signs evidence" in found["signing key"]["detail"]
    assert "multipart yes" in found["destination s3"]["detail"]
    assert "versioning off" in found["destination s3"]["detail"]
    assert found["destination s3: storage classes"]["detail"] == "GLACIER, STANDARD, STANDARD_IA"
    assert found["destination local"]["status"] == "ok"
    assert found["broker persistence"]["detail"] == "append-only file"
    assert found["workers dump"]["detail"] == "worker1@host"


def test_the_command_itself(env: dict[str, str]) -> None:
    def run(*options: str, **changes: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "worker", "doctor", *options]
        known = {**os.environ, **env, "COLUMNS": "120", **changes}
        return subprocess.run(argv, env=known, capture_output=True, text=True, timeout=60, check=False)

    shown = run(DB_PASSWORD="hidden-guess")
    assert shown.returncode == 3
    assert "✗  database" in shown.stdout
    assert "✓  destination s3" in shown.stdout
    assert "→ Start them: celery -A worker.app worker" in shown.stdout
    assert "1 failed" in shown.stdout
    for secret in ("hidden-guess", env["S3_SECRET_KEY"], env["PGFLEET_BROKER_URL"].split("@")[0]):
        assert secret not in shown.stdout + shown.stderr
    refused = run("--json", S3_BUKET="x")
    assert refused.returncode == 3
    assert "S3_BUKET" in json.loads(refused.stdout)["error"]["message"]


@pytest.mark.parametrize(
    ("changes", "code", "check", "word"),
    [
        ({"DB_PASSWORD": "guess"}, 3, "database {}: connection", "refused the password"),
        ({"DB_PASSWORD": ""}, 3, "database {}: connection", "None is set"),
        ({"DB_PORT": "1"}, 1, "database {}: connection", "127.0.0.1:1"),
        ({"GPG_RECIPIENT": "nobody@example.com"}, 3, "database {}: encryption", "nobody@example.com"),
        ({"GPG_RECIPIENT": ""}, 3, "database {}: encryption", "recipient"),
        ({"PGFLEET_SIGNING_KEY": "nobody@example.com"}, 3, "signing key", "cannot sign"),
        ({"S3_BUCKET": "is-not-there"}, 1, "destination s3", "is-not-there"),
        ({"S3_SECRET_KEY": "wrong-wrong"}, 1, "destination s3", ""),
        ({"S3_ENDPOINT": "http://127.0.0.1:1"}, 1, "destination s3", "127.0.0.1:1"),
        ({"PGFLEET_BROKER_URL": "redis://127.0.0.1:1/0"}, 1, "broker", "127.0.0.1:1"),
        ({"PGFLEET_SPOOL_RESERVE_BYTES": "900TB"}, 1, "spool", "room for 0 B"),
        ({"PGFLEET_LEDGER_URL": "postgresql://x:hidden-pw@127.0.0.1:1/y"}, 1, "ledger", "127.0.0.1:1"),
        ({"PGFLEET_EXCLUDE_TABLES": "no_such"}, 3, "database {}: privileges", "no_such"),
        ({"S3_OBJECT_LOCK": "governance", "S3_OBJECT_LOCK_DAYS": "1"}, 1, "destination s3", "object lock"),
        ({"BACKUP_DIR": "/proc/backups"}, None, "destination local", "/proc/backups"),
    ],
)
def test_what_is_wrong(
    doctor: Doctor, env: dict[str, str], changes: dict[str, str], code: int | None, check: str, word: str
) -> None:
    answer = doctor("--json", **changes)
    found = answer.checks[check.format(env["DB_NAME"])]
    assert found["status"] == "failed", answer.wrong()
    assert word in found["detail"] + found["hint"]
    assert found["hint"]
    assert found["exit_code"] == answer.code
    assert code in (None, answer.code)
    assert "hidden-pw" not in answer.out + answer.err


def test_no_client_for_the_server(doctor: Doctor, postgres_of: Callable[[int], Postgres]) -> None:
    newer = postgres_of(18)
    newer.createdb("doctor18")
    answer = doctor(
        "--json",
        DB_PORT=str(newer.port),
        DB_PASSWORD=newer.password,
        DB_NAME="doctor18",
    )
    assert answer.code == 2
    found = answer.checks["database doctor18: client"]
    assert (found["status"], found["exit_code"]) == ("failed", 2)
    assert "postgresql-client-18" in found["hint"]
    assert answer.checks["database doctor18: privileges"]["status"] == "ok"
    newer.dropdb("doctor18")


def test_unencrypted_and_soon_expired(doctor: Doctor, env: dict[str, str]) -> None:
    name = f"database {env['DB_NAME']}: encryption"
    answer = doctor("--json", GPG_RECIPIENT="", ALLOW_UNENCRYPTED="true")
    assert (answer.checks[name]["status"], answer.code) == ("warning", 0)
    answer = doctor("--json", GPG_RECIPIENT="soon@pgfleet.invalid")
    assert (answer.checks[name]["status"], answer.code) == ("warning", 0)
    assert "in 9 days" in answer.checks[name]["detail"]


def test_a_broker_that_may_lose_messages(doctor: Doctor, place: Path) -> None:
    broker = Valkey(place / "doctor-valkey")
    broker.start()
    try:
        with redis.Redis.from_url(broker.url) as client:
            client.config_set("appendonly", "no")
            client.config_set("maxmemory-policy", "allkeys-lru")
            unlimited = doctor("--json", PGFLEET_BROKER_URL=broker.url)
            client.config_set("maxmemory", "100mb")
            limited = doctor("--json", PGFLEET_BROKER_URL=broker.url)
        wrong = doctor("--json", PGFLEET_BROKER_URL=f"redis://:hidden-pw@{broker.host}:{broker.port}/0")
    finally:
        broker.stop()
    assert unlimited.checks["broker persistence"]["status"] == "warning"
    assert unlimited.checks["broker policy"]["status"] == "ok"
    assert limited.checks["broker policy"]["status"] == "warning"
    assert limited.code == 0
    assert (wrong.checks["broker"]["status"], wrong.code) == ("failed", 3)
    assert "hidden-pw" not in wrong.out


def test_a_database_that_never_answers(doctor: Doctor, env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        answer = doctor("--json", timeout=1.5, DB_PORT=str(silent.getsockname()[1]))
    found = answer.checks[f"database {env['DB_NAME']}"]
    assert found["status"] == "failed"
    assert "No answer within 1.5 s" in found["detail"]
    assert time.monotonic() - started < 10


def test_a_queue_without_a_worker(doctor: Doctor, env: dict[str, str]) -> None:
    workers_are_seen(env, "control", "dump")
    found = doctor("--json").checks
    assert found["workers dump"]["status"] == "ok"
    assert found["workers verify"]["status"] == "warning"
    assert "-Q verify" in found["workers verify"]["hint"]


PRIVILEGES = """
CREATE SCHEMA open; CREATE SCHEMA closed;
CREATE TABLE open.mine(a int); CREATE TABLE open.secret(a int); CREATE TABLE closed.inner(a int);
CREATE TABLE open.rows(a int); ALTER TABLE open.rows ENABLE ROW LEVEL SECURITY;
CREATE SEQUENCE open.counter;
GRANT USAGE ON SCHEMA open TO reader; GRANT SELECT ON open.mine, open.rows TO reader;
SELECT lo_create(4711);
"""


@pytest.fixture
def reader(database: Database) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """A superuser's connection to a database that the role `reader` may read a part of."""
    with database.connect() as connection:
        connection.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'")
        connection.execute(PRIVILEGES.encode())
        yield connection
        connection.execute("DROP OWNED BY reader; DROP ROLE reader")


def privileges(env: Mapping[str, str], **changes: str) -> list[tuple[str, str]]:
    adapters = Adapters(load({**env, "DB_USER": "reader", "DB_PASSWORD": "reader", **changes}))
    (database,) = adapters.settings.databases.values()
    found = database_checks(adapters, database)
    return [(check.status, check.detail + check.hint) for check in found if check.name.endswith("privileges")]


def test_what_a_role_may_not_read(
    env: dict[str, str], reader: psycopg.Connection[tuple[object, ...]]
) -> None:
    found = privileges(env)
    assert {status for status, _ in found} == {"failed"}
    text = "\n".join(text for _, text in found)
    for word in ("closed", "open.secret", "open.rows", "open.counter", "BYPASSRLS", "pg_read_all_data"):
        assert word in text
    assert "1 large object" in text
    assert "open.mine" not in text

    reader.execute("GRANT pg_read_all_data TO reader; ALTER ROLE reader BYPASSRLS")
    reader.execute("GRANT SELECT ON LARGE OBJECT 4711 TO reader")
    ((status, text),) = privileges(env)
    assert status == "ok"
    assert "not the passwords of roles" in text


def test_what_is_excluded_need_not_be_readable(
    env: dict[str, str], reader: psycopg.Connection[tuple[object, ...]]
) -> None:
    reader.execute("SELECT lo_unlink(4711)")
    found = privileges(
        env, PGFLEET_EXCLUDE_SCHEMAS="closed", PGFLEET_EXCLUDE_TABLES="open.secret,open.r*,open.counter"
    )
    assert [status for status, _ in found] == ["ok"]
