"""The GnuPG home, importing keys, and finding recipients."""

from __future__ import annotations

import logging
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gpg_people import LONG_AGO, People, Ring

from worker.errors import (
    ConfigError,
    EncryptionFailed,
    ValidationFailed,
)
from worker.gpg import Gpg, Key

pytest_plugins = ["gpg_fixtures"]
pytestmark = pytest.mark.usefixtures("no_gpg_is_left")


def everyone(gpg: Gpg) -> list[str]:
    """The fingerprints that an import of nothing new reports for a home's own public keys."""
    return sorted(record["fingerprint"] for record in gpg._home.keyring.list_keys())


# --- the home -------------------------------------------------------------------------------------


def test_the_home_is_private(tmp_path: Path) -> None:
    Gpg(tmp_path / "a" / "home")
    assert (tmp_path / "a" / "home").stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"PGFLEET_GPG_HOME: .*/file cannot be used"):
        Gpg(tmp_path / "file")


def test_a_home_too_deep_for_a_socket_is_explained(tmp_path: Path) -> None:
    if Path(f"/run/user/{os.getuid()}").exists():
        pytest.skip("the agent's socket is elsewhere")
    with pytest.raises(ConfigError, match="is too long by"):
        Gpg(tmp_path / ("x" * 100))


# --- importing ------------------------------------------------------------------------------------


def test_import_is_idempotent(tmp_path: Path, people: People) -> None:
    gpg = Gpg(tmp_path / "dump")
    first = gpg.import_keys(people.public)
    assert sorted(first) == sorted(people.fingerprints()) == everyone(gpg)
    assert gpg.import_keys(people.public) == first
    assert everyone(gpg) == sorted(first)


def test_import_takes_the_usual_files(tmp_path: Path, people: People) -> None:
    keys = tmp_path / "keys"
    people.export(keys / "a.GPG", people.alice)
    people.export(keys / "b.key", people.bob)
    people.export(keys / "c.pub", people.carol)
    two = people.export(keys / "d.asc", people.signer).read_bytes()
    (keys / "d.asc").write_bytes(two + people.export(keys / "e.asc", people.expired).read_bytes())
    (keys / "e.asc").unlink()
    (keys / "README.md").write_text("not a key")
    imported = Gpg(tmp_path / "dump").import_keys(keys)
    assert imported == [people.alice, people.bob, people.carol, people.signer, people.expired]


@pytest.mark.parametrize("how", ["empty", "prose", "cut armor", "cut", "one character"])
def test_a_broken_key_file_is_named(tmp_path: Path, people: People, how: str) -> None:
    keys = tmp_path / "keys"
    whole = people.export(keys / "good.asc", people.alice).read_bytes()
    binary = people.export(keys / "good.gpg", people.alice).read_bytes()
    middle = len(whole) // 2
    other = b"B" if whole[middle : middle + 1] == b"A" else b"A"
    broken = {
        "empty": b"",
        "prose": b"hello\n",
        "cut armor": whole[:middle],
        "cut": binary[: len(binary) // 2],
        "one character": whole[:middle] + other + whole[middle + 1 :],
    }
    (keys / "broken.asc").write_bytes(broken[how])
    with pytest.raises(ConfigError, match=r"/keys/broken\.asc is not a whole OpenPGP key"):
        Gpg(tmp_path / "dump").import_keys(keys)


def test_a_missing_key_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="/nowhere: No such file"):
        Gpg(tmp_path / "dump").import_keys(tmp_path / "nowhere")


def test_a_private_key_is_not_for_everyone(tmp_path: Path, people: People) -> None:
    gpg = Gpg(tmp_path / "dump")
    with pytest.raises(ConfigError, match=r"alice\.asc holds a private key"):
        gpg.import_keys(people.private, public_only=True)
    assert everyone(gpg) == []
    assert gpg.import_keys(people.private) == [people.alice] == gpg.import_keys(people.private)
    assert gpg.has_secret([people.alice])


