"""PG_SOURCE=pgdg, against a repository of the test's own that looks like PostgreSQL's.

apt.postgresql.org itself is not asked: its packages are NOT installed here. What is run is all that the Dockerfile
does with it: the signing key out of postgresql-common, the source line, the signature check, the choice of majors.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.deploy.engine import BASE, REPOSITORY, build, docker, run

pytestmark = [pytest.mark.usefixtures("image"), pytest.mark.timeout(600)]
KEY = "usr/share/postgresql-common/pgdg/apt.postgresql.org.asc"
STAGE = "pgfleet-test/pgdg"
MIRROR = "pgfleet-test/pgdg-mirror"


class Mirror:
    """Files of an image: a repository with a newer postgresql-common, which has our key, and a PGDG signed by it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.home = directory / "gnupg"
        self.home.mkdir(mode=0o700)
        self.files = directory / "files"
        self.fingerprints = [self._key(name) for name in ("apt@pgdg.example", "somebody@else.example")]
        self._common()
        self.signed_by(0)

    def gpg(self, *argv: str | Path) -> str:
        return run("gpg", "--batch", "--quiet", "--homedir", self.home, *argv)

    def _key(self, name: str) -> str:
        made = (
            "--pinentry-mode",
            "loopback",
            "--passphrase",
            "",
            "--quick-generate-key",
            name,
            "ed25519",
            "sign",
            "1y",
        )
        self.gpg(*made)
        return self.gpg("--with-colons", "--list-keys", name).split("fpr:::::::::")[1].split(":")[0]

    def _package(self, folder: Path, name: str, version: str, files: dict[str, str]) -> None:
        tree = self.directory / "build" / name
        for path, text in files.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(0o755 if "/bin/" in path else 0o644)
        control = tree / "DEBIAN/control"
        control.parent.mkdir(parents=True)
        fields = {
            "Package": name,
            "Version": version,
            "Architecture": "all",
            "Maintainer": "nobody <n@example.com>",
        }
        control.write_text(
            "".join(f"{field}: {value}\n" for field, value in fields.items()) + "Description: test\n"
        )
        folder.mkdir(parents=True, exist_ok=True)
        run("dpkg-deb", "--root-owner-group", "--build", tree, folder / f"{name}.deb")

    def _index(self, root: Path, folder: Path) -> None:
        text = ""
        for deb in sorted(folder.glob("*.deb")):
            content = deb.read_bytes()
            told = run("dpkg-deb", "--field", deb).rstrip()
            digest = hashlib.sha256(content).hexdigest()
            text += f"{told}\nFilename: {deb.relative_to(root)}\nSize: {len(content)}\nSHA256: {digest}\n\n"
        (folder / "Packages").write_text(text)

    def _common(self) -> None:
        """Debian's repository, as far as postgresql-common goes: trusted here as the distribution's own is."""
        folder = self.files / "debian"
        key = self.gpg("--armor", "--export", self.fingerprints[0])
        self._package(folder, "postgresql-common", "9999", {KEY: key})
        self._index(folder, folder)

    def signed_by(self, which: int) -> None:
        root = self.files / "pgdg"
        folder = root / "dists/bookworm-pgdg/main/binary-all"
        for major in (16, 17):
            name = f"postgresql-client-{major}"
            if not (folder / f"{name}.deb").exists():
                program = f"usr/lib/postgresql/{major}/bin/pg_dump"
                self._package(folder, name, f"{major}.1", {program: f"#!/bin/sh\necho pg_dump {major}.1\n"})
        self._index(root, folder)
        packages = (folder / "Packages").read_bytes()
        architecture = run("dpkg", "--print-architecture").strip()
        lines = [
            "Origin: apt.postgresql.org",
            "Suite: bookworm-pgdg",
            "Codename: bookworm-pgdg",
            f"Architectures: all {architecture}",
            "Components: main",
            f"Date: {formatdate(usegmt=True)}",
            "SHA256:",
            f" {hashlib.sha256(packages).hexdigest()} {len(packages)} main/binary-all/Packages",
        ]
        release = root / "dists/bookworm-pgdg/Release"
        release.write_text("\n".join(lines) + "\n")
        signed = release.with_name("InRelease")
        signed.unlink(missing_ok=True)
        self.gpg("--local-user", self.fingerprints[which], "--clearsign", "--output", signed, release)

    def build(self, majors: str) -> str:
        """The Dockerfile's stage with the client tools, on a base that carries this mirror."""
        (self.files / "Dockerfile").write_text(
            f"FROM {BASE}\n"
            "COPY debian /srv/debian\nCOPY pgdg /srv/pgdg\n"
            "RUN echo 'deb [trusted=yes] file:/srv/debian ./' >/etc/apt/sources.list.d/local.list\n"
        )
        build(MIRROR, self.files)
        given = {"BASE": MIRROR, "PG_SOURCE": "pgdg", "PG_MAJORS": majors, "PGDG_URL": "file:/srv/pgdg"}
        options = [f"--build-arg={name}={value}" for name, value in given.items()]
        return build(STAGE, REPOSITORY, "--target=clients", *options, ok=False)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mirror]:
    mirror = Mirror(tmp_path_factory.mktemp("pgdg"))
    yield mirror
    subprocess.run(
        ["gpgconf", "--kill", "all"], env={**os.environ, "GNUPGHOME": str(mirror.home)}, check=False
    )
    docker("rmi", "--force", STAGE, MIRROR, ok=False)


def test_the_majors_come_from_the_signed_repository(mirror: Mirror) -> None:
    said = mirror.build("16 17")
    assert said.startswith("0 "), said
    dumps = "for dump in /usr/lib/postgresql/*/bin/pg_dump; do $dump; done"
    assert docker("run", "--rm", STAGE, "sh", "-c", dumps) == "pg_dump 16.1\npg_dump 17.1\n"
    line = docker("run", "--rm", STAGE, "cat", "/etc/apt/sources.list.d/pgdg.list")
    assert (
        line == "deb [signed-by=/etc/apt/keyrings/apt.postgresql.org.asc] file:/srv/pgdg bookworm-pgdg main\n"
    )


def test_a_major_that_is_not_there_is_named(mirror: Mirror) -> None:
    assert "Unable to locate package postgresql-client-14" in mirror.build("14")


def test_another_signature_is_refused(mirror: Mirror) -> None:
    mirror.signed_by(1)
    try:
        said = mirror.build("17")
    finally:
        mirror.signed_by(0)
    assert said.startswith("1 "), said
    assert "not signed" in said or "NO_PUBKEY" in said


def test_debians_key_is_postgresqls() -> None:
    """The fingerprint that https://www.postgresql.org/download/linux/debian/ gives."""
    script = (
        "cd /tmp && apt-get -qq update && apt-get -qq download postgresql-common && dpkg-deb -x *.deb . && cat "
        + KEY
    )
    key = docker("run", "--rm", BASE, "sh", "-c", script)
    shown = run("gpg", "--batch", "--with-colons", "--show-keys", "-", stdin=key)
    assert "fpr:::::::::B97B0AFCAA1A47F044F244A07FCC7D46ACCC4CF8:" in shown
