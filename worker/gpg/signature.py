"""Detached signatures over evidence."""

from __future__ import annotations

import tempfile
from pathlib import Path

from worker.errors import ConfigError, ValidationFailed
from worker.gpg.home import Home


def sign(home: Home, data: bytes | Path, key: str, passphrase_file: Path | None) -> bytes:
    content = data if isinstance(data, bytes) else data.read_bytes()
    status = home.run_private(passphrase_file, "--armor", "--local-user", key, "--detach-sign", input=content)
    if status.returncode != 0 or not status.said("SIG_CREATED") or status.said("FAILURE"):
        raise ConfigError(
            f"PGFLEET_SIGNING_KEY: {key} cannot sign: {status.detail or f'exit code {status.returncode}'}.",
            "Name a valid key whose private part is here (passphrase: PGFLEET_GPG_PASSPHRASE_FILE).",
        )
    return status.stdout


def verify_signature(home: Home, data: bytes | Path, signature: bytes) -> str:
    content = data if isinstance(data, bytes) else data.read_bytes()
    with tempfile.NamedTemporaryFile(prefix="pgfleet-", suffix=".asc") as file:
        file.write(signature)
        file.flush()
        status = home.run("--verify", file.name, "-", input=content)
    valid = status.values("VALIDSIG")
    if (
        len(valid) == 1
        and status.said("GOODSIG", "EXPKEYSIG")
        and not status.said("BADSIG", "ERRSIG", "FAILURE")
    ):
        return valid[0][-1]
    if status.said("BADSIG"):
        raise ValidationFailed(
            "The signature does not belong to this content: one of them was changed.",
            "Do not trust it; compare with another copy.",
        )
    if status.said("NO_PUBKEY"):
        raise ValidationFailed(
            f"The signature is by key {status.values('NO_PUBKEY')[0][0]}, which is not known here.",
            "Put its public key into PGFLEET_GPG_KEYS_DIR if you trust it.",
        )
    if status.said("REVKEYSIG"):
        raise ValidationFailed("The signature is by a key that was revoked.", "Ask its owner since when.")
    raise ValidationFailed(
        f"This is not a valid signature: {status.detail or 'gpg gives no reason'}.",
        "Compare with another copy.",
    )
