"""The embedded stack as a whole: it leaves nothing behind, whatever happens to it or to us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import redis

from tests.services import processes_below, wait_until
from worker.errors import PgfleetError
from worker.local import s3 as s3_module
from worker.local.place import Place
from worker.local.stack import DATABASE, Stack

PARENT = """
import sys, time
from pathlib import Path
from worker.local.stack import Stack
with Stack(workers=1, root=Path(sys.argv[1])) as stack:
    print(stack.path, flush=True)
    time.sleep(600)
"""


class TestStack:
    def test_two_at_once_and_nothing_left_of_either(self, root: Path) -> None:
        with servers(root) as one, servers(root) as other:
            for stack in (one, other):
                with psycopg.connect(stack.postgres.dsn(stack.env["DB_NAME"])) as connection:
                    connection.execute("SELECT 1")
                assert [found["Name"] for found in stack.s3.client().list_buckets()["Buckets"]] == ["backups"]
                redis.Redis.from_url(stack.env["PGFLEET_BROKER_URL"], single_connection_client=True).close()
            assert not {one.postgres.port, one.valkey.port, one.s3.port} & {
                other.postgres.port,
                other.valkey.port,
                other.s3.port,
            }
            assert one.env["GPG_RECIPIENT"] != other.env["GPG_RECIPIENT"]
        assert not processes_below(root)
        assert not list(root.iterdir())

    def test_a_part_that_does_not_start_stops_the_others(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(s3_module, "_program", lambda: "/bin/false")
        seen: list[int] = []
        stack = Stack(workers=0, root=root, say=lambda what: seen.append(len(processes_below(root))))
        with pytest.raises(PgfleetError, match="the S3 server ended by itself"):
            stack.__enter__()
        assert seen[-1] >= 2  # PostgreSQL and Valkey did run
        assert wait_until(lambda: not processes_below(root), 1)
        assert not list(root.iterdir())

    def test_kill_9_of_its_parent_leaves_no_process_and_the_next_one_sweeps(self, root: Path) -> None:
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, root], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        with parent:
            assert parent.stdout is not None
            path = Path(parent.stdout.readline().strip())
            words = " ".join(processes_below(path).values())
            parent.kill()
        parts = ("bin/postgres", "valkey-server", "weed", "gpg-agent", "worker1", "beat", "flower")
        assert all(name in words for name in parts)
        # gpg-agent looks for its parent every 4 s; the others get a signal
        assert wait_until(lambda: not processes_below(path), 10)
        assert path.exists()
        Place(root=root).remove()
        assert not path.exists()

    def test_sigterm_to_its_process_ends_it_cleanly(self, root: Path) -> None:
        seen = root.parent / "seen"
        script = f"touch {seen}; exec sleep 600"
        command = [sys.executable, "-m", "worker", "local", "--workers", "1", "--", "sh", "-c", script]
        running = subprocess.Popen(command, env=at(root), start_new_session=True)
        assert wait_until(seen.exists, 60)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 128 + signal.SIGTERM
        assert not processes_below(root)
        assert not list(root.iterdir())

    def test_the_command_has_ctrl_c_and_the_stacks_settings_and_none_of_the_callers(self, root: Path) -> None:
        seen = root.parent / "seen"
        script = f"trap 'exit 42' INT; env > {seen}.new; mv {seen}.new {seen}; while :; do sleep 0.1; done"
        outside = {"DB_HOST": "production", "S3_PREFIX": "theirs", "PGFLEET_CONFIG": "/no", "PGHOST": "x"}
        command = [sys.executable, "-m", "worker", "local", "--workers", "1", "sh", "-c", script]
        running = subprocess.Popen(command, env=at(root) | outside, start_new_session=True)
        assert wait_until(seen.exists, 60)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(60) == 42
        env = variables(seen.read_text())
        assert env["DB_HOST"] == "127.0.0.1"
        assert env["GPG_RECIPIENT"]
        assert not {"S3_PREFIX", "PGFLEET_CONFIG", "PGHOST"} & env.keys()
        assert env["TMPDIR"] == str(root)
        assert not processes_below(root)
        assert not list(root.iterdir())


@pytest.fixture(scope="module")
def whole() -> Iterator[Stack]:
    """One with all its parts, for tests that only look at it."""
    with Stack(workers=2) as stack:
        yield stack


class TestWhole:
    def test_listens_on_loopback_only(self, whole: Stack) -> None:
        listening = [address for pid in processes_below(whole.path) for address in listening_on(pid)]
        assert (
            len(listening) >= 13
        )  # PostgreSQL, Valkey, Flower, five services of the S3 server with two ports each
        assert {address.rpartition(":")[0] for address in listening} == {"127.0.0.1"}

    def test_no_secret_is_in_any_argv(self, whole: Stack) -> None:
        secrets = [whole.postgres.password, whole.valkey.password, whole.s3.secret_key, whole.flower_password]
        words = " ".join(processes_below(whole.path).values())
        assert all(name in words for name in ("postgres", "valkey", "weed", "worker", "beat", "flower"))
        assert not [secret for secret in secrets if secret in words]

    def test_env_sh_gives_another_shell_the_same_settings(self, whole: Stack) -> None:
        sourced = subprocess.run(
            ["sh", "-c", f". {whole.env_file} && env"],
            env={"PATH": os.defpath, "PGFLEET_CONFIG": "/no"},
            capture_output=True,
            text=True,
            check=True,
        )
        env = variables(sourced.stdout)
        assert whole.env.items() <= env.items()
        assert "PGFLEET_CONFIG" not in env
        assert whole.env_file.stat().st_mode & 0o777 == 0o600

    def test_with_env_sh_psql_finds_the_server(self, whole: Stack) -> None:
        asked = ["sh", "-c", f". {whole.env_file} && psql -At -c 'SELECT current_database()'"]
        said = subprocess.run(asked, env={"PATH": os.defpath}, capture_output=True, text=True, check=True)
        assert said.stdout == f"{DATABASE}\n"

    def test_flower_wants_its_password(self, whole: Stack) -> None:
        assert whole.fleet.flower_tasks() is not None
        with pytest.raises(OSError, match="401"):
            urllib.request.urlopen(f"{whole.fleet.flower_url}/api/tasks")
        with pytest.raises(OSError, match="401"):
            urllib.request.urlopen(f"{whole.fleet.flower_url}/workers")

    def test_a_dead_worker_is_started_again(self, whole: Stack) -> None:
        assert whole.watch() == []
        os.kill(whole.fleet.workers["worker1"].pid, signal.SIGKILL)
        assert wait_until(lambda: whole.watch() == ["worker worker1"])
        whole.fleet.wait_workers(["worker1"])

    def test_a_worker_that_cannot_start_is_told_with_its_log(self, whole: Stack) -> None:
        bad = whole.fleet.start_worker("bad", "--no-such-option")
        with pytest.raises(PgfleetError, match="ended by itself") as caught:
            whole.fleet.wait_workers(["bad"])
        assert "--no-such-option" in caught.value.hint
        bad.stop()
        del whole.fleet.workers["bad"]


def servers(root: Path) -> Stack:
    return Stack(workers=0, beat=False, flower=False, root=root)


def variables(text: str) -> dict[str, str]:
    """What ``env`` printed."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def at(root: Path) -> dict[str, str]:
    """An environment in which stacks are made below `root`."""
    return {**os.environ, "TMPDIR": str(root)}


def listening_on(pid: int) -> list[str]:
    """``address:port`` of every TCP socket that the process listens on."""
    inodes = set()
    with suppress(PermissionError):  # gpg-agent hides its own; it has no TCP socket
        targets = [os.readlink(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()]
        inodes = {target[8:-1] for target in targets if target.startswith("socket:[")}
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in inodes:
                raw = bytes.fromhex(local.partition(":")[0])
                packed = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
                found.append(f"{socket.inet_ntop(family, packed)}:{int(local.partition(':')[2], 16)}")
    return found
