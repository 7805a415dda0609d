"""Each server of the embedded stack alone: it starts, answers, refuses strangers, stops and keeps its data."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
import redis
from botocore.exceptions import ClientError
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.services import Bucket, KeyPair, processes_below, wait_until
from worker.errors import MissingDependency
from worker.local.keys import Keys
from worker.local.postgres import Postgres
from worker.local.s3 import S3, S3User
from worker.local.sample import load_sample
from worker.local.valkey import Valkey


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
