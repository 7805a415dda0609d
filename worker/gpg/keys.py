"""Which keys there are: importing them, and finding the ones to encrypt to."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker.errors import ConfigError, EncryptionFailed
from worker.gpg.home import Home

_KEY_FILES = frozenset({".asc", ".gpg", ".key", ".pub"})
_HEX = re.compile(r"[0-9A-F]{8}|[0-9A-F]{16}|[0-9A-F]{40}|[0-9A-F]{64}")
_ADDRESS = re.compile(r"<([^<>]*)>\s*$")
_ALGORITHMS = {"1": "RSA", "2": "RSA", "16": "ElGamal", "18": "ECDH"}  # RFC 4880, 9.1
_UNUSABLE = frozenset("idren")  # validity in gpg's colon listing: invalid, disabled, revoked, expired, never
_Record = Mapping[str, Any]  # one key as python-gnupg lists it


@dataclass(frozen=True, slots=True)
class Key:
    """A key that can be encrypted to. fingerprint: of the primary key, full.

    expires: when nothing can be encrypted to it any more. encryption_subkeys: long key ids of the valid ones,
    newest first (gpg takes the newest); algorithm and bits are the newest one's.
    """

    fingerprint: str
    user_id: str
    expires: datetime | None
    algorithm: str
    encryption_subkeys: tuple[str, ...]
    bits: int


def import_keys(home: Home, directory: Path, *, public_only: bool) -> list[str]:
    try:
        files = sorted(path for path in directory.iterdir() if path.suffix.lower() in _KEY_FILES)
        return list(dict.fromkeys(key for path in files for key in _import_file(home, path, public_only)))
    except OSError as error:
        raise ConfigError(
            f"Keys cannot be read: {error.filename or directory}: {error.strerror}.",
            "Name a directory of key files that this worker may read.",
        ) from error


def _import_file(home: Home, path: Path, public_only: bool) -> list[str]:
    content = path.read_bytes()
    found = home.keyring.scan_keys_mem(content)
    if found.returncode != 0 or not found:
        raise ConfigError(
            f"{path} is not a whole OpenPGP key.",
            "Export it again: gpg --armor --export FINGERPRINT > key.asc",
        )
    if any(record["type"] == "sec" for record in found):
        if public_only:
            raise ConfigError(
                f"{path} holds a private key, which must not be on this worker.",
                "Put the public key there: gpg --armor --export FINGERPRINT > key.asc",
            )
        status = home.run_private(None, "--import", input=content)
    else:
        status = home.run("--import", input=content)
    imported = [value[1] for value in status.values("IMPORT_OK")]
    if status.returncode != 0 or {record["fingerprint"] for record in found} - set(imported):
        raise ConfigError(
            f"gpg refuses to import {path}.", f"See what is wrong: gpg --homedir {home.path} --import {path}"
        )
    return imported


def has_secret(home: Home, key_ids: Collection[str]) -> bool:
    listing = home.run_private(None, "--with-colons", "--list-secret-keys").stdout.decode(errors="replace")
    present = set()
    for line in listing.split("\n"):
        field = line.split(":")
        # Field 15 is "#" for a stub without the key itself (doc/DETAILS).
        if field[0] in {"sec", "ssb"} and field[14] != "#":
            present.add(field[4])
    return any(key_id.upper()[-16:] in present for key_id in key_ids)


def resolve(home: Home, recipients: Sequence[str]) -> list[Key]:
    records: list[_Record] = home.keyring.list_keys()
    keys = [_find(home, recipient, records) for recipient in recipients]
    return list({key.fingerprint: key for key in keys}.values())


def named(home: Home, name: str) -> frozenset[str]:
    return frozenset(
        record["fingerprint"] for record in home.keyring.list_keys() if _is_meant(home, name, record)
    )


def _find(home: Home, recipient: str, records: Sequence[_Record]) -> Key:
    matching = [record for record in records if _is_meant(home, recipient, record)]
    faults = [fault for record in _newest_first(matching) if (fault := _fault(record)) is not None]
    usable = [record for record in matching if _fault(record) is None]
    if len(usable) == 1:
        return _key(usable[0])
    if usable:
        fingerprints = ", ".join(sorted(record["fingerprint"] for record in usable))
        raise EncryptionFailed(
            f"Recipient {recipient} is ambiguous: {len(usable)} keys match ({fingerprints}).",
            "Name the one that you mean by its full fingerprint.",
        )
    if not faults:
        raise EncryptionFailed(
            f"There is no public key for recipient {recipient}.",
            f"Put it into PGFLEET_GPG_KEYS_DIR, or run: gpg --homedir {home.path} --import KEY.asc",
        )
    raise faults[0]


def _is_meant(home: Home, recipient: str, record: _Record) -> bool:
    """By (sub)key id, fingerprint, or the exact address of a user id that is not revoked."""
    wanted = re.sub(r"\s", "", recipient).upper().removeprefix("0X")
    if _HEX.fullmatch(wanted):
        names = [record["fingerprint"], *(info["fingerprint"] for info in _subkeys(record))]
        return any(name.endswith(wanted) for name in names)
    address = _address(recipient)
    if "@" not in address or not any(_address(uid) == address for uid in record["uids"]):
        return False
    if record["trust"] == "r":  # then all of its user ids are
        return True
    # Listed alone: python-gnupg keeps the state of user ids by their text, whosever they are.
    alone = home.keyring.list_keys(keys=[record["fingerprint"]])
    return any(_address(uid) == address and info["trust"] != "r" for uid, info in alone.uid_map.items())


def _address(user_id: str) -> str:
    found = _ADDRESS.search(user_id)
    return (found[1] if found else user_id).strip().lower()


def _subkeys(record: _Record) -> list[_Record]:
    return list(record.get("subkey_info", {}).values())


def _encrypting(record: _Record) -> list[_Record]:
    """The primary key and the subkeys that are made for encryption, valid or not, newest first."""
    return _newest_first(info for info in (record, *_subkeys(record)) if "e" in info["cap"])


def _newest_first(records: Iterable[_Record]) -> list[_Record]:
    return sorted(records, key=lambda record: int(record["date"] or 0), reverse=True)


def _fault(record: _Record) -> EncryptionFailed | None:
    """Why a key cannot be encrypted to."""
    fingerprint = record["fingerprint"]
    encrypting = _encrypting(record)
    again = "then export it again (gpg --armor --export) and import it here."
    expire = f"gpg --quick-set-expire {fingerprint} 1y"
    renew = f"Where its private key is, run: {expire} && {expire} '*'; {again}"
    what, hint = "", ""
    if record["trust"] == "r":
        what, hint = "was revoked", "Configure a recipient whose key is valid."
    elif record["trust"] == "e":
        what, hint = f"expired on {_day(record)}", renew
    elif "D" in record["cap"]:
        what, hint = "is disabled", "Enable it (gpg --edit-key), or configure another recipient."
    elif record["trust"] in _UNUSABLE:
        what, hint = "is not valid", f"Check it where its private key is; {again}"
    elif not encrypting:
        what = "cannot encrypt: it is made for signing only"
        hint = f"Where its private key is, run: gpg --quick-add-key {fingerprint} default encr; {again}"
    elif all(info["trust"] in _UNUSABLE for info in encrypting):
        end = f"expired on {_day(encrypting[0])}" if encrypting[0]["trust"] == "e" else "was revoked"
        what, hint = f"cannot encrypt: its encryption subkey {end}", renew
    return EncryptionFailed(f"Key {fingerprint} ({_user_id(record)}) {what}.", hint) if what else None


def _key(record: _Record) -> Key:
    valid = [info for info in _encrypting(record) if info["trust"] not in _UNUSABLE]
    newest = valid[0]
    algorithm = _ALGORITHMS.get(newest["algo"], f"algorithm {newest['algo']}")
    return Key(
        fingerprint=record["fingerprint"],
        user_id=_user_id(record),
        expires=_expires(record, valid),
        algorithm=f"{algorithm} {newest['curve']}".strip(),
        encryption_subkeys=tuple(info["keyid"] for info in valid),
        bits=int(newest["length"]),
    )


def _expires(record: _Record, valid: Sequence[_Record]) -> datetime | None:
    """The end of the primary key or of the last of its encryption subkeys, whichever comes first."""
    ends = [_time(record)]
    if all(info["expires"] for info in valid):
        ends.append(_time(max(valid, key=lambda info: int(info["expires"]))))
    return min((end for end in ends if end is not None), default=None)


def _time(info: _Record) -> datetime | None:
    return datetime.fromtimestamp(int(info["expires"]), UTC) if info["expires"] else None


def _day(info: _Record) -> str:
    end = _time(info)
    return f"{end:%Y-%m-%d}" if end else "an unknown day"


def _user_id(record: _Record) -> str:
    return str(record["uids"][0]) if record["uids"] else "no user id"
