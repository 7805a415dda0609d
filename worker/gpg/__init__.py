"""GnuPG: to whom backups are encrypted, encrypting, decrypting, and signing evidence.

Keys go through python-gnupg; bulk data goes through gpg itself, which is faster (benchmarks/encrypt.py).
Every decision is made from exit codes and the status-fd, never from prose. Nothing ever prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from threading import Event

from worker.gpg import data, keys, signature
from worker.gpg.data import Decrypted, Encrypted
from worker.gpg.home import Home
from worker.gpg.keys import Key

__all__ = ["Decrypted", "Encrypted", "Gpg", "Key"]


class Gpg:
    """One GnuPG home, made (mode 0700) when it is missing. Many threads and processes may use it at once.

    Raises ConfigError when the directory cannot be used, MissingDependency without gpg 2.2 or newer.
    """

    def __init__(self, home: Path) -> None:
        self._home = Home(home)

    def import_keys(self, directory: Path, *, public_only: bool = False) -> list[str]:
        """Import every .asc, .gpg, .key and .pub file; return their keys' fingerprints. Idempotent.

        public_only: a private key is refused, before any of its file is imported.
        Raises ConfigError that names the file (or directory) that is wrong.
        """
        return keys.import_keys(self._home, directory, public_only=public_only)

    def resolve(self, recipients: Sequence[str]) -> list[Key]:
        """The keys of recipients named by email address, key id or fingerprint, each once.

        Raises EncryptionFailed when one is unknown, ambiguous, expired, revoked, disabled or cannot encrypt.
        """
        return keys.resolve(self._home, recipients)

    def named(self, name: str) -> frozenset[str]:
        """Fingerprints of the keys that an email address, key id or fingerprint means, whatever state they are in."""
        return keys.named(self._home, name)

    def has_secret(self, key_ids: Collection[str]) -> bool:
        """Whether the private key of any of these (sub)keys is here, by long key id or fingerprint."""
        return keys.has_secret(self._home, key_ids)

    def encrypt(
        self,
        source: Path,
        target: Path,
        recipients: Sequence[Key],
        *,
        stop: Event | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Encrypted:
        """Encrypt a file; `target` appears once it is whole and durable, its recipients read back from it.

        progress: gets the bytes written so far; what it raises ends the work.
        Raises EncryptionFailed, SpoolFull, Cancelled (`stop` was set), OSError (`source` cannot be read).
        """
        return data.encrypt(self._home, source, target, recipients, stop=stop, progress=progress)

    def encrypted_to(self, path: Path) -> list[str]:
        """Long ids of the subkeys that a file is encrypted to, zeros for a hidden one. Reads its head."""
        return data.encrypted_to(self._home, path)

    def decrypt(
        self,
        source: Path,
        target: Path,
        *,
        passphrase_file: Path | None,
        stop: Event | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Decrypted:
        """Decrypt a file; `target` appears once it is whole and durable, its integrity proven.

        passphrase_file: its first line is the private key's passphrase. progress: as for `encrypt`.
        Raises DecryptionFailed (no private key, wrong passphrase, damaged, not encrypted), SpoolFull,
        Cancelled, OSError.
        """
        return data.decrypt(self._home, source, target, passphrase_file, stop=stop, progress=progress)

    def sign(self, content: bytes | Path, key: str, *, passphrase_file: Path | None = None) -> bytes:
        """A detached, armored signature; `key`: a fingerprint. Raises ConfigError when it cannot sign."""
        return signature.sign(self._home, content, key, passphrase_file)

    def verify_signature(self, content: bytes | Path, signature_: bytes) -> str:
        """The fingerprint of the primary key that signed this content. Whether to trust it is for the caller.

        A key that expired since is accepted: evidence outlives keys.
        Raises ValidationFailed when content or signature were changed, the key is unknown or was revoked.
        """
        return signature.verify_signature(self._home, content, signature_)
