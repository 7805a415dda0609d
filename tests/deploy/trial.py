"""compose.yaml with the trial overlay, in a project, a directory and with secrets of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from tests.deploy.engine import IMAGES, REPOSITORY, docker, inspect, run
from worker.local.ports import free_ports

_FILES = ("-f", "compose.yaml", "-f", "compose.local.yaml")
#: Shorter than in production, so that a lost worker is noticed while we wait.
_HURRY = {"PGFLEET_LEASE_SECONDS": "8s", "PGFLEET_RECONCILE_SECONDS": "3s"}


class Trial:
    def __init__(self, scratch: Path) -> None:
        self.directory = scratch / "compose"
        shutil.copytree(
            REPOSITORY / "compose", self.directory, ignore=shutil.ignore_patterns("secrets", ".env")
        )
        sample = scratch / "worker/local/sample.sql"
        sample.parent.mkdir(parents=True)
        shutil.copy(REPOSITORY / "worker/local/sample.sql", sample)
        self.project = f"pgfleet-test-{secrets.token_hex(3)}"
        self.flower = f"127.0.0.1:{free_ports(1)[0]}"
        self.settings = {**IMAGES, **_HURRY, "FLOWER_LISTEN": self.flower, "BACKUP_ON_START": "true"}
        run(self.directory / "make-secrets", "--trial")

    def compose(self, *argv: str, ok: bool = True) -> str:
        given = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
        env = {**given, **self.settings, "COMPOSE_PROJECT_NAME": self.project}
        return run(
            "docker", "compose", "--project-directory", self.directory, *self._files(), *argv, env=env, ok=ok
        )

    def _files(self) -> list[str]:
        return [word if word == "-f" else str(self.directory / word) for word in _FILES]

    def up(self, *services: str) -> None:
        self.compose("up", "--detach", "--wait", "--quiet-pull", *services)

    def pgfleet(self, *argv: str, service: str = "control", ok: bool = True) -> str:
        return self.compose("exec", "-T", service, "pgfleet", *argv, ok=ok)

    def asked(self, *argv: str) -> Any:
        return json.loads(self.pgfleet(*argv, "--json"))

    def container(self, service: str) -> dict[str, Any]:
        return inspect(self.name(service))

    def name(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def services(self) -> list[str]:
        return self.compose("config", "--services").split()

    def secret(self, name: str) -> str:
        return (self.directory / "secrets" / name).read_text()

    def remove(self) -> None:
        self.compose("down", "--volumes", "--timeout", "2", "--remove-orphans", ok=False)

    def sql(self, database: str, query: str) -> str:
        return docker(
            "exec", self.name("sample-db"), "psql", "-U", "shop", "-d", database, "-Atc", query
        ).strip()