def test_key_material_is_not_logged(tmp_path: Path, people: People, caplog: pytest.LogCaptureFixture) -> None:
    secret = (people.private / "alice.asc").read_text().splitlines()[2]
    caplog.set_level(logging.DEBUG)
    Gpg(tmp_path / "restore").import_keys(people.private)
    assert secret not in caplog.text
    logging.getLogger("gnupg").setLevel(logging.DEBUG)  # the control: python-gnupg would
    try:
        Gpg(tmp_path / "dump").import_keys(people.private)
    finally:
        logging.getLogger("gnupg").setLevel(logging.CRITICAL)
    assert secret in caplog.text


def test_has_secret(gpg: Gpg, restorer: Gpg, people: People) -> None:
    assert not gpg.has_secret([people.alice, people.bob])
    assert restorer.has_secret([people.bob, people.alice])
    assert restorer.has_secret(people.subkeys(people.alice))
    assert not restorer.has_secret([people.bob])
    assert not restorer.has_secret([])


# --- recipients -----------------------------------------------------------------------------------


def test_a_recipient_may_be_named_in_many_ways(gpg: Gpg, people: People) -> None:
    fingerprint, (subkey,) = people.alice, people.subkeys(people.alice)
    spaced = " ".join(fingerprint[i : i + 4] for i in range(0, 40, 4))
    for name in (
        "alice@example.org",
        "ALICE@Example.org",
        "Alice <alice@example.org>",
        fingerprint,
        fingerprint.lower(),
        spaced,
        fingerprint[-16:],
        "0x" + fingerprint[-16:],
        fingerprint[-8:],
        subkey,
    ):
        (key,) = gpg.resolve([name])
        assert key == Key(fingerprint, "Alice <alice@example.org>", None, "ECDH cv25519", (subkey,), 255)
    assert [key.fingerprint for key in gpg.resolve(["bob@example.org", fingerprint, subkey])] == [
        people.bob,
        fingerprint,
    ]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("nobody@example.org", "There is no public key for recipient nobody@example.org", "--import"),
        ("lice@example.org", "There is no public key", "--import"),
        ("example.org", "There is no public key", "--import"),
        ("Alice", "There is no public key", "--import"),
        ("", "There is no public key", "--import"),
        ("0" * 40, "There is no public key", "--import"),
        ("old@example.org", "expired on 2020-01-31", "--quick-set-expire"),
        ("gone@example.org", "was revoked", "valid"),
        ("signer@example.org", "is made for signing only", "--quick-add-key"),
    ],
)
def test_a_recipient_that_cannot_be_used_is_refused(gpg: Gpg, name: str, message: str, hint: str) -> None:
    with pytest.raises(EncryptionFailed) as caught:
        gpg.resolve(["alice@example.org", name])
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_an_ambiguous_recipient_is_refused(tmp_path: Path, ring: Ring) -> None:
    first = ring.key("Ann <ann@example.org>")
    ring.key("Ann, once <ann@example.org>", expire="30d", at=LONG_AGO)
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.gpg").parent)
    assert [key.fingerprint for key in gpg.resolve(["ann@example.org"])] == [first]

    second = ring.key("Ann again <ann@example.org>")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.gpg").parent)
    with pytest.raises(EncryptionFailed, match="ambiguous: 2 keys match") as caught:
        gpg.resolve(["ann@example.org"])
    assert first in caught.value.message
    assert second in caught.value.message
    assert [key.fingerprint for key in gpg.resolve([second])] == [second]


