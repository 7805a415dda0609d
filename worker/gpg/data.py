"""Encrypting and decrypting files: gpg itself moves the data; we hash its output and judge what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event
from typing import NamedTuple

from worker.durable import Output, replacing
from worker.errors import DecryptionFailed, EncryptionFailed
from worker.gpg.home import Home, Status
from worker.gpg.keys import Key

_HEAD = 1024 * 1024  # bytes; the session keys come first, about 0.5 KiB each
_BAD_PASSPHRASE, _NO_PASSPHRASE = 11, 177  # libgpg-error's err-codes.h
_HIDDEN = "0" * 16


class Encrypted(NamedTuple):
    """Of the encrypted file: bytes, and SHA-256 in hex."""

    size: int
    sha256: str


class Decrypted(NamedTuple):
    """Of the decrypted file: bytes, and SHA-256 in hex."""

    size: int
    sha256: str


def encrypt(
    home: Home,
    source: Path,
    target: Path,
    recipients: Sequence[Key],
    *,
    stop: Event | None,
    progress: Callable[[int], None] | None,
) -> Encrypted:
    if not recipients:
        raise EncryptionFailed("There is nobody to encrypt to.", "Set GPG_RECIPIENT.")
    to = [argument for key in recipients for argument in ("--recipient", key.fingerprint)]
    options = ["--compress-algo", "none", "--personal-cipher-preferences", "AES256"]
    with source.open("rb", buffering=0) as stdin, replacing(target) as output:
        status = home.run(*options, *to, "--encrypt", stdin=stdin, stdout=_sink(output, progress), stop=stop)
        if status.returncode != 0 or not status.said("END_ENCRYPTION") or status.said("FAILURE", "INV_RECP"):
            raise _not_encrypted(source, status)
        check_recipients(encrypted_to(home, output.path), recipients)
    return Encrypted(output.size, output.sha256)


def encrypted_to(home: Home, path: Path) -> list[str]:
    """Long ids of the subkeys that a file is encrypted to, zeros for a hidden one. Reads its head."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    status = home.run("--list-only", "--decrypt", input=head)
    return [value[0] for value in status.values("ENC_TO")]


def check_recipients(found: Sequence[str], wanted: Sequence[Key]) -> None:
    """Exactly one subkey of each key, and nothing else. Raises EncryptionFailed."""
    rest = list(found)
    for key in wanted:
        own = [key_id for key_id in rest if key_id in key.encryption_subkeys]
        if len(own) != 1:
            raise EncryptionFailed(
                f"The output is encrypted to {len(own)} subkeys of {key.fingerprint}, not to one.",
                "The output was thrown away. Please report this with the version of gpg.",
            )
        rest.remove(own[0])
    if rest:
        names = ", ".join("a hidden recipient" if key_id == _HIDDEN else key_id for key_id in rest)
        raise EncryptionFailed(
            f"The output is also encrypted to {names}, who was not asked for.",
            "The output was thrown away. Find out who can change how gpg is run on this worker.",
        )


def decrypt(
    home: Home,
    source: Path,
    target: Path,
    passphrase_file: Path | None,
    *,
    stop: Event | None,
    progress: Callable[[int], None] | None,
) -> Decrypted:
    with source.open("rb", buffering=0) as stdin, replacing(target) as output:
        sink = _sink(output, progress)
        status = home.run_private(passphrase_file, "--decrypt", stdin=stdin, stdout=sink, stop=stop)
        if not _is_decrypted(status):
            raise _not_decrypted(source, status, passphrase_file)
    return Decrypted(output.size, output.sha256)


def _sink(output: Output, progress: Callable[[int], None] | None) -> Callable[[bytes | memoryview], None]:
    if progress is None:
        return output.write

    def write(chunk: bytes | memoryview) -> None:
        output.write(chunk)
        progress(output.size)

    return write


def _is_decrypted(status: Status) -> bool:
    """All of it, and its integrity proven (DECRYPTION_OKAY comes after MDC or AEAD were checked)."""
    if not (status.said("DECRYPTION_OKAY") and status.said("END_DECRYPTION")):
        return False
    if status.said("BADMDC", "DECRYPTION_FAILED", "FAILURE", "NODATA", "UNEXPECTED"):
        return False
    # gpg exits with 2 also when it came past another private key that the passphrase is not for.
    other_key = status.error_codes("pkdecrypt_failed")
    return status.returncode == 0 or (
        status.returncode == 2 and bool(other_key) and other_key <= {_BAD_PASSPHRASE, _NO_PASSPHRASE}
    )


def _not_encrypted(source: Path, status: Status) -> EncryptionFailed:
    refused = [value[-1] for value in status.values("INV_RECP")]
    if refused:
        return EncryptionFailed(
            f"gpg does not encrypt to {', '.join(refused)}: the key is not valid (any more).",
            "Check the recipients' keys: pgfleet doctor",
        )
    return EncryptionFailed(
        f"gpg could not encrypt {source.name}: {status.detail or f'exit code {status.returncode}'}.",
        "Check the worker's disk and memory, and try again.",
    )


def _not_decrypted(source: Path, status: Status, passphrase_file: Path | None) -> DecryptionFailed:
    recipients = [value[0] for value in status.values("ENC_TO")]
    if status.said("DECRYPTION_KEY"):
        return _damaged(source, "it fails its integrity check or is cut short")
    if recipients or status.said("BEGIN_DECRYPTION"):
        return _no_key(source, status, passphrase_file, recipients)
    if status.said("PLAINTEXT"):
        return DecryptionFailed(f"{source.name} is not encrypted.", "Find out what was stored there.")
    return _damaged(source, "it is not OpenPGP data, or only a piece of it")


def _no_key(
    source: Path, status: Status, passphrase_file: Path | None, recipients: Sequence[str]
) -> DecryptionFailed:
    codes = status.error_codes("pkdecrypt_failed")
    if _BAD_PASSPHRASE in codes:
        return DecryptionFailed(
            f"The passphrase does not open the private key for {source.name}.",
            f"Check the first line of {passphrase_file or 'PGFLEET_GPG_PASSPHRASE_FILE'}.",
        )
    if _NO_PASSPHRASE in codes or status.said("NEED_PASSPHRASE"):
        return DecryptionFailed(
            f"The private key for {source.name} has a passphrase, and none was given.",
            "Put it into a file, and set PGFLEET_GPG_PASSPHRASE_FILE.",
        )
    if codes:
        return _damaged(source, "the session key in it cannot be decrypted")
    return DecryptionFailed(
        f"There is no private key here for {source.name}: it is encrypted to {', '.join(recipients)}.",
        "Put one of these private keys into PGFLEET_GPG_PRIVATE_KEYS_DIR.",
    )


def _damaged(source: Path, how: str) -> DecryptionFailed:
    return DecryptionFailed(
        f"{source.name} is damaged: {how}.",
        "Take another copy (--destination) or backup: `pgfleet list` shows them, `pgfleet verify ID` reads one.",
    )
