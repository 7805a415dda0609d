from __future__ import annotations

import hashlib
import logging
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from worker.errors import (
    Cancelled,
    ConfigError,
    DecryptionFailed,
    EncryptionFailed,
    SpoolFull,
    ValidationFailed,
)
from worker.gpg import Gpg, Key
from worker.gpg.data import check_recipients

LONG_AGO = "20200101T000000"


class Ring:
    """Somebody's own GnuPG home, driven by bare gpg: what exists without pgfleet."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)
        cheap_passphrases(home)

    def run(self, *arguments: str | Path, at: str = "", passphrase: str = "", stdin: str = "") -> bytes:
        when = ["--faked-system-time", at] if at else []
        options = ["--batch", "--yes", "--no-tty", "--trust-model", "always", "--pinentry-mode", "loopback"]
        return subprocess.run(
            ["gpg", "--homedir", self.home, *options, *when, "--passphrase", passphrase, *arguments],
            input=stdin.encode(),
            capture_output=True,
            check=True,
        ).stdout

    def key(self, user_id: str, algo: str = "future-default", expire: str = "0", **how: str) -> str:
        """Make a key and return its fingerprint: one to sign with; unless ed25519, a subkey too."""
        before = set(self.fingerprints())
        usage = "sign" if algo == "ed25519" else "default"
        self.run("--quick-gen-key", "--", user_id, algo, usage, expire, **how)
        (made,) = set(self.fingerprints()) - before
        return made

    def fingerprints(self) -> list[str]:
        lines = self.run("--with-colons", "--list-keys").decode("latin-1").split("\n")
        return [after.split(":")[9] for line, after in pairwise(lines) if line.startswith("pub:")]

    def subkeys(self, name: str) -> list[str]:
        listing = self.run("--with-colons", "--list-keys", name).decode().splitlines()
        return [line.split(":")[4] for line in listing if line.startswith("sub:")]

    def revoke(self, fingerprint: str) -> None:
        certificate = (self.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
        self.run("--import", stdin=certificate.replace(":-----BEGIN", "-----BEGIN"))

    def export(self, path: Path, *names: str, secret: bool = False, **how: str) -> Path:
        path.parent.mkdir(exist_ok=True)
        armor = ["--armor"] if path.suffix == ".asc" else []
        what = "--export-secret-keys" if secret else "--export"
        path.write_bytes(self.run(*armor, what, *names, **how))
        return path

    def encrypt(self, source: Path, target: Path, *arguments: str) -> Path:
        self.run("--compress-algo", "none", "--output", target, *arguments, "--encrypt", source)
        return target

    def end(self) -> None:
        subprocess.run(["gpgconf", "--homedir", self.home, "--kill", "gpg-agent"], check=True)


def cheap_passphrases(home: Path) -> None:
    (home / "gpg-agent.conf").write_text("s2k-count 65536\n")


class People(Ring):
    """Keys in every state, and where each was exported to. Made once: it takes a second or two."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "people")
        self.alice = self.key("Alice <alice@example.org>")
        self.bob = self.key("Bob <bob@example.org>")
        self.carol = self.key("Carol <carol@example.org>", passphrase="open sesame")
        self.signer = self.key("Signer <signer@example.org>", "ed25519")
        self.expired = self.key("Old <old@example.org>", expire="30d", at=LONG_AGO)
        self.revoked = self.key("Gone <gone@example.org>")
        self.revoke(self.revoked)
        self.public = root / "public"
        for name in ("alice", "bob", "carol", "signer", "expired", "revoked"):
            self.export(self.public / f"{name}.asc", getattr(self, name))
        self.private = root / "private"
        self.export(self.private / "alice.asc", self.alice, secret=True)
        self.carols = root / "carols"
        self.export(self.carols / "carol.asc", self.carol, secret=True, passphrase="open sesame")
        self.end()


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> People:
    return People(tmp_path_factory.mktemp("gpg"))


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
def source(tmp_path: Path) -> Path:
    path = tmp_path / "goimg.dump"
    path.write_bytes(os.urandom(3_000_000))
    return path