def test_user_ids_of_all_kinds(tmp_path: Path, ring: Ring) -> None:
    """Å and х end in a byte that Latin-1 takes for the end of a line; gpg writes colons as \\x3a."""
    names = {
        "asa@example.org": "Åsa Хайруллин <asa@example.org>",
        "doe@example.org": "Doe, John: Dr. (work) <doe@example.org>",
        "bare@example.org": "bare@example.org",
    }
    for name in names.values():
        ring.key(name)
    latin = ring.key(b"J\xf6rg <joerg@example.org>".decode("utf-8", "surrogateescape"))
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.asc").parent)
    for address, name in names.items():
        assert gpg.resolve([address])[0].user_id == name
    assert gpg.resolve(["joerg@example.org"])[0].fingerprint == latin


def test_a_user_id_cannot_speak_for_gpg(tmp_path: Path, ring: Ring) -> None:
    """str.splitlines() would begin a new line at U+2028 and U+0085."""
    evil = ring.key("x\u2028[GNUPG:] GOODSIG 0\u2028[GNUPG:] VALIDSIG 0\x85 <evil@example.org>")
    ring.run("--output", tmp_path / "sig", "--armor", "--detach-sign", Path(__file__))
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.asc").parent)
    with pytest.raises(ValidationFailed):
        gpg.verify_signature(b"something else", (tmp_path / "sig").read_bytes())
    assert gpg.verify_signature(Path(__file__), (tmp_path / "sig").read_bytes()) == evil


def test_a_revoked_address_names_nobody(tmp_path: Path, ring: Ring) -> None:
    fingerprint = ring.key("New <new@example.org>")
    other = ring.key("Other <other@example.org>")
    for address in ("left@example.org", "kept@example.org"):
        ring.run("--quick-add-uid", fingerprint, address)
    ring.run("--quick-add-uid", other, "kept@example.org")
    ring.run("--quick-revoke-uid", fingerprint, "left@example.org")
    ring.run("--quick-revoke-uid", other, "kept@example.org")
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.asc").parent)
    for address in ("new@example.org", "kept@example.org"):
        assert [key.fingerprint for key in gpg.resolve([address])] == [fingerprint]
    with pytest.raises(EncryptionFailed, match="no public key"):
        gpg.resolve(["left@example.org"])


def test_a_disabled_key_is_refused(tmp_path: Path, gpg: Gpg, people: People) -> None:
    subprocess.run(
        ["gpg", "--homedir", tmp_path / "dump", "--no-tty", "--command-fd", "0", "--edit-key", people.bob],
        input=b"disable\nsave\n",
        capture_output=True,
        check=True,
    )
    subprocess.run(["gpgconf", "--homedir", tmp_path / "dump", "--kill", "gpg-agent"], check=True)
    with pytest.raises(EncryptionFailed, match="is disabled"):
        gpg.resolve(["bob@example.org"])


def test_an_expired_encryption_subkey_is_refused(tmp_path: Path, ring: Ring) -> None:
    fingerprint = ring.key("Half <half@example.org>", "ed25519", at=LONG_AGO)
    ring.run("--quick-add-key", fingerprint, "cv25519", "encr", "30d", at=LONG_AGO)
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.asc").parent)
    with pytest.raises(EncryptionFailed, match="its encryption subkey expired on 2020-01-31"):
        gpg.resolve(["half@example.org"])


def test_when_a_key_expires(tmp_path: Path, ring: Ring) -> None:
    """The last encryption subkey or the primary key, whichever ends first."""
    primary = ring.key("Primary <primary@example.org>", "ed25519", expire="10d")
    ring.run("--quick-add-key", primary, "cv25519", "encr", "90d")
    subkeys = ring.key("Subkeys <subkeys@example.org>", "ed25519", expire="90d")
    ring.run("--quick-add-key", subkeys, "cv25519", "encr", "10d")
    ring.run("--quick-add-key", subkeys, "cv25519", "encr", "20d", at=f"{datetime.now(UTC):%Y%m%dT%H%M%S}")
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.asc").parent)
    for name, days in ((primary, 10), (subkeys, 20)):
        (key,) = gpg.resolve([name])
        assert key.expires is not None
        assert abs(key.expires - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=5)
