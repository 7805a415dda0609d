"""`make test-deploy`, and not part of `make test`: its files are called check_*.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.deploy.engine import build_image, build_stand_ins, require_engine
from tests.deploy.trial import Trial

#: They share one fleet.
_OF_THE_TRIAL = ("check_compose.py", "check_migration.py", "check_monitoring.py")


class _Halves(LoadScopeScheduling):
    """Two halves that can run at once (`-n 2`): what needs the trial's fleet, and the rest.

    Images that both build are built once: the engine sees that it is the same work.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "trial" if nodeid.partition("::")[0].endswith(_OF_THE_TRIAL) else "rest"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Halves:
    return _Halves(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In one process the fleet comes last: once it runs it runs to the end, and takes its part of the machine."""
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
