"""Real servers for the tests of worker.postgres: started once a session, on a Unix socket in a short path."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pg_cluster import Cluster


def _cluster(major: int) -> Iterator[Cluster]:
    root = Path(tempfile.mkdtemp(prefix="pgf", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(root, "postgres", "postgres")
    root.chmod(0o755)
    cluster = Cluster(major, root)
    try:
        cluster.initdb()
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(root)


@pytest.fixture(scope="session")
def pg15() -> Iterator[Cluster]:
    yield from _cluster(15)


@pytest.fixture
def fresh() -> Iterator[Cluster]:
    """A server that no other test has."""
    yield from _cluster(15)


@pytest.fixture(scope="session")
def pg16() -> Iterator[Cluster]:
    yield from _cluster(16)


@pytest.fixture(scope="session")
def pg17() -> Iterator[Cluster]:
    yield from _cluster(17)


@pytest.fixture(scope="session")
def pg18() -> Iterator[Cluster]:
    yield from _cluster(18)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB; only root can make one."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "pgfleet-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.fixture(scope="session", params=[15, 17])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    found: Cluster = request.getfixturevalue(f"pg{request.param}")
    return found
