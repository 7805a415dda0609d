"""What constraints.txt locks can be installed with the oldest Python that pyproject.toml promises."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]


def _oldest() -> str:
    promised: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    return f"{promised.removeprefix('>=')}.0"


def _needs() -> Iterator[tuple[str, str]]:
    """Each locked package that is installed here, and the Pythons that it takes."""
    for name in re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE):
        try:
            yield name, metadata(name)["Requires-Python"] or ""
        except PackageNotFoundError:  # only for other Pythons
            continue


def _too_new(needs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {need}" for name, need in needs if not SpecifierSet(need).contains(_oldest())]


def test_every_locked_version_runs_on_the_oldest_python() -> None:
    needs = list(_needs())
    assert len(needs) > 80
    assert _too_new(needs) == []


def test_a_version_that_does_not() -> None:
    """Debian 12 has Python 3.11.2: `>=3.11.5` stopped `make demo` there."""
    needs = [("a", ""), ("b", ">=3.11"), ("c", ">=3.11.5"), ("d", "!=3.0.*,>=2.7")]
    assert _too_new(needs) == ["c: >=3.11.5"]
