"""A GnuPG home of our own with fresh keys, and the agent that holds the private ones."""

from __future__ import annotations

import shutil
from pathlib import Path

from worker.errors import MissingDependency, PgfleetError
from worker.local.child import Child
from worker.local.environment import plain
from worker.process import Finished, run

_AGENT_SECONDS = 10.0
_GPG_SECONDS = 60.0
_KEY_CREATED = "[GNUPG:] KEY_CREATED"


class Keys:
    """home: GNUPGHOME, with both halves. public_dir: each public key as ``NAME.asc``. No passphrases.

    The home's path must be short: gpg-agent's sockets lie in it.
    """

    def __init__(self, directory: Path) -> None:
        self.home = directory / "gnupg"
        self.public_dir = directory / "keys"
        self.recipient = ""
        # gpg-agent goes into the background and ends (within 4 s) after the program that it was started for:
        # that one is our child. A gpg that finds no agent must not start one of its own, which nobody would
        # end.
        self._agent = Child(
            "gpg-agent",
            [
                _which("gpg-agent"),
                "--homedir",
                self.home,
                "--no-detach",
                "--daemon",
                "--",
                _which("sleep"),
                "infinity",
            ],
            env=plain(directory),
            log=directory / "gpg-agent.log",
            stop_seconds=2,
        )

    def start(self) -> None:
        """Make the home and a first key, `recipient`. Raises MissingDependency, PgfleetError."""
        self.home.mkdir(mode=0o700, parents=True)
        self.public_dir.mkdir()
        (self.home / "gpg.conf").write_text("no-autostart\nno-greeting\n")
        self._agent.start()
        try:
            self._agent.wait_ready((self.home / "S.gpg-agent").exists, _AGENT_SECONDS)
            self.recipient = self.add("pgfleet")
        except BaseException:
            self.stop()
            raise

    def add(self, name: str, expires: str = "never") -> str:
        """A new key pair (ed25519 and cv25519, signing and encrypting). Returns its fingerprint.

        expires: as gpg takes it, for example ``1d``, ``seconds=2`` or ``2030-01-01``.
        """
        user_id = f"{name} <{name}@pgfleet.invalid>"
        made = self._gpg(
            "--passphrase", "", "--pinentry-mode", "loopback",
            "--quick-gen-key", user_id, "future-default", "default", expires,
        )  # fmt: skip
        lines = made.stdout.decode().splitlines()
        fingerprint = next(line.split()[-1] for line in lines if line.startswith(_KEY_CREATED))
        exported = self._gpg("--armor", "--export", fingerprint)
        (self.public_dir / f"{name}.asc").write_bytes(exported.stdout)
        return fingerprint

    def stop(self) -> None:
        """Idempotent."""
        self._agent.stop()

    def _gpg(self, *arguments: str) -> Finished:
        status = () if "--export" in arguments else ("--status-fd", "1")
        argv = ["gpg", "--homedir", str(self.home), "--batch", "--no-tty", "--quiet", *status, *arguments]
        finished = run(argv, timeout=_GPG_SECONDS)
        if finished.returncode:
            raise PgfleetError("gpg could not make a key.", f"It said:\n{finished.stderr.strip()}")
        return finished


def _which(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        raise MissingDependency(f"{program} is not installed here.", "Install GnuPG: apt-get install gnupg.")
    return found
