"""`make test-deploy`, and not part of `make test`: its files are called check_*.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.engine import build_image, build_stand_ins, require_engine
from tests.deploy.trial import Trial


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the fleet comes last: once it runs it runs to the end, and takes its part of the machine."""
    items.sort(key=lambda item: "trial" in getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def image() -> None:
    require_engine()
    build_image()


@pytest.fixture(scope="session")
def trial(image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    build_stand_ins(tmp_path_factory.mktemp("programs"))
    trial = Trial(tmp_path_factory.mktemp("trial"))
    try:
        trial.up()
        yield trial
    finally:
        trial.remove()
