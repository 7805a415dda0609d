"""A real Flower over a real fleet: asked over HTTP, and what it shows of what happens."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.acceptance.conftest import QUICK, Fleet, eventually
from worker.local import pginstall
from worker.local.ports import free_ports
from worker.local.sample import load_sample
from worker.local.stack import DATABASE, FLOWER_USER, Stack

DOCS = Path(__file__).parents[2] / "docs" / "flower.md"
#: pg_dump that loses its connection once while there is a file `fail`, and does not end while there is a file `hold`.
SLOW = """#!/bin/sh
case "$*" in *--snapshot*) ;; *) exec {real} "$@" ;; esac
if rm {control}/fail 2>/dev/null; then
  echo 'pg_dump: error: connection to server was lost' >&2
  exit 1
fi
{real} "$@" || exit
while [ -e {control}/hold ]; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("control")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, control: Path) -> Iterator[Fleet]:
    slow, real = tmp_path_factory.mktemp("bin"), pginstall.bin_dir(17)
    for program in ("pg_restore", "pg_dumpall", "psql"):
        (slow / program).symlink_to(real / program)
    (slow / "pg_dump").write_text(SLOW.format(real=real / "pg_dump", control=control))
    (slow / "pg_dump").chmod(0o755)
    with Stack(workers=1, settings={**QUICK, "PGFLEET_PG_BIN": f"{slow}:{real}"}) as stack:
        load_sample(stack.postgres, DATABASE)
        yield Fleet(stack)


