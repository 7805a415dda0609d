"""The documentation as it is read: the site as MkDocs builds it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built once, strictly: a warning fails."""
    directory = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", directory)
    assert built.returncode == 0, built.stderr
    return directory


def build(config: Path, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(directory)],
        cwd=config.parent, capture_output=True, text=True, check=False, env={"NO_MKDOCS_2_WARNING": "1", "PATH": ""},
    )  # fmt: skip
