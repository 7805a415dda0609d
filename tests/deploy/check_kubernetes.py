"""The manifests: rendered by kubectl as the tests render them, and their pods at work under the container engine."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.engine import DEBIAN, IMAGE, REPOSITORY, build, build_stand_ins, docker, logs, until
from tests.deploy.pods import Node, Pod
from tests.kubernetes import HERE, Manifest, documents, named, render, workloads

pytestmark = pytest.mark.timeout(1200)  # images are built, and a busy machine is slow
KUBECTL = "pgfleet-test/kubectl"
PASSWORD = secrets.token_hex(12)
_TRIAL = {"DB_HOST": "postgres.example.svc", "DB_NAME": "shop", "S3_ENDPOINT": "http://s3.example.com:8333",
          "S3_PROFILE": "seaweedfs", "S3_ACCESS_KEY": "trial", "PGFLEET_RECONCILE_SECONDS": "2"}  # fmt: skip
_KEYS = """
export GNUPGHOME=/tmp/g; mkdir -m 700 $GNUPGHOME
gpg --batch --quiet --pinentry-mode loopback --passphrase '' --quick-generate-key backup@example.com default default 1y
gpg --batch --armor --output /out/public --export
gpg --batch --armor --output /out/private --export-secret-keys
chmod 0644 /out/*; gpgconf --kill all
"""
_BUCKET = """
import boto3, sys, time
for _ in range(100):
    try:
        boto3.client("s3", endpoint_url="http://s3.example.com:8333", region_name="us-east-1",
                     aws_access_key_id="trial", aws_secret_access_key=sys.argv[1]).create_bucket(Bucket="shop-backups")
        break
    except Exception as error:
        said = error
        time.sleep(0.5)
else:
    sys.exit(str(said))
"""


@pytest.mark.parametrize("folder", ["fleet", "cronjob"])
def test_kubectl_renders_the_same(folder: str) -> None:
    build(KUBECTL, REPOSITORY / "tests/deploy/images/kubectl", f"--build-arg=DEBIAN={DEBIAN}")
    told = docker(
        "run", "--rm", "--network=none", f"--volume={HERE}:/m:ro", KUBECTL, "kustomize", f"/m/{folder}"
    )
    theirs = [one for one in yaml.safe_load_all(told) if one]
    ours = render(HERE / folder)
    assert {key(one): one for one in theirs} == {key(one): one for one in ours}
    assert len(theirs) == len(ours)


def key(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


class Cluster:
    """The services that the example's settings name, and pods of the manifests."""

    def __init__(self, node: Node, scratch: Path) -> None:
        self.node = node
        (scratch / "password").write_text(PASSWORD)
        (scratch / "password").chmod(0o444)
        users = {"identities": [{"name": "pgfleet", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                                 "credentials": [{"accessKey": "trial", "secretKey": PASSWORD}]}]}  # fmt: skip
        (scratch / "users").write_text(json.dumps(users))
        (scratch / "users").chmod(0o444)
        self.postgres = self.node.service(
            "postgres", "pgfleet-test/postgres", "--user=999:999", "--env=POSTGRES_USER=pgfleet",
            "--env=POSTGRES_PASSWORD_FILE=/password", f"--volume={scratch}/password:/password:ro",
            names=("postgres.example.svc", "ledger.example.svc", "drill.example.svc"),
        )  # fmt: skip
        self.node.service(
            "valkey", "pgfleet-test/valkey", names=("valkey.example.svc",),
            command=("valkey-server", "--requirepass", PASSWORD, "--protected-mode", "no"),
        )  # fmt: skip
        self.node.service(
            "s3", "pgfleet-test/s3", f"--volume={scratch}/users:/users:ro", names=("s3.example.com",),
            command=("weed", "-logtostderr", "mini", "-dir=/data", "-ip=s3.example.com", "-ip.bind=0.0.0.0",
                     "-s3.config=/users", "-webdav=false", "-admin.ui=false", "-master.telemetry=false",
                     "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.volumeSizeLimitMB=1024",
                     "-volume.max=100"),
        )  # fmt: skip
        (scratch / "out").mkdir()
        (scratch / "out").chmod(0o777)
        docker(
            "run",
            "--rm",
            "--tmpfs=/tmp:mode=1777",
            f"--volume={scratch}/out:/out",
            IMAGE,
            "sh",
            "-euc",
            _KEYS,
        )
        self.keys = secret_contents((scratch / "out/private").read_text())
        self._public = (scratch / "out/public").read_text()
        until(lambda: self.psql("SELECT 1", ok=False).startswith("0 "), 90, lambda: logs(self.postgres))
        for statement in (
            "CREATE ROLE backup SUPERUSER LOGIN",
            "CREATE ROLE drill SUPERUSER LOGIN",
            "CREATE DATABASE shop",
        ):
            self.psql(f"{statement} PASSWORD '{PASSWORD}'" if "ROLE" in statement else statement)
        self.psql(
            "CREATE TABLE t AS SELECT n, md5(n::text) AS word FROM generate_series(1, 5000) AS n", "shop"
        )
        docker("run", "--rm", "--network", self.node.name, IMAGE, "python", "-c", _BUCKET, PASSWORD)

    def psql(self, statement: str, database: str = "postgres", ok: bool = True) -> str:
        return docker(
            "exec",
            self.postgres,
            "psql",
            "-qAt",
            "-U",
            "pgfleet",
            "-h",
            "127.0.0.1",
            "-d",
            f"postgresql://pgfleet:{PASSWORD}@127.0.0.1/{database}",
            "-c",
            statement,
            ok=ok,
        )

    def start(self, folder: str, *names: str) -> dict[str, Pod]:
        """Pods of that folder by component; all without names."""
        manifests = render(HERE / folder)
        maps = named(manifests, "ConfigMap")
        maps["pgfleet-settings"]["data"] |= _TRIAL
        maps["pgfleet-keys"]["data"] = {"backup.asc": self._public}
        return {
            name: self.node.start(pod, maps, self.keys)
            for name, pod, _ in workloads(manifests)
            if not names or name in names
        }


def secret_contents(private: str) -> dict[str, dict[str, str]]:
    """The example's, filled in."""
    filled: dict[str, dict[str, str]] = {}
    for one in documents(HERE / "secrets.example.yaml"):
        given: dict[str, Any] = one["stringData"]
        filled[one["metadata"]["name"]] = {
            key: value.replace("PASSWORD", PASSWORD) for key, value in given.items()
        }
    filled["pgfleet-broker"]["url"] = f"redis://:{PASSWORD}@valkey.example.svc:6379/0"
    filled["pgfleet-ledger"]["url"] = f"postgresql://pgfleet:{PASSWORD}@ledger.example.svc:5432/pgfleet"
    filled["pgfleet-private-keys"]["backup.asc"] = private
    return filled


@pytest.fixture(scope="module")
def cluster(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    build_stand_ins(tmp_path_factory.mktemp("programs"))
    scratch = tmp_path_factory.mktemp("cluster")
    node = Node(scratch)
    try:
        yield Cluster(node, scratch)
    finally:
        node.remove()


@pytest.fixture(scope="module")
def fleet(cluster: Cluster) -> dict[str, Pod]:
    pods = cluster.start("fleet")
    for pod in pods.values():
        pod.wait_ready()
    return pods


def test_a_backup_and_a_drill_go_through_the_pods(fleet: dict[str, Pod]) -> None:
    backup = json.loads(fleet["control"].sh("pgfleet", "backup", "--json").strip().splitlines()[-1])
    assert backup["state"] == "verified", backup
    drill = json.loads(fleet["control"].sh("pgfleet", "drill", "--json").strip().splitlines()[-1])
    assert drill["state"] == "proven", drill
    assert "pgfleet_" in fleet["exporter"].sh("python", "-c", _GET, "http://127.0.0.1:9769/metrics")


_GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())"


def test_a_probe_can_fail(fleet: dict[str, Pod]) -> None:
    assert not fleet["control"].sh("healthcheck", "beat", ok=False).startswith("0 ")


def test_roles_have_their_own_secrets_alone(fleet: dict[str, Pod]) -> None:
    listed = {name: set(fleet[name].sh("ls", "/run/secrets/pgfleet").split()) for name in ("beat", "verify")}
    assert listed == {"beat": {"broker_url"}, "verify": {"broker_url", "ledger_url", "s3_secret_key"}}


def test_workers_end_within_their_grace(fleet: dict[str, Pod]) -> None:
    """It stops the fleet."""
    codes = {name: pod.stop() for name, pod in fleet.items()}
    assert codes == dict.fromkeys(fleet, 0) | {
        "exporter": 143
    }  # at once, by the signal; 137 would be too late


@pytest.mark.parametrize("name", ["backup", "cleanup", "drill"])
def test_a_cron_job_does_all_of_it_in_one_pod(cluster: Cluster, name: str) -> None:
    (pod,) = cluster.start("cronjob", name).values()
    assert pod.wait() == 0, logs(pod.name)
