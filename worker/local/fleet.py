"""The fleet as child processes: Celery workers, beat, Flower."""

from __future__ import annotations

import base64
import json
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import Celery

from worker.errors import PgfleetError
from worker.local.child import Child
from worker.local.ports import LOOPBACK, on_free_ports

_START_SECONDS = 60.0
_PING_SECONDS = 0.25
#: A worker that is told to stop finishes or gives back its step (soft shutdown) before it is killed.
_STOP_SECONDS = 15.0
_CELERY = [sys.executable, "-m", "celery", "-A", "worker.app"]


class Fleet:
    """Workers by name, and beat and Flower where they were started. `env`: the settings of all of them.

    directory: for logs, beat's schedule and as working directory.
    """

    def __init__(self, directory: Path, env: Mapping[str, str], broker_url: str) -> None:
        self.directory = directory
        self.workers: dict[str, Child] = {}
        self.beat: Child | None = None
        self.flower: Child | None = None
        self.flower_url = ""
        self._flower_login = ""
        self._env = dict(env)
        self._broker_url = broker_url

    def start_worker(self, name: str, *options: str, concurrency: int = 2) -> Child:
        """Without waiting for it (`wait_workers`). Without ``-Q`` in `options` it takes every queue."""
        argv = [
            *_CELERY, "worker", "--hostname", f"{name}@{LOOPBACK}", "--concurrency", str(concurrency),
            "--without-gossip", "--without-mingle", *options,
        ]  # fmt: skip
        self.workers[name] = self._child(f"worker {name}", argv, f"{name}.log", self._env)
        self.workers[name].start()
        return self.workers[name]

    def wait_workers(self, names: Sequence[str] = (), seconds: float = _START_SECONDS) -> None:
        """Until these workers (all, without names) answer. Raises PgfleetError when one ends or does not."""
        waiting = set(names or self.workers)
        deadline = time.monotonic() + seconds
        with Celery(broker=self._broker_url) as app:
            while waiting:
                destination = [f"{name}@{LOOPBACK}" for name in waiting]
                replies = app.control.ping(destination, timeout=_PING_SECONDS, limit=len(waiting))
                waiting -= {node.partition("@")[0] for reply in replies or () for node in reply}
                for name in waiting:
                    self.workers[name].check()
                    if time.monotonic() > deadline:
                        raise PgfleetError(
                            f"Worker {name} did not answer within {seconds:.0f} s.",
                            self.workers[name].explain(),
                        )

    def start_beat(self) -> None:
        schedule = str(self.directory / "beat-schedule")
        self.beat = self._child("beat", [*_CELERY, "beat", "--schedule", schedule], "beat.log", self._env)
        self.beat.start()

    def start_flower(self, user: str, password: str) -> None:
        """On a free port, with that login; it answers at `flower_url` on return. Raises PgfleetError."""
        self._flower_login = f"{user}:{password}"

        def start(ports: list[int]) -> None:
            url = f"http://{LOOPBACK}:{ports[0]}"
            argv = [*_CELERY, "flower", f"--address={LOOPBACK}", f"--port={ports[0]}"]
            login = {"FLOWER_BASIC_AUTH": self._flower_login}  # not in argv, which everybody can read
            self.flower = self._child("Flower", argv, "flower.log", {**self._env, **login})
            self.flower_url = url
            self.flower.start()
            self.flower.wait_ready(self._flower_answers, _START_SECONDS)

        on_free_ports(1, start)

    def flower_tasks(self) -> list[dict[str, Any]]:
        """The tasks that Flower has seen, as its API gives them: name, worker, state, runtime (seconds) …"""
        login = base64.b64encode(self._flower_login.encode()).decode()
        request = urllib.request.Request(f"{self.flower_url}/api/tasks")  # noqa: S310
        request.add_header("Authorization", f"Basic {login}")
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310
            return list(json.load(response).values())

    def _flower_answers(self) -> bool:
        try:
            self.flower_tasks()  # with the login: nobody else's Flower answers that
        except OSError:
            return False
        return True

    @property
    def children(self) -> list[Child]:
        """What runs on its own and should not end by itself."""
        return [*self.workers.values(), *filter(None, (self.beat, self.flower))]

    def revive(self) -> list[str]:
        """Start again whatever was killed, and name it; as systemd would."""
        dead = [child for child in self.children if not child.running]
        for child in dead:
            child.kill()
            child.start()
        return [child.name for child in dead]

    def stop(self) -> None:
        """All at once, so that the slowest counts alone. Idempotent."""
        for child in self.children:
            child.terminate()
        for child in reversed(self.children):
            child.stop()

    def _child(self, name: str, argv: list[str], log: str, env: Mapping[str, str]) -> Child:
        path = self.directory / log
        return Child(name, argv, env=env, log=path, cwd=self.directory, stop_seconds=_STOP_SECONDS)
