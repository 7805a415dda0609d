"""GnuPG homes of the workers, with the keys that each of them would have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpg_people import People, Ring, cheap_passphrases, running

from worker.gpg import Gpg


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    people = People(tmp_path_factory.mktemp("gpg"))
    yield people
    people.end()


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    """A fresh home for keys of a test's own."""
    ring = Ring(tmp_path / "ring")
    yield ring
    ring.end()


@pytest.fixture
def gpg(tmp_path: Path, people: People) -> Gpg:
    """A dump worker's: all public keys, no private one."""
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(people.public)
    return gpg


@pytest.fixture
def restorer(tmp_path: Path, people: People) -> Gpg:
    """A restore worker's: Alice's private key."""
    gpg = Gpg(tmp_path / "restore")
    gpg.import_keys(people.private)
    return gpg


@pytest.fixture
def dump_file(tmp_path: Path) -> Path:
    path = tmp_path / "goimg.dump"
    path.write_bytes(os.urandom(3_000_000))
    return path


@pytest.fixture
def carols(tmp_path: Path, people: People) -> Gpg:
    """A restore worker whose private key has a passphrase."""
    gpg = Gpg(tmp_path / "restore")
    cheap_passphrases(tmp_path / "restore")
    gpg.import_keys(people.carols)
    return gpg


@pytest.fixture
def encrypted_dump(tmp_path: Path, gpg: Gpg, dump_file: Path) -> Path:
    """To Alice and Carol."""
    gpg.encrypt(dump_file, tmp_path / "x.gpg", gpg.resolve(["alice@example.org", "carol@example.org"]))
    return tmp_path / "x.gpg"


@pytest.fixture
def no_gpg_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for home in ("dump", "restore"):
        for program in ("gpg", "gpg-agent"):
            assert not running(program, tmp_path / home)
    assert list(tmp_path.glob("*.partial")) == []