def ask(fleet: Fleet, path: str, body: object = None, *, password: str | None = "") -> tuple[int, str]:
    """(status, text); `password` None: without a login."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(fleet.stack.fleet.flower_url + path, data)
    if password is not None:
        login = f"{FLOWER_USER}:{password or fleet.stack.flower_password}"
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def post(fleet: Fleet, task: str, **fields: object) -> str:
    """The id of the task."""
    status, text = ask(fleet, f"/api/task/async-apply/{task}", {"kwargs": fields})
    assert status == 200, text
    return str(json.loads(text)["task-id"])


def info(fleet: Fleet, task: str) -> dict[str, Any]:
    status, text = ask(fleet, f"/api/task/info/{task}")
    return dict(json.loads(text)) if status == 200 else {"state": ""}


def answer(fleet: Fleet, task: str) -> dict[str, Any]:
    """What Flower knows of a task that has ended."""
    eventually(lambda: info(fleet, task)["state"] in ("SUCCESS", "FAILURE"))
    return info(fleet, task)


def run_of(fleet: Fleet, task: str) -> str:
    (run,) = json.loads(answer(fleet, task)["result"])
    return str(run["run_id"])


def tasks(fleet: Fleet, run_id: str, name: str = "", state: str = "") -> list[dict[str, Any]]:
    search = f"kwargs:{run_id}" + (f" name:{name}" if name else "") + (f" state:{state}" if state else "")
    status, text = ask(fleet, f"/api/tasks?search={urllib.parse.quote(search)}")
    assert status == 200, text
    return list(json.loads(text).values())


def ended(fleet: Fleet, run_id: str) -> str:
    eventually(lambda: not fleet.ledger.run(run_id).open, 120)
    return fleet.ledger.run(run_id).state


@pytest.fixture(scope="module")
def backup(fleet: Fleet) -> str:
    """The run of a backup that was asked for over HTTP."""
    run_id = run_of(fleet, post(fleet, "pgfleet.backup", databases=[DATABASE], requested_by="curl"))
    assert ended(fleet, run_id) == "verified"
    return run_id


def test_a_backup(fleet: Fleet, backup: str) -> None:
    run = fleet.ledger.run(backup)
    assert run.requested_by == "curl"
    (conclude,) = eventually(lambda: tasks(fleet, backup, "backup.conclude", "SUCCESS"))
    assert conclude["result"] == "the backup ended: verified"


def test_tasks_are_readable(fleet: Fleet, backup: str) -> None:
    backup_id = fleet.ledger.run(backup).backup_id
    eventually(lambda: tasks(fleet, backup, "backup.conclude", "SUCCESS"))
    (dump,) = tasks(fleet, backup, "backup.dump")
    assert (dump["args"], dump["kwargs"], dump["routing_key"]) == (DATABASE, f"run {backup}", "dump")
    assert re.fullmatch(r"[\d.]+ MiB in .+ s \(.+/s\)", dump["result"])
    parts = tasks(fleet, backup, "backup.upload_part")
    assert {part["args"] for part in parts} >= {f"{DATABASE} dump@s3#{number}" for number in (1, 2, 3)}
    assert {part["kwargs"] for part in parts} == {f"run {backup} {backup_id}"}
    assert {part["routing_key"].partition(".")[0] for part in parts} == {"spool"}
    status, page = ask(fleet, "/tasks")
    assert status == 200
    for column in ("args", "state", "result", "exception", "routing_key"):
        assert f'data-column="{column}"' in page


def test_not_without_the_password(fleet: Fleet) -> None:
    before = len(fleet.ledger.runs())
    for password in (None, "wrong"):
        assert ask(fleet, "/api/task/async-apply/pgfleet.backup", {}, password=password)[0] == 401
        assert ask(fleet, "/api/tasks", password=password)[0] == 401
        assert ask(fleet, "/tasks", password=password)[0] == 401
    assert len(fleet.ledger.runs()) == before


@pytest.mark.parametrize(
    ("fields", "why", "hint"),
    [
        ({"dsn": "postgresql://u:hunter2@h/x"}, "a field that is not known", "Known are: databases"),
        ({"databases": ["host=h password=hunter2"]}, "never an address", "Write the alias"),
        ({"databases": ["nosuch"]}, "no database called 'nosuch'", "Configured: goimg"),
        ({"databases": DATABASE}, "databases", "Correct it"),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused(fleet: Fleet, fields: dict[str, Any], why: str, hint: str) -> None:
    before = len(fleet.ledger.runs())
    refused = answer(fleet, post(fleet, "pgfleet.backup", **fields))
    assert refused["state"] == "FAILURE"
    assert why in refused["exception"]
    assert refused["exception"].startswith("ConfigError: ")
    assert hint in refused["traceback"]
    assert "hunter2" not in json.dumps(refused)
    assert "File" not in refused["traceback"], "a person reads what to do, and no stack"
    assert len(fleet.ledger.runs()) == before


def test_what_is_no_request_at_all(fleet: Fleet) -> None:
    at = "/api/task/async-apply/pgfleet."
    assert ask(fleet, f"{at}bakup", {})[0] == 404
    assert ask(fleet, f"{at}backup", b"not JSON")[0] == 400
    for body in ({"args": ["postgresql://u:hunter2@h/x"]}, {"args": [{}], "kwargs": {"databases": []}},
                 {"kwargs": ["hunter2"]}):  # fmt: skip
        status, text = ask(fleet, f"{at}backup", body)
        assert status == 200
        refused = answer(fleet, json.loads(text)["task-id"])
        assert "neither one JSON object nor fields by name" in refused["exception"]
        assert "hunter2" not in json.dumps(refused)


def test_progress_while_it_works(fleet: Fleet, control: Path) -> None:
    (control / "hold").touch()
    try:
        run_id = run_of(fleet, post(fleet, "pgfleet.backup"))
        (dump,) = eventually(lambda: tasks(fleet, run_id, "backup.dump", "PROGRESS"))
        assert re.fullmatch(r"\d\d? %: [\d.]+ \w+ of [\d.]+ MiB, .+/s", dump["result"])
        assert dump["args"] == DATABASE
        assert not dump["succeeded"]
    finally:
        (control / "hold").unlink()
    assert ended(fleet, run_id) == "verified"
    (dump,) = eventually(lambda: tasks(fleet, run_id, "backup.dump", "SUCCESS"))
    assert " in " in dump["result"], "the end stands in the place of the progress"


def test_a_retry_says_why(fleet: Fleet, control: Path) -> None:
    (control / "fail").touch()
    run_id = run_of(fleet, post(fleet, "pgfleet.backup"))
    assert ended(fleet, run_id) == "verified"
    (retried,) = eventually(lambda: tasks(fleet, run_id, "backup.dump", "RETRY"))
    assert re.search(
        r"DatabaseUnavailable: .+ cut the connection.+again in .+ s, attempt 1 of 5 failed",
        retried["exception"],
    )
    assert f"pgfleet run show {run_id}" in retried["traceback"]
    assert "File" not in retried["traceback"]
    (second,) = tasks(fleet, run_id, "backup.dump", "SUCCESS")
    assert second["uuid"] != retried["uuid"]


def test_no_secret_is_shown(fleet: Fleet, backup: str) -> None:
    """After the others: everything that Flower has seen."""
    shown = ask(fleet, "/api/tasks")[1] + ask(fleet, "/api/workers?refresh=1")[1]
    log = (fleet.stack.path / "flower.log").read_text()
    assert "backup.dump" in shown
    stack = fleet.stack
    secrets = [stack.env[name] for name in ("DB_PASSWORD", "S3_SECRET_KEY")]
    for secret in (*secrets, stack.valkey.password, stack.flower_password):
        assert secret not in shown
        assert secret not in log


@contextmanager
def another_flower(fleet: Fleet, **settings: str) -> Iterator[str]:
    """With no password, unless `settings` bring one; its URL."""
    (port,) = free_ports(1)
    env = {name: value for name, value in fleet.stack.environment.items() if "FLOWER" not in name}
    argv = [sys.executable, "-m", "celery", "--quiet", "-A", "worker.app", "flower", f"--port={port}"]
    process = subprocess.Popen(argv, env={**env, **settings}, cwd=fleet.stack.path, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def status_of(url: str, data: bytes | None = None, login: str = "") -> int:
    request = urllib.request.Request(url, data)
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=20) as found:
            return int(found.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_without_a_password_it_shows_and_does_nothing(fleet: Fleet) -> None:
    with another_flower(fleet) as url:
        eventually(lambda: status_of(f"{url}/tasks") == 200)
        assert status_of(f"{url}/api/tasks") == 401
        assert status_of(f"{url}/api/task/async-apply/pgfleet.backup", b"{}") == 401
        listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True, check=True).stdout
        port = url.rpartition(":")[2]
        assert re.findall(rf"(\S+):{port}\s", listening) == ["127.0.0.1"], "for this host alone"


def test_it_takes_the_password_of_the_settings(fleet: Fleet) -> None:
    """As `celery -A worker.app flower` is started by hand; commas in a password are part of it."""
    settings = {"PGFLEET_FLOWER_PASSWORD": "one,two", "FLOWER_READ_ONLY": "true"}
    with another_flower(fleet, **settings) as url:
        eventually(lambda: status_of(f"{url}/tasks", login="pgfleet:one,two") == 200)
        assert status_of(f"{url}/tasks") == 401
        assert status_of(f"{url}/tasks", login="pgfleet:one") == 401
        backup = f"{url}/api/task/async-apply/pgfleet.backup"
        assert status_of(backup, b"{}", login="pgfleet:one,two") == 403


def test_the_page_in_the_documentation(fleet: Fleet, backup: str, tmp_path: Path) -> None:
    """Its commands in their order, in one shell, as a reader would type them: a backup, a drill, a restore."""
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 5
    script = "\n".join(blocks).replace("http://127.0.0.1:5555", fleet.stack.fleet.flower_url)
    script = script.replace("PASSWORD", fleet.stack.flower_password).replace("~/", f"{tmp_path}/")
    env = {**fleet.stack.environment, "HOME": str(tmp_path)}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the backup ended: verified" in done.stdout
    assert "the drill ended: proven" in done.stdout
    assert "The backup request is refused" in done.stdout
    (drill,) = fleet.ledger.runs(kind="drill")
    (restore,) = fleet.ledger.runs(kind="restore")
    assert ended(fleet, drill.id) == "proven"
    assert ended(fleet, restore.id) == "succeeded", fleet.ledger.run(restore.id).error
    with psycopg.connect(fleet.stack.postgres.dsn("look_inside")) as restored:
        assert restored.execute("SELECT count(*) > 0 FROM images").fetchone() == (True,)
    netrc = tmp_path / ".pgfleet-flower"
    assert stat.S_IMODE(netrc.stat().st_mode) == 0o600
