"""What a backup is: its id, its artifacts and the manifest that makes it exist.

The manifest is the stored format (``format: 1``): readers ignore fields they do not know, and every released
format stays loadable (tests/data/manifests).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from worker.errors import StorageError

BackupType = Literal["daily", "weekly", "monthly"]
ArtifactKind = Literal["dump", "data", "globals", "fingerprint"]

#: The seed's file stem: ``{name}-backup-YYYYMMDD-HHMMSS``, UTC.
ID_PATTERN = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*?)-backup-(?P<date>\d{8})-(?P<time>\d{6})")


def backup_id(name: str, at: datetime) -> str:
    """The id of the backup of database `name` whose snapshot was taken at `at` (aware)."""
    return f"{name}-backup-{at.astimezone(UTC):%Y%m%d-%H%M%S}"


def parse_id(text: str) -> tuple[str, datetime]:
    """(database alias, time) of a backup id. Raises ValueError for anything else, impossible dates included."""
    match = ID_PATTERN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a backup id (NAME-backup-YYYYMMDD-HHMMSS)")
    at = datetime.strptime(match["date"] + match["time"], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return match["name"], at


def backup_type(day: date) -> BackupType:
    """The seed's rule: the 1st is monthly, a Sunday weekly, the rest daily; monthly wins."""
    if day.day == 1:
        return "monthly"
    return "weekly" if day.isoweekday() == 7 else "daily"


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Part(Value):
    """A byte range of an artifact: the unit of upload, fetch and re-read. number starts at 1."""

    number: int
    size: int
    sha256: str


class Artifact(Value):
    """One stored object of a backup. `sha256` and `size` are of what is stored, `plain_*` of what was encrypted.

    Every part has size `part_size` but the last.
    """

    name: str
    kind: ArtifactKind
    size: int
    sha256: str
    plain_size: int
    plain_sha256: str
    part_size: int = 0
    parts: tuple[Part, ...] = ()


class Server(Value):
    """The source server and what a target database must be created with."""

    version: str
    version_num: int
    encoding: str = "UTF8"
    collate: str = ""
    ctype: str = ""
    locale_provider: str = "c"  # pg_database.datlocprovider: c libc, i icu, b builtin
    locale: str | None = None
    extensions: dict[str, str] = Field(default_factory=dict)
    tablespaces: tuple[str, ...] = ()

    @property
    def major(self) -> int:
        return self.version_num // 10000


class TableCount(Value):
    """Exact rows under the dump's snapshot, and bytes on the source's disk."""

    schema_name: str
    name: str
    rows: int
    bytes: int


class Gap(Value):
    """Something that is not in the backup, and why."""

    what: str
    why: str


class Manifest(Value):
    format: Literal[1] = 1
    backup_id: str
    run_id: str
    database: str
    dbname: str
    destination: str
    type: BackupType
    snapshot_at: datetime
    sealed_at: datetime
    pgfleet: str
    server: Server
    client: str
    compression: str
    encrypted: bool
    recipients: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...]
    tables: tuple[TableCount, ...] = ()
    missing: tuple[Gap, ...] = ()
    restore: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        return sum(artifact.size for artifact in self.artifacts)

    def to_json(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes | str) -> Manifest:
        """Raises StorageError for a manifest that is damaged or of a format this version does not know."""
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            raise StorageError(
                f"This is not a manifest that this version can read: {_first_problem(error)}.",
                "It may be damaged (`pgfleet verify ID`) or written by a newer pgfleet.",
            ) from error


def _first_problem(error: ValueError) -> str:
    errors: list[dict[str, Any]] = getattr(error, "errors", lambda: [])()
    if not errors:
        return str(error).splitlines()[0]
    first = errors[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'JSON'}: {first['msg']}"
