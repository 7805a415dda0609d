"""Defaults that depend on who we are and on other settings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from worker.config.sources import Given, Section
from worker.core.backup import BackupType

DEFAULT_BACKUP_DIR = "/var/backups/postgres"
SYSTEM_STATE_DIR = Path("/var/lib/pgfleet")
SYSTEM_SPOOL = Path("/var/spool/pgfleet")
#: The seed's storage class by backup type, for AWS and whoever has the same.
STORAGE_CLASSES: dict[BackupType, str] = {"daily": "STANDARD", "weekly": "STANDARD_IA", "monthly": "GLACIER"}
#: Vendors that refuse those, so that the first Sunday's backup would fail: what they have instead.
_COLDEST = {"spaces": "STANDARD", "b2": "STANDARD", "minio": "STANDARD", "r2": "STANDARD_IA"}
_HOSTS = {"digitaloceanspaces.com": "spaces", "backblazeb2.com": "b2", "r2.cloudflarestorage.com": "r2"}


def add_defaults(top: Section, environ: Mapping[str, str]) -> None:
    """Fill in state_dir, spool, ledger_url and gpg_home where they were not given."""
    system = os.geteuid() == 0
    own_state = "state_dir" not in top.given
    state = str(top.given["state_dir"].value) if not own_state else str(state_dir(environ, system))
    spool = SYSTEM_SPOOL if system and own_state else Path(state) / "spool"
    home, source = gpg_home(top, state, environ)
    for name, value in (
        ("state_dir", state),
        ("spool", spool),
        ("ledger_url", f"sqlite:///{state}/ledger.sqlite3"),
    ):
        top.given.setdefault(name, Given(str(value), top.label(name), "default"))
    top.given.setdefault("gpg_home", Given(str(home), top.label("gpg_home"), source))


def storage_classes(profile: str, endpoint: str) -> dict[BackupType, str]:
    """What a destination gets by default: the seed's classes, as far as the vendor is known to lack none."""
    host = urlsplit(endpoint).hostname or ""
    if profile == "auto":
        profile = next((vendor for end, vendor in _HOSTS.items() if host.endswith(f".{end}")), profile)
    coldest = _COLDEST.get(profile)
    return {
        type_: name if coldest is None or name == "STANDARD" else coldest
        for type_, name in STORAGE_CLASSES.items()
    }


def state_dir(environ: Mapping[str, str], system: bool) -> Path:
    """/var/lib/pgfleet when it is ours to write, else the user's own place (XDG base directories)."""
    if system or os.access(SYSTEM_STATE_DIR, os.W_OK):
        return SYSTEM_STATE_DIR
    base = environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else _home(environ) / ".local" / "state") / "pgfleet"


def gpg_home(top: Section, state: str, environ: Mapping[str, str]) -> tuple[Path, str]:
    """(directory, source). Keys that we import go to a home of our own, never to a person's."""
    if "gpg_keys_dir" in top.given or "gpg_private_keys_dir" in top.given:
        return Path(state) / "gnupg", "default"
    if environ.get("GNUPGHOME"):
        return Path(environ["GNUPGHOME"]), "environment GNUPGHOME"
    return _home(environ) / ".gnupg", "default"


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME", "").startswith("/") else Path.home()
