"""The real CLI against a real fleet. Each test file (an xdist worker) has one stack of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from worker.ledger import Ledger
from worker.local.sample import load_sample
from worker.local.stack import BUCKET, DATABASE, Stack

#: Short times, so that a lost worker is noticed within a test's patience.
QUICK = {
    "PGFLEET_RECONCILE_SECONDS": "1",
    "PGFLEET_LEASE_SECONDS": "8",
    "PGFLEET_RETRY_BASE_SECONDS": "0.5",
    "PGFLEET_PART_SIZE": "5MiB",
}


@dataclass
class Answer:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out.strip().splitlines()[-1])


@dataclass
class Fleet:
    """The stack, and `pgfleet` with its settings."""

    stack: Stack

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None, timeout: float = 120) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "worker", *arguments],
            env={**self.stack.environment, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.stack.env["PGFLEET_LEDGER_URL"])

    def stored(self) -> list[str]:
        listed = self.stack.s3.client().list_objects_v2(Bucket=BUCKET)
        return [found["Key"] for found in listed.get("Contents", [])]

    def open_uploads(self) -> list[str]:
        listed = self.stack.s3.client().list_multipart_uploads(Bucket=BUCKET)
        return [found["Key"] for found in listed.get("Uploads", [])]


def eventually(check: Callable[[], Any], seconds: float = 60.0, every: float = 0.05) -> Any:
    """What `check` returns once it is true. Fails at the deadline."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, f"{check} was not true within {seconds} s"
        time.sleep(every)
    return value


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Stack(workers=2, flower=False, settings=QUICK) as stack:
        load_sample(stack.postgres, DATABASE)
        yield Fleet(stack)
