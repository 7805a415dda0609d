"""What a caller may ask of the fleet: small strict values, JSON in and out.

They come in broker messages, which anybody with the broker's password can write. So a message names aliases
that the worker's own configuration explains, never a DSN, a path or a URL; an unknown field, a wrong type and
a contradiction are refused; and what is refused is not repeated in the error, for it may hold a password.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from worker.core.backup import parse_id
from worker.errors import ConfigError

Kind = Literal["backup", "restore", "drill", "cleanup", "copy", "verify"]
MAX_BYTES = 64 * 1024  # a request is a message, and a row
LATEST = ("latest", "latest-proven")
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")  # what a backup's id may begin with
_RESERVED = ("postgres", "template0", "template1")


def _alias(value: str) -> str:
    if not _ALIAS.fullmatch(value):
        raise ConfigError(
            "The request is refused: a message can only name an alias, never an address, a path or a DSN.",
            "Write the alias that the database, destination or target has in the workers' configuration.",
        )
    return value


def _backup(value: str) -> str:
    if value in LATEST:
        return value
    try:
        parse_id(value)
    except ValueError:
        raise ConfigError(
            "The request is refused: its backup is neither an id nor latest nor latest-proven.",
            "Write an id as `pgfleet list` shows it: NAME-backup-YYYYMMDD-HHMMSS.",
        ) from None
    return value


def _database_name(value: str) -> str:
    # libpq takes a database name with "=" or "://" for a whole connection string.
    if "=" in value or "://" in value or not value.isprintable() or len(value.encode()) > 63:
        raise ConfigError(
            "The request is refused: the name of the database to make is not a plain name.",
            "Write at most 63 bytes, without control characters, '=' and '://'.",
        )
    if value in _RESERVED:
        raise ConfigError(
            f"The request is refused: {value} belongs to the server itself.",
            "Write another name for the database to make.",
        )
    return value


def _line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("it holds control characters")
    return value


def _once_each(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _moment(value: Any) -> Any:
    """Text is ISO 8601; pydantic alone would read 20240101 as seconds since 1970."""
    if not isinstance(value, str):
        return value
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("it is not a time like 2024-01-31T02:00:00Z") from None


Alias = Annotated[str, AfterValidator(_alias)]
BackupRef = Annotated[str, AfterValidator(_backup)]
Line = Annotated[str, Field(max_length=200), AfterValidator(_line)]
Pattern = Annotated[str, Field(min_length=1, max_length=260), AfterValidator(_line)]  # schema.table, quoted
Tablespace = Annotated[str, Field(min_length=1, max_length=63), AfterValidator(_line)]
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]
Jobs = Annotated[int, Field(ge=1, le=64)]


class Request(BaseModel):
    """What all requests have. An `idempotency_key` makes a repeated request the same run."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )
    kind: ClassVar[Kind]

    requested_by: Line = ""
    idempotency_key: Annotated[Line, Field(min_length=1)] | None = None

    def run_key(self, *of: str) -> str | None:
        """What makes a repeated request for the same thing the same run; None without an idempotency key."""
        return self.idempotency_key and ":".join((self.kind, *of, self.idempotency_key))

    def to_payload(self) -> dict[str, Any]:
        """JSON values, without what is the default."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> Self:
        """Raises ConfigError for anything but a request of this kind that makes sense."""
        try:
            text = json.dumps(dict(payload), allow_nan=False)
        except (TypeError, ValueError, RecursionError):
            raise cls._refused("it is not a JSON object", "Send plain JSON values by name.") from None
        if len(text) > MAX_BYTES:
            raise cls._refused(f"it is larger than {MAX_BYTES} bytes", "Name fewer things in it.")
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise cls._explained(error) from None

    @classmethod
    def _explained(cls, error: ValidationError) -> ConfigError:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(field.alias or name for name, field in cls.model_fields.items()))
            return cls._refused("it has a field that is not known", f"Known are: {known}.")
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        return cls._refused(what, "Correct it and send the request again.")

    @classmethod
    def _refused(cls, what: str, hint: str) -> ConfigError:
        return ConfigError(f"The {cls.kind} request is refused: {what}.", hint)


class BackupRequest(Request):
    """No `databases`: all that are configured."""

    kind = "backup"

    databases: Annotated[tuple[Alias, ...], AfterValidator(_once_each)] = ()


class OfOneBackup(Request):
    """`backup` is an id, ``latest`` or ``latest-proven``; `before` (aware) is for the last two.

    No `database`: the id's, or the only one that is configured.
    """

    backup: BackupRef = "latest"
    database: Alias | None = None
    before: Moment | None = None

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        if self.backup in LATEST:
            return self
        if self.before is not None:
            raise self._refused(
                "an id and a time (before) contradict each other", "Leave out one of the two."
            )
        if self.database not in (None, parse_id(self.backup)[0]):
            raise self._refused(
                f"{self.backup} is not a backup of the database {self.database}",
                "Leave out the database: the id names it.",
            )
        return self


class RestoreRequest(OfOneBackup):
    """`target`: the alias of the server to restore into. `as_name`: the database to make there.

    No `destination`: the nearest good copy, and the next one when it turns out to be damaged.
    `replace` puts the restored database in the place of the live one; `confirm` (that database's name) or
    `force` answers the question that a person would be asked. The selections take names as pg_restore does.
    `jobs`: parallel pg_restore jobs, else the worker's setting.
    """

    kind = "restore"

    destination: Alias | None = None
    target: Alias | None = None
    as_name: Annotated[str, Field(min_length=1), AfterValidator(_database_name)] | None = None
    replace: bool = False
    confirm: Line = ""
    force: bool = False
    drop_old: bool = False
    tables: tuple[Pattern, ...] = ()
    schemas: tuple[Pattern, ...] = ()
    exclude_tables: tuple[Pattern, ...] = ()
    schema_only: bool = False
    data_only: bool = False
    globals_: bool = Field(False, alias="globals")
    no_owner: bool = False
    no_acl: bool = False
    tablespaces: Annotated[dict[Tablespace, Tablespace], Field(max_length=100)] = Field(default_factory=dict)
    dry_run: bool = False
    jobs: Jobs | None = None

    @property
    def partial(self) -> bool:
        """Whether less than the whole backup is asked for."""
        selected = self.tables or self.schemas or self.exclude_tables
        return bool(selected) or self.schema_only or self.data_only

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        for wrong, what, hint in (
            (
                self.schema_only and self.data_only,
                "schema_only and data_only together select nothing",
                "Leave out one of the two; without both, everything is restored.",
            ),
            (
                set(self.tables) & set(self.exclude_tables),
                "a table is both selected and excluded",
                "Name each table in one of the two lists only.",
            ),
            (
                self.replace and self.partial,
                "a part of a backup cannot replace a whole database",
                "Restore the part into a database beside it (as_name), and copy what is needed.",
            ),
            (
                self.replace and self.as_name is not None,
                "replace and as_name contradict each other",
                "A replace keeps the live database's name: leave out as_name, or replace.",
            ),
            (
                self.drop_old and not self.replace,
                "drop_old without replace has nothing to drop",
                "Set replace too, or leave out drop_old.",
            ),
        ):
            if wrong:
                raise self._refused(what, hint)
        return self


class DrillRequest(OfOneBackup):
    """Restore a copy into a throwaway server and compare it. No `destination`: the nearest copy."""

    kind = "drill"

    destination: Alias | None = None
    jobs: Jobs | None = None


class CleanupRequest(Request):
    """No `database`, no `destination`: all of them. `force` answers the question about a large plan."""

    kind = "cleanup"

    database: Alias | None = None
    destination: Alias | None = None
    dry_run: bool = False
    force: bool = False


class CopyRequest(OfOneBackup):
    """Bring a backup to the destination `to`, from `source` or else from any good copy."""

    kind = "copy"

    to: Alias
    source: Alias | None = None

    @model_validator(mode="after")
    def _two_places(self) -> Self:
        if self.to == self.source:
            raise self._refused("to and source are the same destination", "Name another source, or none.")
        return self


class VerifyRequest(OfOneBackup):
    """Read back every byte. No `destination`: every copy."""

    kind = "verify"

    destination: Alias | None = None


def check_repeated(key: str | None, known: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Of two requests with one idempotency key the second gets the run of the first, so it must be the same.

    Raises ConfigError when it asks for something else; who asks makes no difference.
    """
    if key is not None and _asked_for(known) != _asked_for(asked):
        raise ConfigError(
            "This idempotency key was given to another request, which is not this one.",
            "Give each request a key of its own; with the same key it must ask for the same.",
        )


def _asked_for(request: Mapping[str, Any]) -> dict[str, Any]:
    """Without the database, which the run's key holds already."""
    return {name: value for name, value in request.items() if name not in ("requested_by", "database")}


_REQUESTS: dict[str, type[Request]] = {
    request.kind: request
    for request in (BackupRequest, RestoreRequest, DrillRequest, CleanupRequest, CopyRequest, VerifyRequest)
}


def parse(kind: str, payload: Mapping[str, Any]) -> Request:
    """The request in a message of this kind. Raises ConfigError."""
    if kind not in _REQUESTS:
        raise ConfigError("There is no such kind of request.", f"Kinds are: {', '.join(_REQUESTS)}.")
    return _REQUESTS[kind].from_payload(payload)
