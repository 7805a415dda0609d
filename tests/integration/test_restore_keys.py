"""Restores with no private key, and with one that has a passphrase."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gpg_people import Ring, cheap_passphrases

from tests.restore_scene import Scene, content_of, tables
from tests.services import KeyPair
from worker.local.postgres import Postgres

PASSPHRASE = "open sesame"


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[Ring]:
    ring = Ring(tmp_path / "ring")
    yield ring
    ring.end()


@pytest.fixture
def scene(pg: Postgres, tmp_path: Path, ring: Ring) -> Iterator[Scene]:
    """A backup to a key that has a passphrase, and `keys`, where the private half was exported to."""
    carol = ring.key("Carol <carol@example.org>", passphrase=PASSPHRASE)
    ring.export(tmp_path / "keys" / "carol.asc", carol, secret=True, passphrase=PASSPHRASE)
    scene = Scene(tmp_path, pg, pg, "locked", KeyPair(ring.home, carol, tmp_path / "none"))
    pg.createdb("locked", template="template0")
    tables(pg, "locked", ["CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 100) i"])
    for folder in ("near", "far"):
        (tmp_path / folder).mkdir()
    try:
        scene.backup()
        yield scene
    finally:
        for name in scene.databases() - {"sample_template"}:
            pg.dropdb(name)


def home(scene: Scene, name: str) -> Path:
    made = scene.root / name
    made.mkdir(mode=0o700)
    cheap_passphrases(made)
    return made


def test_no_key_at_all(scene: Scene, ring: Ring) -> None:
    (subkey, *_) = ring.subkeys(scene.keys.fingerprint)
    run = scene.restore({"GNUPGHOME": str(home(scene, "empty"))})
    assert run.error is not None
    assert run.error["exit_code"] == 5
    assert run.error["type"] == "DecryptionFailed"
    assert f"for {run.backup_id}.dump.gpg: it is encrypted to {subkey}" in run.error["message"]
    assert "PGFLEET_GPG_PRIVATE_KEYS_DIR" in run.error["hint"]
    assert not scene.litter()


def test_a_passphrase_from_a_file(scene: Scene) -> None:
    right, wrong = scene.root / "right", scene.root / "wrong"
    right.write_text(f"{PASSPHRASE}\n")
    wrong.write_text("open barley\n")
    for path in (right, wrong):
        path.chmod(0o600)
    env = {
        "GNUPGHOME": str(home(scene, "restorer")),
        "PGFLEET_GPG_PRIVATE_KEYS_DIR": str(scene.root / "keys"),
    }
    for more, word in (
        ({}, "has a passphrase, and none was given"),
        ({"PGFLEET_GPG_PASSPHRASE_FILE": str(wrong)}, "does not open the private key"),
    ):
        run = scene.restore({**env, **more})
        assert run.error is not None
        assert run.error["exit_code"] == 5
        assert word in run.error["message"]
        assert "PGFLEET_GPG_PASSPHRASE_FILE" in run.error["hint"] or str(wrong) in run.error["hint"]
        assert not scene.litter()
    run = scene.restore({**env, "PGFLEET_GPG_PASSPHRASE_FILE": str(right)}, as_name="opened")
    assert run.state == "succeeded", run.error
    assert PASSPHRASE not in str(run)
    assert content_of(scene.target, "opened") == content_of(scene.source, "locked")
