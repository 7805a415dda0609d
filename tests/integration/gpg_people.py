"""People with keys in every state, made by bare gpg: what exists without pgfleet."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

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
        self.export(self.public / "all.asc")
        self.private = root / "private"
        self.export(self.private / "alice.asc", self.alice, secret=True)
        self.carols = root / "carols"
        self.export(self.carols / "carol.asc", self.carol, secret=True, passphrase="open sesame")


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


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@contextmanager
def endless(path: Path, beginning: bytes) -> Iterator[Path]:
    """A source that gives a little and then waits for ever."""
    os.mkfifo(path)
    pipe = os.open(path, os.O_RDWR)
    os.write(pipe, beginning)
    yield path
    os.close(pipe)
