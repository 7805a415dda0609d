"""Encrypting and decrypting files."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from gpg_people import LONG_AGO, People, Ring, digest, endless, in_time, running, written

from worker.errors import (
    Cancelled,
    ConfigError,
    DecryptionFailed,
    EncryptionFailed,
    SpoolFull,
)
from worker.gpg import Gpg, Key
from worker.gpg.data import check_recipients

pytest_plugins = ["gpg_fixtures"]
pytestmark = pytest.mark.usefixtures("no_gpg_is_left")


# --- encrypting -----------------------------------------------------------------------------------


def test_encrypt_to_two(tmp_path: Path, gpg: Gpg, people: People, dump_file: Path) -> None:
    keys = gpg.resolve(["alice@example.org", "bob@example.org"])
    target = tmp_path / "goimg.dump.gpg"
    told: list[int] = []

    encrypted = gpg.encrypt(dump_file, target, keys, progress=told.append)

    assert (encrypted.size, encrypted.sha256) == digest(target)
    assert told == sorted(told)
    assert told[-1] == encrypted.size
    assert target.stat().st_mode & 0o077 == 0
    expected = [*people.subkeys(people.alice), *people.subkeys(people.bob)]
    assert sorted(gpg.encrypted_to(target)) == sorted(expected)
    for name in ("alice", "bob"):  # each of them alone, by hand
        own = Ring(tmp_path / name)
        secret = people.export(tmp_path / f"{name}.key", getattr(people, name), secret=True)
        own.run("--import", secret)
        assert own.run("--decrypt", target) == dump_file.read_bytes()
        own.end()


def test_what_is_written(tmp_path: Path, gpg: Gpg, people: People, dump_file: Path) -> None:
    """AES-256 with an integrity check, not compressed, and no file name inside."""
    target = tmp_path / "x.gpg"
    dump_file.write_bytes(bytes(1_000_000))
    encrypted = gpg.encrypt(dump_file, target, gpg.resolve([people.alice]))
    assert encrypted.size > 1_000_000
    own = Ring(tmp_path / "own")
    own.run("--import", people.private / "alice.asc")
    status = own.run("--status-fd", "1", "--output", "/dev/null", "--decrypt", target).decode()
    packets = own.run("--list-packets", target).decode()
    own.end()
    assert "DECRYPTION_INFO 2 9 0" in status
    assert 'name=""' in packets
    assert "compressed packet" not in packets
    assert dump_file.name not in packets


def test_an_empty_file(tmp_path: Path, gpg: Gpg, restorer: Gpg) -> None:
    (tmp_path / "empty").touch()
    gpg.encrypt(tmp_path / "empty", tmp_path / "x.gpg", gpg.resolve(["alice@example.org"]))
    decrypted = restorer.decrypt(tmp_path / "x.gpg", tmp_path / "x", passphrase_file=None)
    assert (decrypted.size, decrypted.sha256) == (0, hashlib.sha256(b"").hexdigest())


def test_the_newest_subkey_is_used(tmp_path: Path, ring: Ring, dump_file: Path) -> None:
    fingerprint = ring.key("Turn <turn@example.org>", "ed25519", at=LONG_AGO)
    for year in ("2020", "2022", "2021"):
        ring.run("--quick-add-key", fingerprint, "cv25519", "encr", "0", at=f"{year}0601T000000")
    first, second, third = ring.subkeys(fingerprint)
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.asc").parent)
    (key,) = gpg.resolve(["turn@example.org"])
    assert key.encryption_subkeys == (second, third, first)
    gpg.encrypt(dump_file, tmp_path / "x.gpg", [key])
    assert gpg.encrypted_to(tmp_path / "x.gpg") == [second]


def test_nobody_listens_in_by_configuration(
    tmp_path: Path, gpg: Gpg, people: People, dump_file: Path
) -> None:
    (tmp_path / "dump" / "gpg.conf").write_text(
        f"encrypt-to {people.bob}\nhidden-encrypt-to {people.carol}\nthrow-keyids\ncompress-algo zip\n"
    )
    key = gpg.resolve(["alice@example.org"])
    gpg.encrypt(dump_file, tmp_path / "x.gpg", key)
    assert gpg.encrypted_to(tmp_path / "x.gpg") == people.subkeys(people.alice)


def test_recipients_read_back(tmp_path: Path, gpg: Gpg, people: People, dump_file: Path) -> None:
    """The check after encryption, on files that bare gpg made for others than were asked for."""
    alice, bob = gpg.resolve(["alice@example.org", "bob@example.org"])
    made = {
        "both": people.encrypt(dump_file, tmp_path / "both", "-r", people.alice, "-r", people.bob),
        "hidden": people.encrypt(dump_file, tmp_path / "hidden", "-r", people.alice, "-R", people.bob),
        "one": people.encrypt(dump_file, tmp_path / "one", "-r", people.alice),
    }
    found = {name: gpg.encrypted_to(path) for name, path in made.items()}
    check_recipients(found["both"], [bob, alice])
    check_recipients(found["one"], [alice])
    with pytest.raises(EncryptionFailed, match=people.subkeys(people.bob)[0]):
        check_recipients(found["both"], [alice])
    with pytest.raises(EncryptionFailed, match=f"0 subkeys of {people.bob}"):
        check_recipients(found["one"], [alice, bob])
    with pytest.raises(EncryptionFailed, match="a hidden recipient"):
        check_recipients(found["hidden"], [alice])
    with pytest.raises(EncryptionFailed, match=f"0 subkeys of {people.alice}"):
        check_recipients([], [alice])
    assert gpg.encrypted_to(dump_file) == []


def test_nobody_to_encrypt_to(tmp_path: Path, gpg: Gpg, dump_file: Path) -> None:
    with pytest.raises(EncryptionFailed, match="nobody"):
        gpg.encrypt(dump_file, tmp_path / "x.gpg", [])


@pytest.mark.parametrize("which", ["expired", "revoked", "signer"])
def test_gpg_itself_refuses_a_key_gone_bad(
    tmp_path: Path, gpg: Gpg, people: People, dump_file: Path, which: str
) -> None:
    """Between `resolve` and `encrypt` a key may expire."""
    fingerprint = getattr(people, which)
    stale = Key(fingerprint, "Stale", None, "ECDH cv25519", ("0" * 16,), 255)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(EncryptionFailed, match=f"gpg does not encrypt to {fingerprint}"):
        gpg.encrypt(dump_file, tmp_path / "x.gpg", [*gpg.resolve(["alice@example.org"]), stale])
    assert sorted(os.listdir(tmp_path)) == before


def test_a_source_that_is_gone(tmp_path: Path, gpg: Gpg) -> None:
    with pytest.raises(FileNotFoundError):
        gpg.encrypt(tmp_path / "gone", tmp_path / "x.gpg", gpg.resolve(["alice@example.org"]))


def test_stop_ends_gpg(tmp_path: Path, gpg: Gpg, dump_file: Path) -> None:
    stop = threading.Event()
    (key,) = gpg.resolve(["alice@example.org"])
    with (
        endless(tmp_path / "endless", dump_file.read_bytes()[:60_000]) as pipe,
        ThreadPoolExecutor(1) as pool,
    ):
        work = pool.submit(gpg.encrypt, pipe, tmp_path / "x.gpg", [key], stop=stop)
        assert in_time(lambda: bool(running("gpg", tmp_path / "dump")))
        stop.set()
        with pytest.raises(Cancelled):
            work.result(20)
    assert not running("gpg", tmp_path / "dump")
    assert not list(tmp_path.glob("x.gpg*"))


def test_what_progress_raises_ends_gpg(tmp_path: Path, gpg: Gpg, dump_file: Path) -> None:
    def progress(_: int) -> None:
        raise RuntimeError("the lease is lost")

    with pytest.raises(RuntimeError, match="the lease is lost"):
        gpg.encrypt(dump_file, tmp_path / "x.gpg", gpg.resolve(["alice@example.org"]), progress=progress)
    assert not list(tmp_path.glob("x.gpg*"))


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory with room for 1 MB: a tmpfs where we may mount one, else by the limit on a file's size."""
    directory = tmp_path / "disk"
    directory.mkdir()
    if (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", directory], capture_output=True, check=False
        ).returncode
    ):
        yield directory
        subprocess.run(["umount", directory], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield directory
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk(tmp_path: Path, gpg: Gpg, restorer: Gpg, dump_file: Path, full_disk: Path) -> None:
    encrypted = tmp_path / "x.gpg"
    keys = gpg.resolve(["alice@example.org"])
    with pytest.raises(SpoolFull, match=f"{full_disk} takes no more data"):
        gpg.encrypt(dump_file, full_disk / "x.gpg", keys)
    assert os.listdir(full_disk) == []
    if os.path.ismount(full_disk):  # otherwise nothing large can be made anywhere
        gpg.encrypt(dump_file, encrypted, keys)
        with pytest.raises(SpoolFull):
            restorer.decrypt(encrypted, full_disk / "x", passphrase_file=None)
        assert os.listdir(full_disk) == []


# --- decrypting -----------------------------------------------------------------------------------


def test_decrypt(tmp_path: Path, restorer: Gpg, encrypted_dump: Path, dump_file: Path) -> None:
    told: list[int] = []
    decrypted = restorer.decrypt(encrypted_dump, tmp_path / "x", passphrase_file=None, progress=told.append)
    assert (decrypted.size, decrypted.sha256) == digest(tmp_path / "x") == digest(dump_file)
    assert told[-1] == decrypted.size


def test_decrypt_what_others_encrypted(
    tmp_path: Path, restorer: Gpg, people: People, dump_file: Path
) -> None:
    """By bare gpg with its defaults, compressed, and to a hidden recipient."""
    people.run("--output", tmp_path / "x.gpg", "-R", people.alice, "-r", people.bob, "--encrypt", dump_file)
    restorer.decrypt(tmp_path / "x.gpg", tmp_path / "x", passphrase_file=None)
    assert digest(tmp_path / "x") == digest(dump_file)


def test_without_the_private_key(tmp_path: Path, gpg: Gpg, people: People, encrypted_dump: Path) -> None:
    with pytest.raises(DecryptionFailed, match="no private key here") as caught:
        gpg.decrypt(encrypted_dump, tmp_path / "x", passphrase_file=None)
    for key_id in (*people.subkeys(people.alice), *people.subkeys(people.carol)):
        assert key_id in caught.value.message
    assert not (tmp_path / "x").exists()


def test_a_passphrase_from_a_file(tmp_path: Path, carols: Gpg, encrypted_dump: Path, dump_file: Path) -> None:
    right = written(tmp_path / "right", "open sesame\n")
    wrong = written(tmp_path / "wrong", "open barley\n")
    empty = written(tmp_path / "empty", "")
    carols.decrypt(encrypted_dump, tmp_path / "x", passphrase_file=right)
    assert digest(tmp_path / "x") == digest(dump_file)
    for file, kind, message in (
        (wrong, DecryptionFailed, "The passphrase does not open"),
        (empty, DecryptionFailed, "has a passphrase, and none was given"),
        (None, DecryptionFailed, "has a passphrase, and none was given"),
        (tmp_path / "nowhere", ConfigError, "PGFLEET_GPG_PASSPHRASE_FILE: .*/nowhere cannot be read"),
    ):
        with pytest.raises(kind, match=message) as caught:
            carols.decrypt(encrypted_dump, tmp_path / "y", passphrase_file=file)
        assert "sesame" not in str(caught.value)
        assert "barley" not in str(caught.value)
    assert not (tmp_path / "y").exists()


def test_one_passphrase_among_several_private_keys(
    tmp_path: Path, carols: Gpg, people: People, ring: Ring, dump_file: Path
) -> None:
    """gpg exits with 2 although it decrypted, when it came past a key that the passphrase is not for."""
    dave = ring.key("Dave <dave@example.org>", passphrase="another")
    ring.export(tmp_path / "keys" / "d.asc", dave, secret=True, passphrase="another")
    ring.run("--import", people.public / "all.asc")
    carols.import_keys(tmp_path / "keys")
    right = written(tmp_path / "right", "open sesame\n")
    for order in ((dave, people.carol), (people.carol, dave)):
        recipients = [argument for fingerprint in order for argument in ("-r", fingerprint)]
        ring.encrypt(dump_file, tmp_path / "both.gpg", *recipients)
        carols.decrypt(tmp_path / "both.gpg", tmp_path / "x", passphrase_file=right)
        assert digest(tmp_path / "x") == digest(dump_file)
        whole = bytearray((tmp_path / "both.gpg").read_bytes())
        whole[-1000] ^= 1
        (tmp_path / "both.gpg").write_bytes(whole)
        with pytest.raises(DecryptionFailed, match="is damaged"):
            carols.decrypt(tmp_path / "both.gpg", tmp_path / "y", passphrase_file=right)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda whole: whole[:9000] + bytes([whole[9000] ^ 1]) + whole[9001:],
            "integrity check",
        ),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), "integrity check"),
        (lambda whole: whole[:-1], "integrity check"),
        (lambda whole: whole[:2_000_000], "integrity check"),
        (lambda whole: whole[:70], "only a piece"),
        (lambda whole: whole + b"more", "integrity check"),
        (lambda whole: whole[:1_000_000] + whole[1_010_000:], "integrity check"),
        (lambda _: b"", "not OpenPGP data"),
        (lambda _: b"PGDMP" + bytes(5000), "not OpenPGP data"),
    ],
)
def test_damaged_data(
    tmp_path: Path, restorer: Gpg, encrypted_dump: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    encrypted_dump.write_bytes(damage(encrypted_dump.read_bytes()))
    (tmp_path / "x").write_text("from before")
    with pytest.raises(DecryptionFailed, match=rf"x\.gpg is damaged: .*{message}"):
        restorer.decrypt(encrypted_dump, tmp_path / "x", passphrase_file=None)
    assert (tmp_path / "x").read_text() == "from before"


def test_a_damaged_session_key(tmp_path: Path, restorer: Gpg, people: People, dump_file: Path) -> None:
    encrypted = people.encrypt(dump_file, tmp_path / "x.gpg", "-r", people.alice)
    whole = bytearray(encrypted.read_bytes())
    whole[60] ^= 1
    encrypted.write_bytes(whole)
    with pytest.raises(DecryptionFailed, match="is damaged: the session key"):
        restorer.decrypt(encrypted, tmp_path / "x", passphrase_file=None)


@pytest.mark.parametrize("how", ["--store", "--sign"])
def test_openpgp_data_that_is_not_encrypted(
    tmp_path: Path, restorer: Gpg, people: People, dump_file: Path, how: str
) -> None:
    people.run("--output", tmp_path / "x.gpg", "--local-user", people.alice, how, dump_file)
    with pytest.raises(DecryptionFailed, match="is not encrypted"):
        restorer.decrypt(tmp_path / "x.gpg", tmp_path / "x", passphrase_file=None)
    assert not (tmp_path / "x").exists()


def test_stop_ends_decryption(tmp_path: Path, restorer: Gpg, encrypted_dump: Path) -> None:
    stop, begun = threading.Event(), threading.Event()
    with (
        endless(tmp_path / "endless", encrypted_dump.read_bytes()[:60_000]) as pipe,
        ThreadPoolExecutor(1) as pool,
    ):

        def work() -> None:
            restorer.decrypt(
                pipe, tmp_path / "x", passphrase_file=None, stop=stop, progress=lambda _: begun.set()
            )

        done = pool.submit(work)
        assert begun.wait(20)
        assert running("gpg-agent", tmp_path / "restore")
        stop.set()
        with pytest.raises(Cancelled):
            done.result(20)
    assert not running("gpg", tmp_path / "restore")
    assert not running("gpg-agent", tmp_path / "restore")
    assert sorted(path.name for path in tmp_path.glob("x*")) == ["x.gpg"]
