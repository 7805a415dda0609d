"""Which keys a backup is encrypted to."""

from __future__ import annotations

from worker.config.model import Database
from worker.errors import ConfigError
from worker.gpg import Key
from worker.steps.context import Adapters


def recipients(adapters: Adapters, database: Database) -> list[Key]:
    """The keys of `database`'s recipients; empty only where unencrypted backups are allowed in so many words.

    Raises ConfigError when nobody is named, EncryptionFailed for a key that is missing, expired or cannot encrypt.
    """
    if database.recipients:
        return adapters.gpg.resolve(database.recipients)
    if database.allow_unencrypted:
        return []
    raise ConfigError(
        f"No GPG recipient is configured for {database.alias}, and a backup is never stored unencrypted by accident.",
        "Set GPG_RECIPIENT to an e-mail address or fingerprint (or ALLOW_UNENCRYPTED=true, if you mean it).",
    )
