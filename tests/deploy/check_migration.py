"""The scripts' container swapped for ours: its environment file byte for byte, its names, its volume, its crontab.

The network has the servers that the file names, with the role, the database and the bucket that it names.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.engine import IMAGE, REPOSITORY, docker, inspect, logs, until
from tests.deploy.trial import Trial

pytestmark = pytest.mark.timeout(900)
ENVIRONMENT = REPOSITORY / "tests/data/migrate/backup.env"
_STORED = "goimg-backup-20251201-020000.dump.gpg"
_BUCKET = """
import boto3
secret = open("/run/secrets/s3_secret_key").read()
login = {"aws_access_key_id": "trial", "aws_secret_access_key": secret, "region_name": "us-east-1"}
boto3.client("s3", endpoint_url="http://s3:8333", **login).create_bucket(Bucket="goimg-backups")
"""


class OldPlace:
    """What the scripts' container had around it: a network, a volume with their backups, two secrets, a key."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.name = f"{trial.project}-old"
        self.password = secrets.token_hex(12)
        self.secrets = trial.directory / "old-secrets"

    def make(self) -> None:
        self.secrets.mkdir(mode=0o755)
        given = {"DB_PASSWORD": self.password, "S3_SECRET_KEY": self.trial.secret("s3_secret_key")}
        for name, value in given.items():
            (self.secrets / name).write_text(value)
            (self.secrets / name).chmod(0o444)
        self.trial.sql("postgres", f"CREATE ROLE goimg LOGIN PASSWORD '{self.password}'")
        self.trial.sql("postgres", "CREATE DATABASE goimg OWNER goimg")
        self.trial.sql(
            "goimg", "SET ROLE goimg; CREATE TABLE images AS SELECT generate_series(1, 1000) AS id"
        )
        docker("network", "create", self.name)
        for service, alias in (("sample-db", "goimg-postgres"), ("s3", "objects")):
            docker("network", "connect", "--alias", alias, self.name, self.trial.name(service))
        docker("exec", self.trial.name("control"), "python", "-c", _BUCKET)
        docker("volume", "create", self.name)
        docker(
            "run", "--rm", *self._volume(), IMAGE, "sh", "-c", f"echo old >/var/backups/postgres/{_STORED}"
        )

    def _volume(self) -> tuple[str, ...]:
        return (f"--volume={self.name}:/var/backups/postgres",)

    def options(self) -> tuple[str, ...]:
        """Those of docs/migrate-from-scripts.md, and a read-only root."""
        return (
            "--read-only",
            "--tmpfs=/tmp:mode=1777",
            f"--network={self.name}",
            f"--env-file={ENVIRONMENT}",
            *(f"--env={name}_FILE=/run/secrets/{name}" for name in ("DB_PASSWORD", "S3_SECRET_KEY")),
            "--env=PGFLEET_GPG_KEYS_DIR=/etc/pgfleet/keys",
            *(
                f"--volume={self.secrets}/{name}:/run/secrets/{name}:ro"
                for name in ("DB_PASSWORD", "S3_SECRET_KEY")
            ),
            f"--volume={self.trial.project}_trial-keys:/etc/pgfleet/keys:ro",
            f"--volume={self.name}-state:/var/lib/pgfleet",
            f"--volume={self.name}-spool:/var/spool/pgfleet",
            *self._volume(),
        )

    def pgfleet(self, *argv: str, options: tuple[str, ...] = (), ok: bool = True) -> str:
        return docker("run", "--rm", *self.options(), *options, IMAGE, *argv, ok=ok)

    def states(self) -> dict[str, set[str]]:
        """Backup → states of its copies."""
        listed = json.loads(self.pgfleet("list", "--json"))
        return {entry["backup_id"]: {copy["state"] for copy in entry["copies"]} for entry in listed}

    def remove(self) -> None:
        for service in ("sample-db", "s3"):
            docker("network", "disconnect", self.name, self.trial.name(service), ok=False)
        docker("network", "rm", self.name, ok=False)
        docker(
            "volume", "rm", "--force", *(f"{self.name}{end}" for end in ("", "-state", "-spool")), ok=False
        )
        self.trial.sql("postgres", "DROP DATABASE goimg")
        self.trial.sql("postgres", "DROP ROLE goimg")


@pytest.fixture(scope="module")
def old(trial: Trial) -> Iterator[OldPlace]:
    old = OldPlace(trial)
    try:
        old.make()
        yield old
    finally:
        old.remove()


@pytest.fixture(scope="module")
def swapped(old: OldPlace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The container that was the scripts', each minute instead of each night."""
    crontab = tmp_path_factory.mktemp("cron") / "crontab"
    crontab.write_text(
        "# m h dom mon dow\n* * * * *  pgfleet backup --here\n0 3 * * 0  pgfleet cleanup --here\n"
    )
    crontab.parent.chmod(0o755)
    name = f"{old.name}-cron"
    mounted = f"--volume={crontab}:/etc/pgfleet/crontab:ro"
    docker("run", "--detach", "--name", name, *old.options(), mounted, IMAGE, "cron")
    yield name
    docker("rm", "--force", name, ok=False)


def test_its_commands_by_hand(old: OldPlace) -> None:
    """The crontab's lines one by one, as `docker run`."""
    taken = json.loads(old.pgfleet("backup", "--here", "--json"))
    assert taken["backup_id"].startswith("goimg-backup-")
    states = old.states()
    assert states[taken["backup_id"]] == {"verified"}
    assert states[_STORED.removesuffix(".dump.gpg")] == {"unmanaged"}
    plan = json.loads(old.pgfleet("cleanup", "--here", "--dry-run", "--json"))
    assert _STORED.removesuffix(".dump.gpg") in json.dumps(plan)


def test_its_docker_client_is_not_missed_in_silence(old: OldPlace) -> None:
    said = old.pgfleet("backup", "--here", options=("--env=USE_DOCKER=true",), ok=False)
    assert said.startswith("2 "), said
    assert "docker" in said
    assert "Traceback" not in said


def test_its_crontab(old: OldPlace, swapped: str) -> None:
    until(lambda: "pgfleet backup --here: done" in logs(swapped), 150, lambda: logs(swapped))
    told = logs(swapped)
    assert "Keys in /etc/pgfleet/keys: " in told
    assert "0 3 * * 0 pgfleet cleanup --here (next " in told
    assert docker("exec", swapped, "healthcheck", ok=False).startswith("0 ")
    assert [states for states in old.states().values() if states == {"verified"}]
    docker("stop", "--time", "60", swapped)
    assert inspect(swapped)["State"]["ExitCode"] == 0


def test_a_crontab_with_a_mistake_is_refused(image: None, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for text, told in (
        ("0 2 * * pgfleet\n", "line 1 has no command"),
        ("61 2 * * * pgfleet backup --here\n", "is not a schedule"),
        ("# nothing\n", "has no job"),
        (
            "0 2 * * * /opt/goimg/scripts/backup-database.sh\n",
            "there is no /opt/goimg/scripts/backup-database.sh",
        ),
    ):
        (tmp_path / "crontab").write_text(text)
        mounted = f"--volume={tmp_path}/crontab:/etc/pgfleet/crontab:ro"
        said = docker("run", "--rm", mounted, IMAGE, "cron", ok=False)
        assert said.startswith("3 "), said
        assert told in said
    assert "cron has not begun" in docker("run", "--rm", IMAGE, "healthcheck", "cron", ok=False)