def running(program: str, home: Path) -> list[int]:
    """The living processes of a program in a GnuPG home."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            argv = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if argv and argv[0].endswith(program.encode()) and os.fsencode(home) in argv:
            found.append(int(entry.name))
    return found


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for home in ("dump", "restore"):
        for program in ("gpg", "gpg-agent"):
            assert not running(program, tmp_path / home)
    assert list(tmp_path.glob("*.partial")) == []


def in_time(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def digest(path: Path) -> tuple[int, str]:
    content = path.read_bytes()
    return len(content), hashlib.sha256(content).hexdigest()


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


# --- encrypting -----------------------------------------------------------------------------------


def test_encrypt_to_two(tmp_path: Path, gpg: Gpg, people: People, source: Path) -> None:
    keys = gpg.resolve(["alice@example.org", "bob@example.org"])
    target = tmp_path / "goimg.dump.gpg"
    told: list[int] = []

    encrypted = gpg.encrypt(source, target, keys, progress=told.append)

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
        assert own.run("--decrypt", target) == source.read_bytes()
        own.end()
    people.end()


def test_what_is_written(tmp_path: Path, gpg: Gpg, people: People, source: Path) -> None:
    """AES-256 with an integrity check, not compressed, and no file name inside."""
    target = tmp_path / "x.gpg"
    source.write_bytes(bytes(1_000_000))
    encrypted = gpg.encrypt(source, target, gpg.resolve([people.alice]))
    assert encrypted.size > 1_000_000
    own = Ring(tmp_path / "own")
    own.run("--import", people.private / "alice.asc")
    status = own.run("--status-fd", "1", "--output", "/dev/null", "--decrypt", target).decode()
    packets = own.run("--list-packets", target).decode()
    own.end()
    assert "DECRYPTION_INFO 2 9 0" in status
    assert 'name=""' in packets
    assert "compressed packet" not in packets
    assert source.name not in packets


def test_an_empty_file(tmp_path: Path, gpg: Gpg, restorer: Gpg) -> None:
    (tmp_path / "empty").touch()
    gpg.encrypt(tmp_path / "empty", tmp_path / "x.gpg", gpg.resolve(["alice@example.org"]))
    decrypted = restorer.decrypt(tmp_path / "x.gpg", tmp_path / "x", passphrase_file=None)
    assert (decrypted.size, decrypted.sha256) == (0, hashlib.sha256(b"").hexdigest())


def test_the_newest_subkey_is_used(tmp_path: Path, ring: Ring, source: Path) -> None:
    fingerprint = ring.key("Turn <turn@example.org>", "ed25519", at=LONG_AGO)
    for year in ("2020", "2022", "2021"):
        ring.run("--quick-add-key", fingerprint, "cv25519", "encr", "0", at=f"{year}0601T000000")
    first, second, third = ring.subkeys(fingerprint)
    gpg = Gpg(tmp_path / "dump")
    gpg.import_keys(ring.export(tmp_path / "keys" / "k.asc").parent)
    (key,) = gpg.resolve(["turn@example.org"])
    assert key.encryption_subkeys == (second, third, first)
    gpg.encrypt(source, tmp_path / "x.gpg", [key])
    assert gpg.encrypted_to(tmp_path / "x.gpg") == [second]


def test_nobody_listens_in_by_configuration(tmp_path: Path, gpg: Gpg, people: People, source: Path) -> None:
    (tmp_path / "dump" / "gpg.conf").write_text(
        f"encrypt-to {people.bob}\nhidden-encrypt-to {people.carol}\nthrow-keyids\ncompress-algo zip\n"
    )
    key = gpg.resolve(["alice@example.org"])
    gpg.encrypt(source, tmp_path / "x.gpg", key)
    assert gpg.encrypted_to(tmp_path / "x.gpg") == people.subkeys(people.alice)


def test_recipients_read_back(tmp_path: Path, gpg: Gpg, people: People, source: Path) -> None:
    """The check after encryption, on files that bare gpg made for others than were asked for."""
    alice, bob = gpg.resolve(["alice@example.org", "bob@example.org"])
    made = {
        "both": people.encrypt(source, tmp_path / "both", "-r", people.alice, "-r", people.bob),
        "hidden": people.encrypt(source, tmp_path / "hidden", "-r", people.alice, "-R", people.bob),
        "one": people.encrypt(source, tmp_path / "one", "-r", people.alice),
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
    assert gpg.encrypted_to(source) == []


def test_nobody_to_encrypt_to(tmp_path: Path, gpg: Gpg, source: Path) -> None:
    with pytest.raises(EncryptionFailed, match="nobody"):
        gpg.encrypt(source, tmp_path / "x.gpg", [])


@pytest.mark.parametrize("which", ["expired", "revoked", "signer"])
def test_gpg_itself_refuses_a_key_gone_bad(
    tmp_path: Path, gpg: Gpg, people: People, source: Path, which: str
) -> None:
    """Between `resolve` and `encrypt` a key may expire."""
    fingerprint = getattr(people, which)
    stale = Key(fingerprint, "Stale", None, "ECDH cv25519", ("0" * 16,), 255)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(EncryptionFailed, match=f"gpg does not encrypt to {fingerprint}"):
        gpg.encrypt(source, tmp_path / "x.gpg", [*gpg.resolve(["alice@example.org"]), stale])
    assert sorted(os.listdir(tmp_path)) == before


def test_a_source_that_is_gone(tmp_path: Path, gpg: Gpg) -> None:
    with pytest.raises(FileNotFoundError):
        gpg.encrypt(tmp_path / "gone", tmp_path / "x.gpg", gpg.resolve(["alice@example.org"]))


@contextmanager
def endless(path: Path, beginning: bytes) -> Iterator[Path]:
    """A source that gives a little and then waits for ever."""
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)
    os.write(pipe, beginning)
    yield path
    os.close(pipe)


def test_stop_ends_gpg(tmp_path: Path, gpg: Gpg, source: Path) -> None:
    stop = threading.Event()
    (key,) = gpg.resolve(["alice@example.org"])
    with endless(tmp_path / "endless", source.read_bytes()[:60_000]) as pipe, ThreadPoolExecutor(1) as pool:
        work = pool.submit(gpg.encrypt, pipe, tmp_path / "x.gpg", [key], stop=stop)
        assert in_time(lambda: bool(running("gpg", tmp_path / "dump")))
        stop.set()
        with pytest.raises(Cancelled):
            work.result(20)
    assert not running("gpg", tmp_path / "dump")
    assert not list(tmp_path.glob("x.gpg*"))


def test_what_progress_raises_ends_gpg(tmp_path: Path, gpg: Gpg, source: Path) -> None:
    def progress(_: int) -> None:
        raise RuntimeError("the lease is lost")

    with pytest.raises(RuntimeError, match="the lease is lost"):
        gpg.encrypt(source, tmp_path / "x.gpg", gpg.resolve(["alice@example.org"]), progress=progress)
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


def test_a_full_disk(tmp_path: Path, gpg: Gpg, restorer: Gpg, source: Path, full_disk: Path) -> None:
    encrypted = tmp_path / "x.gpg"
    keys = gpg.resolve(["alice@example.org"])
    with pytest.raises(SpoolFull, match=f"{full_disk} takes no more data"):
        gpg.encrypt(source, full_disk / "x.gpg", keys)
    assert os.listdir(full_disk) == []
    if os.path.ismount(full_disk):  # otherwise nothing large can be made anywhere
        gpg.encrypt(source, encrypted, keys)
        with pytest.raises(SpoolFull):
            restorer.decrypt(encrypted, full_disk / "x", passphrase_file=None)
        assert os.listdir(full_disk) == []


# --- decrypting -----------------------------------------------------------------------------------


@pytest.fixture
def encrypted(tmp_path: Path, gpg: Gpg, source: Path) -> Path:
    """To Alice and Carol."""
    gpg.encrypt(source, tmp_path / "x.gpg", gpg.resolve(["alice@example.org", "carol@example.org"]))
    return tmp_path / "x.gpg"


def test_decrypt(tmp_path: Path, restorer: Gpg, encrypted: Path, source: Path) -> None:
    told: list[int] = []
    decrypted = restorer.decrypt(encrypted, tmp_path / "x", passphrase_file=None, progress=told.append)
    assert (decrypted.size, decrypted.sha256) == digest(tmp_path / "x") == digest(source)
    assert told[-1] == decrypted.size


def test_decrypt_what_others_encrypted(tmp_path: Path, restorer: Gpg, people: People, source: Path) -> None:
    """By bare gpg with its defaults, compressed, and to a hidden recipient."""
    people.run("--output", tmp_path / "x.gpg", "-R", people.alice, "-r", people.bob, "--encrypt", source)
    restorer.decrypt(tmp_path / "x.gpg", tmp_path / "x", passphrase_file=None)
    assert digest(tmp_path / "x") == digest(source)


def test_without_the_private_key(tmp_path: Path, gpg: Gpg, people: People, encrypted: Path) -> None:
    with pytest.raises(DecryptionFailed, match="no private key here") as caught:
        gpg.decrypt(encrypted, tmp_path / "x", passphrase_file=None)
    for key_id in (*people.subkeys(people.alice), *people.subkeys(people.carol)):
        assert key_id in caught.value.message
    assert not (tmp_path / "x").exists()


@pytest.fixture
def carols(tmp_path: Path, people: People) -> Gpg:
    """A restore worker whose private key has a passphrase."""
    gpg = Gpg(tmp_path / "restore")
    cheap_passphrases(tmp_path / "restore")
    gpg.import_keys(people.carols)
    return gpg


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_passphrase_from_a_file(tmp_path: Path, carols: Gpg, encrypted: Path, source: Path) -> None:
    right = written(tmp_path / "right", "open sesame\n")
    wrong = written(tmp_path / "wrong", "open barley\n")
    empty = written(tmp_path / "empty", "")
    carols.decrypt(encrypted, tmp_path / "x", passphrase_file=right)
    assert digest(tmp_path / "x") == digest(source)
    for file, kind, message in (
        (wrong, DecryptionFailed, "The passphrase does not open"),
        (empty, DecryptionFailed, "has a passphrase, and none was given"),
        (None, DecryptionFailed, "has a passphrase, and none was given"),
        (tmp_path / "nowhere", ConfigError, "PGFLEET_GPG_PASSPHRASE_FILE: .*/nowhere cannot be read"),
    ):
        with pytest.raises(kind, match=message) as caught:
            carols.decrypt(encrypted, tmp_path / "y", passphrase_file=file)
        assert "open" not in str(caught.value).replace("not open", "")
    assert not (tmp_path / "y").exists()


def test_one_passphrase_among_several_private_keys(
    tmp_path: Path, carols: Gpg, people: People, ring: Ring, source: Path
) -> None:
    """gpg exits with 2 although it decrypted, when it came past a key that the passphrase is not for."""
    dave = ring.key("Dave <dave@example.org>", passphrase="another")
    ring.export(tmp_path / "keys" / "d.asc", dave, secret=True, passphrase="another")
    ring.run("--import", people.public / "carol.asc")
    carols.import_keys(tmp_path / "keys")
    right = written(tmp_path / "right", "open sesame\n")
    for order in ((dave, people.carol), (people.carol, dave)):
        recipients = [argument for fingerprint in order for argument in ("-r", fingerprint)]
        ring.encrypt(source, tmp_path / "both.gpg", *recipients)
        carols.decrypt(tmp_path / "both.gpg", tmp_path / "x", passphrase_file=right)
        assert digest(tmp_path / "x") == digest(source)
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
    tmp_path: Path, restorer: Gpg, encrypted: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    encrypted.write_bytes(damage(encrypted.read_bytes()))
    (tmp_path / "x").write_text("from before")
    with pytest.raises(DecryptionFailed, match=rf"x\.gpg is damaged: .*{message}"):
        restorer.decrypt(encrypted, tmp_path / "x", passphrase_file=None)
    assert (tmp_path / "x").read_text() == "from before"


def test_a_damaged_session_key(tmp_path: Path, restorer: Gpg, people: People, source: Path) -> None:
    encrypted = people.encrypt(source, tmp_path / "x.gpg", "-r", people.alice)
    whole = bytearray(encrypted.read_bytes())
    whole[60] ^= 1
    encrypted.write_bytes(whole)
    with pytest.raises(DecryptionFailed, match="is damaged: the session key"):
        restorer.decrypt(encrypted, tmp_path / "x", passphrase_file=None)


@pytest.mark.parametrize("how", ["--store", "--sign"])
def test_openpgp_data_that_is_not_encrypted(
    tmp_path: Path, restorer: Gpg, people: People, source: Path, how: str
) -> None:
    people.run("--output", tmp_path / "x.gpg", "--local-user", people.alice, how, source)
    people.end()
    with pytest.raises(DecryptionFailed, match="is not encrypted"):
        restorer.decrypt(tmp_path / "x.gpg", tmp_path / "x", passphrase_file=None)
    assert not (tmp_path / "x").exists()


def test_stop_ends_decryption(tmp_path: Path, restorer: Gpg, encrypted: Path) -> None:
    stop, begun = threading.Event(), threading.Event()
    with (
        endless(tmp_path / "endless", encrypted.read_bytes()[:60_000]) as pipe,
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


# --- the agent ------------------------------------------------------------------------------------


def test_many_at_once_and_the_last_one_ends_the_agent(
    tmp_path: Path, restorer: Gpg, people: People, encrypted: Path, source: Path
) -> None:
    again = Gpg(tmp_path / "restore")
    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(gpg.decrypt, encrypted, tmp_path / f"out-{number}-{index}", passphrase_file=None)
            for number in range(6)
            for index, gpg in enumerate((restorer, again))
        ]
        looks = [pool.submit(restorer.has_secret, [people.alice]) for _ in range(6)]
        assert {future.result().sha256 for future in work} == {digest(source)[1]}
        assert all(future.result() for future in looks)
    assert not running("gpg-agent", tmp_path / "restore")


def test_an_agent_of_the_user_stays(tmp_path: Path, restorer: Gpg, encrypted: Path) -> None:
    home = tmp_path / "restore"
    subprocess.run(["gpgconf", "--homedir", home, "--launch", "gpg-agent"], check=True)
    theirs = running("gpg-agent", home)
    assert theirs
    restorer.decrypt(encrypted, tmp_path / "x", passphrase_file=None)
    assert running("gpg-agent", home) == theirs
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True)
    assert in_time(lambda: not running("gpg-agent", home))


def test_public_work_needs_no_agent(tmp_path: Path, gpg: Gpg, source: Path) -> None:
    gpg.encrypt(source, tmp_path / "x.gpg", gpg.resolve(["alice@example.org"]))
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
