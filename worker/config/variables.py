"""The environment variables: one table from a variable's name to the field it sets.

The seed's names where the seed had one; ``PGFLEET_<FIELD>`` for every field of `Settings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from worker.config.model import Database, Destination, Settings
from worker.config.values import is_secret, unwrap

Table = Literal["pgfleet", "database", "local", "s3"]
MODELS: dict[Table, type[BaseModel]] = {
    "pgfleet": Settings,
    "database": Database,
    "local": Destination,
    "s3": Destination,
}
TABLES_OF_TABLES = ("databases", "destinations", "targets")
CONFIG_VARIABLE = "PGFLEET_CONFIG"
#: A misspelt variable is looked for among those that begin like the seed's (PGFLEET_* are all ours anyway).
SEED_PREFIXES = (
    "DB_", "S3_", "GPG_", "BACKUP_", "DAILY_", "WEEKLY_", "MONTHLY_", "YEARLY_", "USE_", "DOCKER_", "ALLOW_",
)  # fmt: skip

# dotted field → names; the first is the one that errors and documentation use
_DATABASE: dict[str, str] = {
    "host": "DB_HOST",
    "port": "DB_PORT",
    "name": "DB_NAME",
    "user": "DB_USER",
    "password": "DB_PASSWORD",
    "sslmode": "DB_SSLMODE",
    "sslrootcert": "DB_SSLROOTCERT",
    "connect_timeout": "DB_CONNECT_TIMEOUT",
    "use_docker": "USE_DOCKER",
    "docker_container": "DOCKER_CONTAINER",
    "recipients": "GPG_RECIPIENT PGFLEET_RECIPIENTS",
    "allow_unencrypted": "ALLOW_UNENCRYPTED PGFLEET_ALLOW_UNENCRYPTED",
    "retention.daily_days": "DAILY_RETENTION_DAYS",
    "retention.weekly_weeks": "WEEKLY_RETENTION_WEEKS",
    "retention.monthly_months": "MONTHLY_RETENTION_MONTHS",
    "retention.yearly_years": "YEARLY_RETENTION_YEARS",
    "retention.keep_last": "PGFLEET_KEEP_LAST",
    "retention.keep_within_days": "PGFLEET_KEEP_WITHIN_DAYS",
    "retention.minimum": "PGFLEET_KEEP_MINIMUM",
    "schedule": "PGFLEET_SCHEDULE",
    "cleanup_schedule": "PGFLEET_CLEANUP_SCHEDULE",
    "drill_schedule": "PGFLEET_DRILL_SCHEDULE",
    "compression": "PGFLEET_COMPRESSION",
    "exclude_schemas": "PGFLEET_EXCLUDE_SCHEMAS",
    "exclude_tables": "PGFLEET_EXCLUDE_TABLES",
    "jobs": "PGFLEET_DB_JOBS",
    "split_bytes": "PGFLEET_SPLIT_BYTES",
    "lock_timeout": "PGFLEET_LOCK_TIMEOUT",
    "dump_timeout": "PGFLEET_DUMP_TIMEOUT",
    "fingerprint": "FINGERPRINT PGFLEET_FINGERPRINT",
    "rto_seconds": "PGFLEET_RTO_SECONDS",
    "rpo_seconds": "PGFLEET_RPO_SECONDS",
    "require_copies": "PGFLEET_REQUIRE_COPIES",
    "allow_replace": "PGFLEET_ALLOW_REPLACE",
    "drill_questions": "PGFLEET_DRILL_QUESTIONS",
    "ping_url": "PGFLEET_PING_URL",
}
_S3: dict[str, str] = {
    "endpoint": "S3_ENDPOINT",
    "bucket": "S3_BUCKET",
    "access_key": "S3_ACCESS_KEY",
    "secret_key": "S3_SECRET_KEY",
    "region": "S3_REGION",
    "prefix": "S3_PREFIX PGFLEET_PREFIX",
    "profile": "S3_PROFILE",
    "addressing": "S3_ADDRESSING",
    "checksum": "S3_CHECKSUM",
    "storage_class.daily": "S3_STORAGE_CLASS_DAILY",
    "storage_class.weekly": "S3_STORAGE_CLASS_WEEKLY",
    "storage_class.monthly": "S3_STORAGE_CLASS_MONTHLY",
    "object_lock": "S3_OBJECT_LOCK",
    "object_lock_days": "S3_OBJECT_LOCK_DAYS",
    "ca_bundle": "S3_CA_BUNDLE",
    "connect_timeout": "S3_CONNECT_TIMEOUT",
    "read_timeout": "S3_READ_TIMEOUT",
    "max_attempts": "S3_MAX_ATTEMPTS",
}
_SEED_SETTINGS = {"log_format": "LOG_FORMAT ", "log_level": "LOG_LEVEL "}


@dataclass(frozen=True, slots=True)
class Variable:
    """names: the canonical one first; any of them may be set. field: dotted, within `table`'s model."""

    names: tuple[str, ...]
    table: Table
    field: str

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def info(self) -> FieldInfo:
        return field_info(MODELS[self.table], self.field)

    @property
    def secret(self) -> bool:
        return is_secret(self.info)


def field_info(model: type[BaseModel], field: str) -> FieldInfo:
    """Of a dotted field. A key of a mapping (``storage_class.daily``) has the mapping's. Raises KeyError."""
    head, _, rest = field.partition(".")
    info = model.model_fields[head]
    annotation, _ = unwrap(info.annotation, [])
    if rest and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return field_info(annotation, rest)
    return info


def is_mapping(info: FieldInfo) -> bool:
    annotation, _ = unwrap(info.annotation, [])
    return get_origin(annotation) is dict


def _variables() -> Iterator[Variable]:
    for field, names in _DATABASE.items():
        yield Variable(tuple(names.split()), "database", field)
    yield Variable(("BACKUP_DIR",), "local", "path")
    for field, names in _S3.items():
        yield Variable(tuple(names.split()), "s3", field)
    for field in Settings.model_fields:
        if field not in TABLES_OF_TABLES:
            names = _SEED_SETTINGS.get(field, "") + f"PGFLEET_{field.upper()}"
            yield Variable(tuple(names.split()), "pgfleet", field)


VARIABLES: tuple[Variable, ...] = tuple(_variables())
BY_FIELD: dict[tuple[Table, str], Variable] = {(v.table, v.field): v for v in VARIABLES}
#: Every name that may be set: ``NAME``, and ``NAME_FILE`` for a secret.
KNOWN: frozenset[str] = frozenset(
    {name for v in VARIABLES for name in v.names}
    | {f"{name}_FILE" for v in VARIABLES if v.secret for name in v.names}
    | {CONFIG_VARIABLE}
)
