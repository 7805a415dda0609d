"""Whose signature counts: a key that is merely known here, a recipient's maybe, vouches for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from worker.errors import ConfigError, PgfleetError, ValidationFailed
from worker.steps.context import Adapters

#: Fingerprints of the keys whose signatures count; None for any that is known.
Trusted = frozenset[str] | None


class Checked(NamedTuple):
    """key: the fingerprint of who signed, or "". problem: one sentence, or "" for what is signed.

    other key: it is known here and does not count.
    """

    trust: Literal["signed", "other key", "unknown key", "bad signature"]
    key: str
    problem: str


def trusted(adapters: Adapters, signers: Sequence[str] = ()) -> Trusted:
    """Those of `signers`, else of PGFLEET_SIGNING_KEY. Raises ConfigError for a key that is not here."""
    configured = adapters.settings.signing_key
    names = signers or ((configured,) if configured else ())
    if not names:
        return None
    keys = frozenset[str]()
    for name in names:
        found = adapters.gpg.named(name)
        if not found:
            raise ConfigError(
                f"There is no key {name} here, so its signatures cannot be checked.",
                "Put its public key into PGFLEET_GPG_KEYS_DIR.",
            )
        keys |= found
    return keys


def check(adapters: Adapters, content: bytes, signature: bytes, counting: Trusted) -> Checked:
    try:
        key = adapters.gpg.verify_signature(content, signature)
    except ValidationFailed as error:
        return Checked(
            "unknown key" if "not known here" in error.message else "bad signature", "", error.message
        )
    except PgfleetError as error:
        return Checked("unknown key", "", error.message)
    if counting is not None and key not in counting:
        return Checked(
            "other key",
            key,
            f"it is signed by {key}, whose signature does not count here (PGFLEET_SIGNING_KEY, --signer)",
        )
    return Checked("signed", key, "")
