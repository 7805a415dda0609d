"""The agent's life, and signatures, which need it."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gpg_people import LONG_AGO, People, Ring, digest, in_time, running, written

from worker.errors import (
    ConfigError,
    ValidationFailed,
)
from worker.gpg import Gpg

pytest_plugins = ["gpg_fixtures"]
pytestmark = pytest.mark.usefixtures("no_gpg_is_left")


# --- the agent ------------------------------------------------------------------------------------


def test_many_at_once_and_the_last_one_ends_the_agent(
    tmp_path: Path, restorer: Gpg, people: People, encrypted_dump: Path, dump_file: Path
) -> None:
    again = Gpg(tmp_path / "restore")
    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(gpg.decrypt, encrypted_dump, tmp_path / f"out-{number}-{index}", passphrase_file=None)
            for number in range(6)
            for index, gpg in enumerate((restorer, again))
        ]
        looks = [pool.submit(restorer.has_secret, [people.alice]) for _ in range(6)]
        assert {future.result().sha256 for future in work} == {digest(dump_file)[1]}
        assert all(future.result() for future in looks)
    assert not running("gpg-agent", tmp_path / "restore")


def test_an_agent_of_the_user_stays(tmp_path: Path, restorer: Gpg, encrypted_dump: Path) -> None:
    home = tmp_path / "restore"
    subprocess.run(["gpgconf", "--homedir", home, "--launch", "gpg-agent"], check=True)
    theirs = running("gpg-agent", home)
    assert theirs
    restorer.decrypt(encrypted_dump, tmp_path / "x", passphrase_file=None)
    assert running("gpg-agent", home) == theirs
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True)
    assert in_time(lambda: not running("gpg-agent", home))


def test_public_work_needs_no_agent(tmp_path: Path, gpg: Gpg, dump_file: Path) -> None:
    gpg.encrypt(dump_file, tmp_path / "x.gpg", gpg.resolve(["alice@example.org"]))
    assert not (tmp_path / "dump" / "private-keys-v1.d").exists()
    assert not list((tmp_path / "dump").glob("S.*"))


# --- signing --------------------------------------------------------------------------------------


def test_sign_and_verify(tmp_path: Path, gpg: Gpg, restorer: Gpg, people: People) -> None:
    evidence = b'{"verdict": "proven"}\n'
    signature = restorer.sign(evidence, people.alice)
    assert signature.startswith(b"-----BEGIN PGP SIGNATURE-----")
    assert gpg.verify_signature(evidence, signature) == people.alice
    path = tmp_path / "evidence.json"
    path.write_bytes(evidence)
    assert gpg.verify_signature(path, restorer.sign(path, people.alice)) == people.alice

    with pytest.raises(ValidationFailed, match="one of them was changed"):
        gpg.verify_signature(evidence.replace(b"proven", b"PROVEN"), signature)
    other = restorer.sign(b"other evidence", people.alice)
    with pytest.raises(ValidationFailed, match="one of them was changed"):
        gpg.verify_signature(evidence, other)
    for nonsense in (b"", b"hello", signature[:60]):
        with pytest.raises(ValidationFailed, match="not a valid signature"):
            gpg.verify_signature(evidence, nonsense)
    with pytest.raises(ValidationFailed, match=f"by key {people.alice[-16:]}, which is not known here"):
        Gpg(tmp_path / "elsewhere").verify_signature(evidence, signature)


def test_sign_with_a_passphrase(tmp_path: Path, gpg: Gpg, carols: Gpg, people: People) -> None:
    right = written(tmp_path / "right", "open sesame\n")
    signature = carols.sign(b"evidence", people.carol, passphrase_file=right)
    assert gpg.verify_signature(b"evidence", signature) == people.carol
    for wrong in (None, written(tmp_path / "wrong", "x")):
        with pytest.raises(ConfigError, match="PGFLEET_SIGNING_KEY"):
            carols.sign(b"evidence", people.carol, passphrase_file=wrong)


def test_sign_without_the_key(gpg: Gpg, people: People) -> None:
    for key in (people.alice, "0" * 40):
        with pytest.raises(ConfigError, match=f"PGFLEET_SIGNING_KEY: {key} cannot sign"):
            gpg.sign(b"evidence", key)


def test_evidence_outlives_its_key_but_not_its_revocation(tmp_path: Path, ring: Ring) -> None:
    old = ring.key("Old <old@example.org>", expire="30d", at=LONG_AGO)
    gone = ring.key("Gone <gone@example.org>")
    written(tmp_path / "evidence", "evidence")
    for key, when in ((old, LONG_AGO), (gone, "")):
        ring.run("-o", tmp_path / key, "--armor", "-u", key, "--detach-sign", tmp_path / "evidence", at=when)
    ring.revoke(gone)
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.asc").parent)
    assert gpg.verify_signature(b"evidence", (tmp_path / old).read_bytes()) == old
    with pytest.raises(ValidationFailed, match="was revoked"):
        gpg.verify_signature(b"evidence", (tmp_path / gone).read_bytes())
