"""The embedded stack's parts: they start, answer, stop, and leave nothing behind, whatever happens to us."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services import Bucket, KeyPair, processes_below, wait_until
from worker.errors import MissingDependency, PgfleetError
from worker.local import s3 as s3_module
from worker.local.child import Child
from worker.local.environment import plain
from worker.local.keys import Keys
from worker.local.place import Place
from worker.local.ports import free_ports, on_free_ports
from worker.local.postgres import Postgres
from worker.local.s3 import S3, S3User
from worker.local.sample import load_sample
from worker.local.stack import Stack
from worker.local.user import server_user
from worker.local.valkey import Valkey

PARENT = """
import sys, time
from pathlib import Path
from worker.local.stack import Stack
with Stack(workers=0, beat=False, flower=False, root=Path(sys.argv[1])) as stack:
    print(stack.path, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def own() -> Iterator[Path]:
    """A place of the test's own, empty of processes at the end."""
    place = Place(server_user())
    yield place.path
    left = processes_below(place.path)
    place.remove()
    assert not left


@pytest.fixture
def root(own: Path) -> Path:
    """Where the test's stacks make their places."""
    root = own / "root"
    root.mkdir()
    root.chmod(0o711)
    return root


def shell(own: Path, script: str, **options: object) -> Child:
    argv = ["/bin/sh", "-c", script]
    return Child("the script", argv, env=plain(own), cwd=own, log=own / "log", **options)  # type: ignore[arg-type]


class TestChild:
    def test_that_ends_while_it_starts_shows_its_last_words(self, own: Path) -> None:
        child = shell(own, "echo first; echo 'no such luck' >&2; exit 7")
        child.start()
        with pytest.raises(PgfleetError, match=r"the script ended by itself \(exit code 7\)") as caught:
            child.wait_ready(lambda: False, 10)
        assert "first\nno such luck" in caught.value.hint

    def test_that_is_never_ready_is_told_after_the_deadline(self, own: Path) -> None:
        child = shell(own, "sleep 60")
        child.start()
        with pytest.raises(PgfleetError, match="was not ready after 0 s"):
            child.wait_ready(lambda: False, 0.1)
        assert child.running
        child.stop()

    def test_that_ignores_the_stop_signal_is_killed_with_its_children(self, own: Path) -> None:
        child = shell(
            own, "trap '' TERM; sleep 61 & echo ready; while :; do sleep 0.1; done", stop_seconds=0.2
        )
        child.start()
        child.wait_ready(lambda: "ready" in child.tail(), 5)
        assert len(processes_below(own)) >= 2
        child.stop()
        assert wait_until(lambda: not processes_below(own), 1)

    def test_outlives_the_thread_that_started_it(self, own: Path) -> None:
        """The kernel's death signal is about the creating thread: it must not be the caller's."""
        child = shell(own, "sleep 60")
        thread = threading.Thread(target=child.start)
        thread.start()
        thread.join()
        with pytest.raises(PgfleetError, match="did not end"):
            child.wait(0.3)
        child.stop()
        assert not child.running

    def test_can_be_started_again(self, own: Path) -> None:
        child = shell(own, "echo once; exec sleep 60")
        for count in (1, 2):
            child.start()
            with pytest.raises(PgfleetError, match="started already"):
                child.start()
            assert wait_until(lambda count=count: child.tail().count("once") == count)  # type: ignore[misc]
            child.stop()

    def test_an_exit_by_signal_is_128_more(self, own: Path) -> None:
        child = shell(own, "kill -9 $$")
        child.start()
        assert child.wait(5) == 137

    def test_a_program_that_is_not_there_says_so(self, own: Path) -> None:
        child = Child("nothing", [own / "missing"], env=plain(own), log=own / "log")
        child.start()
        with pytest.raises(PgfleetError, match="exit code 126") as caught:
            child.wait_ready(lambda: False, 5)
        assert "No such file" in caught.value.hint


class TestPorts:
    def test_are_different(self) -> None:
        assert len(set(free_ports(50))) == 50

    def test_another_is_tried_when_somebody_was_quicker(self) -> None:
        tried = []

        def start(ports: list[int]) -> str:
            tried.append(ports)
            if len(tried) < 3:
                raise PgfleetError("It ended.", "bind: Address already in use")
            return "up"

        assert on_free_ports(2, start) == "up"
        assert len({tuple(ports) for ports in tried}) == 3

    def test_other_failures_are_not_tried_again(self) -> None:
        tried = []

        def start(ports: list[int]) -> None:
            tried.append(ports)
            raise PgfleetError("It ended.", "no space left on device")

        with pytest.raises(PgfleetError, match="It ended"):
            on_free_ports(1, start)
        assert len(tried) == 1

    def test_postgres_finds_another_when_its_port_is_taken(
        self, own: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            offers = iter([[taken.getsockname()[1]], free_ports(1)])
            monkeypatch.setattr("worker.local.ports.free_ports", lambda count: next(offers))
            server = Postgres(own / "pg", fsync=False)
            server.start()
            assert server.port != taken.getsockname()[1]
            server.stop()


class TestPlace:
    def test_is_removed(self, root: Path) -> None:
        place = Place(root=root)
        (place.path / "some").mkdir()
        place.remove()
        place.remove()
        assert not list(root.iterdir())

    def test_of_a_killed_owner_is_swept_and_no_other(self, root: Path) -> None:
        living, kept, dead = Place(root=root), Place(root=root, keep=True), Place(root=root)
        kept.remove()
        os.close(dead._lock)  # what the kernel does when its owner is killed
        newest = Place(root=root)
        assert {entry for entry in root.iterdir()} == {living.path, kept.path, newest.path}
        living.remove()
        newest.remove()

    @pytest.mark.skipif(os.geteuid() != 0, reason="about a second user")
    def test_must_be_open_to_the_servers_user(self, own: Path) -> None:
        closed = own / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(PgfleetError, match="No temporary directory is open to the user"):
            Place(server_user(), root=closed)

    def test_a_long_root_is_refused(self, own: Path) -> None:
        deep = own / ("x" * 60)
        deep.mkdir()
        with pytest.raises(PgfleetError, match="short path"):
            Place(root=deep)


class TestPostgres:
    def test_each_major_starts_stops_and_keeps_its_data(self, own: Path, pg_major: int) -> None:
        server = Postgres(own / "pg", pg_major)
        server.start()
        server.createdb("some")
        with server.connect("some") as connection:
            connection.execute("CREATE TABLE t AS SELECT 1 AS a")
            version = connection.info.server_version
        assert version // 10000 == pg_major
        port = server.port
        server.stop()
        assert not processes_below(own)
        server.start()
        assert server.port == port
        with server.connect("some") as connection:
            assert connection.execute("SELECT a FROM t").fetchone() == (1,)
        server.stop()

    def test_wants_the_password_on_tcp_and_on_the_socket(self, pg: Postgres) -> None:
        for host in (pg.host, str(pg.socket_dir)):
            ways = {"host": host, "port": pg.port, "user": pg.user, "dbname": "postgres"}
            psycopg.connect(**ways, password=pg.password).close()
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(**ways, password="guess")

    def test_a_major_that_is_not_there_is_told(self, own: Path) -> None:
        with pytest.raises(MissingDependency, match="No PostgreSQL 9 server"):
            Postgres(own / "pg", 9)

    @pytest.mark.parametrize("major", [16, 17])
    def test_an_installation_out_of_its_users_reach_is_copied(self, own: Path, major: int) -> None:
        """A clone under /root, with umask 077: the venv can be read by root alone."""
        hidden = own / "hidden"
        server = Postgres(own / "pg", major, fsync=False)
        package = server.bin_dir.parents[1]
        for source in package.parent.glob(f"{package.name}*"):
            shutil.copytree(source, hidden / source.name, symlinks=True)
        subprocess.run(["chmod", "-R", "go=", hidden], check=True)
        server.bin_dir = hidden / server.bin_dir.relative_to(package.parent)
        server.start()
        with server.connect() as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert (own / "pg" / "postgresql").exists() == (os.geteuid() == 0)
        server.stop()

    def test_the_sample_loads_on_each_major(self, postgres_of, pg_major: int) -> None:  # type: ignore[no-untyped-def]
        server = postgres_of(pg_major)
        server.createdb("sampled")
        assert load_sample(server, "sampled") > 20_000_000
        with server.connect("sampled") as connection:
            assert connection.execute("SELECT count(*) FROM thumbnails").fetchone() == (2000,)
        server.dropdb("sampled")

    def test_system_user_is_not_root(self, pg: Postgres) -> None:
        assert Path(f"/proc/{pg.child.pid}").stat().st_uid != 0


class TestValkey:
    def test_is_a_broker_that_forgets_nothing(self, valkey: Valkey) -> None:
        client = redis.Redis.from_url(valkey.url)
        names = ("appendonly", "appendfsync", "maxmemory-policy", "bind")
        assert [client.config_get(name)[name] for name in names] == [
            "yes",
            "everysec",
            "noeviction",
            "127.0.0.1",
        ]
        client.close()

    def test_wants_the_password(self, valkey: Valkey) -> None:
        once = Retry(NoBackoff(), 0)
        with (
            redis.Redis(host=valkey.host, port=valkey.port, retry=once) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()

    def test_restart_keeps_what_it_knew_unless_told(self, own: Path) -> None:
        server = Valkey(own / "valkey")
        server.start()
        client = redis.Redis.from_url(server.url)
        client.set("a", 1)
        client.waitaof(1, 0, 5000)
        before = server.child.pid
        server.restart()
        assert server.child.pid != before
        assert client.get("a") == b"1"
        server.restart(empty=True)
        assert client.get("a") is None
        client.close()
        server.stop()


class TestS3:
    def test_keeps_objects_over_a_restart(self, own: Path) -> None:
        server = S3(own / "s3")
        server.start()
        server.create_bucket("kept")
        server.client().put_object(Bucket="kept", Key="a", Body=b"text")
        server.stop()
        assert not processes_below(own)
        server.start()
        assert server.client().get_object(Bucket="kept", Key="a")["Body"].read() == b"text"
        ports = [path.stem.rpartition("-")[2] for path in server._sockets]
        server.stop()
        assert not [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*{port}.sock")]

    def test_refuses_wrong_keys_and_missing_buckets(self, bucket: Bucket) -> None:
        stranger = S3User.new("stranger")
        with pytest.raises(ClientError, match="InvalidAccessKeyId"):
            bucket.client(stranger).list_buckets()
        with pytest.raises(ClientError, match="NoSuchBucket"):
            bucket.client().put_object(Bucket="no-such-bucket", Key="a", Body=b"")

    def test_a_user_may_only_do_what_was_given(self, own: Path) -> None:
        reader = S3User.new("reader", "Read", "List")
        server = S3(own / "s3", users=[reader])
        server.start()
        server.create_bucket("some")
        server.client().put_object(Bucket="some", Key="a", Body=b"text")
        assert server.client(reader).get_object(Bucket="some", Key="a")["Body"].read() == b"text"
        with pytest.raises(ClientError, match="AccessDenied"):
            server.client(reader).put_object(Bucket="some", Key="b", Body=b"")
        server.stop()

    def test_object_lock(self, s3: S3) -> None:
        s3.create_bucket("locked", object_lock=True)
        assert s3.client().get_bucket_versioning(Bucket="locked")["Status"] == "Enabled"


class TestKeys:
    def test_encrypt_and_decrypt(self, gpg_keys: KeyPair, other_gpg_keys: KeyPair, tmp_path: Path) -> None:
        sealed = tmp_path / "sealed"
        gpg(
            gpg_keys.home,
            "--recipient",
            gpg_keys.fingerprint,
            "--output",
            str(sealed),
            "--encrypt",
            text="hello",
        )
        assert gpg(gpg_keys.home, "--decrypt", str(sealed)) == "hello"
        with pytest.raises(subprocess.CalledProcessError):
            gpg(other_gpg_keys.home, "--decrypt", str(sealed))

    def test_the_public_half_can_be_imported_elsewhere(self, gpg_keys: KeyPair, own: Path) -> None:
        (own / "home").mkdir(mode=0o700)
        gpg(own / "home", "--no-autostart", "--import", str(gpg_keys.public_key))
        assert gpg_keys.fingerprint in gpg(own / "home", "--list-keys", "--with-colons")
        assert gpg_keys.fingerprint not in gpg(
            own / "home", "--no-autostart", "--list-secret-keys", "--with-colons"
        )

    def test_an_expired_key(self, own: Path) -> None:
        keys = Keys(own)
        keys.start()
        short = keys.add("short", "seconds=1")
        wait_until(lambda: "\npub:e:" in "\n" + gpg(keys.home, "--list-keys", "--with-colons", short), 5)
        with pytest.raises(subprocess.CalledProcessError):
            gpg(keys.home, "--recipient", short, "--encrypt", text="hello")
        keys.stop()

    def test_the_agent_stops(self, own: Path) -> None:
        keys = Keys(own)
        keys.start()
        assert any("gpg-agent" in command for command in processes_below(own).values())
        keys.stop()
        assert wait_until(lambda: not processes_below(own), 1)


def gpg(home: Path, *arguments: str, text: str = "") -> str:
    argv = ["gpg", "--homedir", home, "--batch", "--quiet", "--trust-model", "always", *arguments]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=True).stdout


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

    def test_listens_on_loopback_only(self, root: Path) -> None:
        with servers(root) as stack:
            listening = [address for pid in processes_below(stack.path) for address in listening_on(pid)]
        assert len(listening) >= 12  # PostgreSQL, Valkey, five services of the S3 server with two ports each
        assert {address.rpartition(":")[0] for address in listening} == {"127.0.0.1"}

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
        assert parent.stdout is not None
        path = Path(parent.stdout.readline().strip())
        before = processes_below(path)
        words = " ".join(before.values())
        assert all(name in words for name in ("bin/postgres", "valkey-server", "weed", "gpg-agent"))
        parent.kill()
        parent.wait()
        parent.stdout.close()
        # gpg-agent looks for its parent every 4 s; the others get a signal
        assert wait_until(lambda: not processes_below(path), 10)
        assert path.exists()
        Place(root=root).remove()
        assert not path.exists()

    def test_sigterm_to_its_process_ends_it_cleanly(self, root: Path) -> None:
        command = [sys.executable, "-m", "worker", "local", "--workers", "1", "--", "sleep", "600"]
        running = subprocess.Popen(command, env=at(root), start_new_session=True)
        assert wait_until(lambda: any("sleep 600" in command for command in children_of(running.pid)), 60)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 128 + signal.SIGTERM
        assert not processes_below(root)
        assert not list(root.iterdir())

    def test_ctrl_c_is_the_commands_business(self, root: Path) -> None:
        script = "trap 'exit 42' INT; while :; do sleep 0.1; done; : waiting"
        command = [sys.executable, "-m", "worker", "local", "--workers", "1", "--", "sh", "-c", script]
        running = subprocess.Popen(command, env=at(root), start_new_session=True)
        assert wait_until(lambda: any(": waiting" in command for command in children_of(running.pid)), 60)
        os.killpg(running.pid, signal.SIGINT)
        assert running.wait(60) == 42
        assert not list(root.iterdir())

    def test_the_command_gets_the_stacks_settings_and_none_of_the_callers(self, root: Path) -> None:
        outside = {"DB_HOST": "production", "S3_PREFIX": "theirs", "PGFLEET_CONFIG": "/no", "PGHOST": "x"}
        done = subprocess.run(
            [sys.executable, "-m", "worker", "local", "--workers", "1", "sh", "-c", "env; exit 7"],
            env=at(root) | outside,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 7, done.stderr
        env = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        assert env["DB_HOST"] == "127.0.0.1"
        assert env["GPG_RECIPIENT"]
        assert not {"S3_PREFIX", "PGFLEET_CONFIG", "PGHOST"} & env.keys()
        assert env["TMPDIR"] == str(root)

    def test_env_sh_gives_another_shell_the_same_settings(self, root: Path) -> None:
        with servers(root) as stack:
            sourced = subprocess.run(
                ["sh", "-c", f". {stack.env_file} && env"],
                env={"PATH": os.defpath, "PGFLEET_CONFIG": "/no"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            env = dict(line.split("=", 1) for line in sourced.splitlines() if "=" in line)
            assert stack.env.items() <= env.items()
            assert "PGFLEET_CONFIG" not in env
            assert stack.env_file.stat().st_mode & 0o777 == 0o600

    def test_no_secret_is_in_any_argv(self, root: Path) -> None:
        with Stack(workers=1, root=root) as stack:
            secrets = [
                stack.postgres.password,
                stack.valkey.password,
                stack.s3.secret_key,
                stack.flower_password,
            ]
            words = " ".join(processes_below(stack.path).values())
            assert "flower" in words  # the negative control: these are the commands of all of them
            assert not [secret for secret in secrets if secret in words]


class TestFleet:
    def test_flower_wants_its_password_and_dead_workers_are_started_again(self, root: Path) -> None:
        with Stack(workers=2, root=root) as stack:
            assert stack.fleet.flower_tasks() is not None
            stack.fleet._flower_login = "pgfleet:guess"
            with pytest.raises(OSError, match="401"):
                stack.fleet.flower_tasks()
            assert stack.watch() == []
            os.kill(stack.fleet.workers["worker1"].pid, signal.SIGKILL)
            assert wait_until(lambda: stack.watch() == ["worker worker1"])
            stack.fleet.wait_workers(["worker1"])
        assert not processes_below(root)

    def test_a_worker_that_cannot_start_is_told_with_its_log(self, root: Path) -> None:
        with servers(root) as stack:
            stack.fleet.start_worker("bad", "--no-such-option")
            with pytest.raises(PgfleetError, match="ended by itself") as caught:
                stack.fleet.wait_workers()
        assert "--no-such-option" in caught.value.hint


def servers(root: Path) -> Stack:
    return Stack(workers=0, beat=False, flower=False, root=root)


def at(root: Path) -> dict[str, str]:
    """An environment in which stacks are made below `root`."""
    return {**os.environ, "TMPDIR": str(root)}


def children_of(pid: int) -> list[str]:
    pids = [
        child for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()
    ]
    return [Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode() for child in pids]


def listening_on(pid: int) -> list[str]:
    """``address:port`` of every TCP socket that the process listens on."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in inodes:
                raw = bytes.fromhex(local.partition(":")[0])
                packed = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
                found.append(f"{socket.inet_ntop(family, packed)}:{int(local.partition(':')[2], 16)}")
    return found
