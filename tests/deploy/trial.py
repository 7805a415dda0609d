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

#: Grafana's image is not to be had here.
_NOT_RUN = {"grafana"}
#: Shorter than in production, so that a lost worker is noticed while we wait.
_HURRY = {"PGFLEET_LEASE_SECONDS": "15s", "PGFLEET_RECONCILE_SECONDS": "3s"}


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
        self.files = ["compose.yaml", "compose.local.yaml"]
        self.flower = f"127.0.0.1:{free_ports(1)[0]}"
        self.settings = {**IMAGES, **_HURRY, "FLOWER_LISTEN": self.flower, "BACKUP_ON_START": "true"}
        run(self.directory / "make-secrets", "--trial")

    def compose(self, *argv: str, ok: bool = True) -> str:
        given = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ}
        env = {**given, **self.settings, "COMPOSE_PROJECT_NAME": self.project}
        common = ("--progress", "quiet", "--project-directory", self.directory)
        return run("docker", "compose", *common, *self._files(), *argv, env=env, ok=ok)

    def _files(self) -> list[str]:
        return [word for name in self.files for word in ("-f", str(self.directory / name))]

    def up(self, *services: str) -> None:
        said = self.compose("up", "--detach", "--wait", *(services or self.services()), ok=False)
        assert said.startswith("0 "), f"{said}\n{self.what_is_wrong()}"

    def what_is_wrong(self) -> str:
        """State, health checks and last lines of each container that is not well."""
        told = []
        for service in self.services():
            state = self.container(service)["State"]
            health = state.get("Health", {})
            if not state["Running"] or health.get("Status") != "healthy":
                last = docker("logs", "--tail", "20", self.name(service), ok=False)
                told.append(
                    f"--- {service}: {json.dumps({**state, 'Health': health.get('Log', [])[-2:]})}\n{last}"
                )
        return "\n".join(told)

    def pgfleet(self, *argv: str, service: str = "control", ok: bool = True) -> str:
        return self.compose("exec", "-T", service, "pgfleet", *argv, ok=ok)

    def asked(self, *argv: str) -> Any:
        return json.loads(self.pgfleet(*argv, "--json"))

    def container(self, service: str) -> dict[str, Any]:
        return inspect(self.name(service))

    def name(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def services(self) -> list[str]:
        """All that are started."""
        return [name for name in self.compose("config", "--services").split() if name not in _NOT_RUN]

    def secret(self, name: str) -> str:
        return (self.directory / "secrets" / name).read_text()

    def remove(self) -> None:
        # The volumes and networks of every overlay go, whichever tests ran.
        self.files = ["compose.yaml", "compose.local.yaml", "compose.monitoring.yaml"]
        self.compose("down", "--volumes", "--timeout", "2", "--remove-orphans", ok=False)

    def ledger(self, query: str) -> str:
        """Asked directly: it costs less than a `pgfleet` each time, when it is asked again and again."""
        asked = ("psql", "-U", "pgfleet", "-d", "pgfleet", "-Atc", query)
        return docker("exec", self.name("ledger"), *asked).strip()

    def sql(self, database: str, query: str) -> str:
        return docker(
            "exec", self.name("sample-db"), "psql", "-U", "shop", "-d", database, "-Atc", query
        ).strip()
