"""What a backup is: its id, its artifacts and the manifest that makes it exist.

The manifest is the stored format (``format: 1``): readers ignore fields they do not know, and every released
format stays loadable (tests/data/manifests).
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from worker.errors import StorageError

BackupType = Literal["daily", "weekly", "monthly"]
ArtifactKind = Literal["dump", "data", "globals", "fingerprint"]

#: The seed's file stem: ``{name}-backup-YYYYMMDD-HHMMSS``, UTC.
ID_PATTERN = re.compile(r"(?P<name>[A-Za-z0-9_][A-Za-z0-9_.-]*)-backup-(?P<date>[0-9]{8})-(?P<time>[0-9]{6})")

#: What follows the id in an artifact's name.
ARTIFACT_STEM = re.compile(r"(dump|data-[0-9]{2}\.dump|globals\.sql|fingerprint\.json)(\.gpg)?")


def backup_id(name: str, at: datetime) -> str:
    """The id of the backup of database `name` whose snapshot was taken at `at`.

    Raises ValueError for a naive time, and for a name that could not be read back.
    """
    if at.tzinfo is None:
        raise ValueError("the time of a backup needs its time zone")
    made = f"{name}-backup-{at.astimezone(UTC):%Y%m%d-%H%M%S}"
    parse_id(made)
    return made


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


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Bytes = Annotated[int, Field(ge=0)]


class Part(Value):
    """A byte range of an artifact: the unit of upload, fetch and re-read. number starts at 1."""

    number: Annotated[int, Field(ge=1)]
    size: Bytes
    sha256: Sha256


class Artifact(Value):
    """One stored object of a backup. `sha256` and `size` are of what is stored, `plain_*` of what was encrypted.

    Every part has size `part_size` but the last, and they add up to `size`.
    """

    name: str
    kind: ArtifactKind
    size: Bytes
    sha256: Sha256
    plain_size: Bytes
    plain_sha256: Sha256
    part_size: Annotated[int, Field(ge=1)]
    parts: Annotated[tuple[Part, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _parts_add_up(self) -> Self:
        *whole, last = self.parts
        if [part.number for part in self.parts] != list(range(1, len(self.parts) + 1)):
            raise ValueError(f"the parts of {self.name} are not numbered one after the other")
        if any(part.size != self.part_size for part in whole) or last.size > self.part_size:
            raise ValueError(f"the parts of {self.name} are not of its part size")
        if sum(part.size for part in self.parts) != self.size:
            raise ValueError(f"the parts of {self.name} do not add up to its size")
        return self


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
    preload: tuple[str, ...] = ()  # shared_preload_libraries, where the role of the backup may see them

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
    snapshot_at: AwareDatetime
    sealed_at: AwareDatetime
    pgfleet: str
    server: Server
    client: str
    compression: str
    encrypted: bool
    recipients: tuple[str, ...] = ()
    artifacts: Annotated[tuple[Artifact, ...], Field(min_length=1)]
    tables: tuple[TableCount, ...] = ()
    missing: tuple[Gap, ...] = ()
    restore: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_its_own(self) -> Self:
        """A manifest decides what is deleted: it may name nothing but the objects of its own backup."""
        parse_id(self.backup_id)
        names = [artifact.name for artifact in self.artifacts]
        for name in names:
            stem = name.removeprefix(f"{self.backup_id}.")
            if stem == name or not ARTIFACT_STEM.fullmatch(stem):
                raise ValueError(f"{name!r} is not an artifact of {self.backup_id}")
        if len(set(names)) != len(names):
            raise ValueError("an artifact is named twice")
        return self

    @property
    def size(self) -> int:
        return sum(artifact.size for artifact in self.artifacts)

    def to_json(self) -> bytes:
        return (self.model_dump_json(indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes | str) -> Manifest:
        """Raises StorageError for a manifest that is damaged or of a format this version does not know."""
        try:
            return cls.model_validate_json(text, strict=True)
        except ValueError as error:
            raise StorageError(
                f"This is not a manifest that this version can read: {_first_problem(error)}.",
                "It may be damaged (`pgfleet verify ID`) or written by a newer pgfleet.",
            ) from error


def _first_problem(error: ValueError) -> str:
    errors: list[dict[str, Any]] = getattr(error, "errors", list)()
    if not errors:
        return str(error).splitlines()[0]
    first = errors[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'JSON'}: {first['msg']}"
