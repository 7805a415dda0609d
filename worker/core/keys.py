"""Where the objects of a backup live under a destination's prefix, and the way back from a name.

Flat, and as the seed's scripts named them: ``{id}.dump.gpg``, ``{id}.data-01.dump.gpg``, ``{id}.globals.sql.gpg``,
``{id}.fingerprint.json.gpg``; beside them ``{id}.manifest.json`` and evidence ``{id}.{kind}-{time}.json``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from worker.core.backup import ARTIFACT_STEM, ID_PATTERN, parse_id

EvidenceKind = Literal["verify", "drill", "scrub", "restore", "hold"]
MANIFEST_SUFFIX = ".manifest.json"
_NAME = re.compile(rf"(?P<id>{ID_PATTERN.pattern})\.(?P<rest>[A-Za-z0-9_.-]+)")
_EVIDENCE = re.compile(r"(?P<kind>verify|drill|scrub|restore|hold)-(?P<at>[0-9]{8}T[0-9]{12})Z\.json")


def artifact_name(backup_id: str, stem: str, encrypted: bool) -> str:
    """stem: ``dump``, ``data-01.dump``, ``globals.sql`` or ``fingerprint.json``."""
    return f"{backup_id}.{stem}" + (".gpg" if encrypted else "")


def manifest_key(backup_id: str) -> str:
    return backup_id + MANIFEST_SUFFIX


def evidence_key(backup_id: str, kind: EvidenceKind, at: datetime) -> str:
    """Unique to the microsecond: evidence is append-only."""
    return f"{backup_id}.{kind}-{at.astimezone(UTC):%Y%m%dT%H%M%S%f}Z.json"


class Name(NamedTuple):
    """What an object's name (without the prefix) says. `role` tells the rest."""

    backup_id: str
    role: Literal["manifest", "artifact", "evidence"]
    evidence: str = ""


def parse(name: str) -> Name | None:
    """None for a name that is not ours: never touch such an object."""
    match = _NAME.fullmatch(name)
    if match is None or not _possible(match["id"]):
        return None
    backup, rest = match["id"], match["rest"]
    if rest == MANIFEST_SUFFIX[1:]:
        return Name(backup, "manifest")
    if ARTIFACT_STEM.fullmatch(rest):
        return Name(backup, "artifact")
    found = _EVIDENCE.fullmatch(rest)
    if found is not None and evidence_time(rest) is not None:
        return Name(backup, "evidence", found["kind"])
    return None


def evidence_time(name: str) -> datetime | None:
    """When the evidence in an object of this name was written; None when it is no evidence."""
    found = _EVIDENCE.search(name)
    if found is None:
        return None
    try:
        return datetime.strptime(found["at"], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return None


def _possible(backup: str) -> bool:
    try:
        parse_id(backup)
    except ValueError:
        return False
    return True
