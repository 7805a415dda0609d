"""What settings must satisfy together: each rule yields the problems that it finds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from worker.config.model import Database, Destination, Settings
from worker.config.sources import Problem, Section, Sources, did_you_mean

BROKER_SCHEMES = ("redis", "rediss", "sentinel", "memory")
LEDGER_SCHEMES = ("sqlite", "postgresql", "postgresql+psycopg")
_S3_ONLY = (
    "profile", "endpoint", "region", "bucket", "access_key", "secret_key", "addressing", "checksum",
    "storage_class", "object_lock", "object_lock_days", "ca_bundle",
)  # fmt: skip
_POSTGRESQL = re.compile(r"[a-z+]+://(?:[^@/]*@)?(?P<host>[^:/?@]*)(?::(?P<port>\d+))?/(?P<name>[^?]*)")
_LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1", ""}


def problems(settings: Settings, sources: Sources) -> Iterator[Problem]:
    for alias, destination in settings.destinations.items():
        yield from _destination(destination, sources.destinations[alias])
    yield from _same_place(settings, sources)
    for alias, database in settings.databases.items():
        yield from _database(database, sources.databases[alias], settings)
    yield from _times(settings, sources.top)
    yield from _told(settings, sources.top)
    yield from _addresses(settings, sources.top)
    if settings.drill_server is not None and settings.drill_server not in settings.targets:
        yield Problem(
            f"{sources.top.where('drill_server')} names no target: {settings.drill_server!r}.",
            f"{did_you_mean(settings.drill_server, settings.targets)} A target is a [targets.ALIAS] table.",
        )


def _destination(destination: Destination, section: Section) -> Iterator[Problem]:
    if destination.kind == "directory":
        for name in section.given:
            if name.partition(".")[0] in _S3_ONLY:
                yield Problem(
                    f"{section.where(name)} is for a bucket, and this destination is a directory.",
                    "Remove it, or set kind = 's3' and a bucket.",
                )
        if destination.path is None:
            yield _missing(section, "path", "/srv/backups")
        return
    if destination.path is not None:
        yield Problem(
            f"{section.where('path')} is for a directory, and this destination is a bucket.",
            "Remove it, or set kind = 'directory'.",
        )
    if not destination.bucket and section.origin == "file":
        yield _missing(section, "bucket", "backups")
    yield from _bucket(destination, section)


def _missing(section: Section, name: str, example: str) -> Problem:
    return Problem(
        f"{section.label(name)} is missing.", f"Write for example {section.example(name, example)}."
    )


def _half(section: Section, there: str, absent: str, hint: str) -> Problem:
    return Problem(f"{section.label(there)} is set but {section.label(absent)} is not.", hint)


def _bucket(destination: Destination, section: Section) -> Iterator[Problem]:
    if (destination.access_key is None) != (destination.secret_key is None):
        there, absent = ("access_key", "secret_key")[:: 1 if destination.access_key else -1]
        yield _half(section, there, absent, "Set both, or neither to use the standard AWS credentials chain.")
    if destination.profile not in {"auto", "aws"} and destination.endpoint is None:
        example = section.example("endpoint", "https://s3.example.com")
        yield _half(section, "profile", "endpoint", f"Write for example {example}.")
    if bool(destination.object_lock) != bool(destination.object_lock_days):
        there, absent = ("object_lock", "object_lock_days")[:: 1 if destination.object_lock else -1]
        example = section.example(absent, "30" if absent == "object_lock_days" else "governance")
        yield _half(section, there, absent, f"Write for example {example}.")


def _same_place(settings: Settings, sources: Sources) -> Iterator[Problem]:
    seen: dict[tuple[str, ...], str] = {}
    for alias, destination in settings.destinations.items():
        parts = (destination.path, destination.endpoint, destination.bucket, destination.prefix.strip("/"))
        place = tuple(str(part or "") for part in parts)
        if place in seen:
            yield Problem(
                f"Destinations {seen[place]} and {alias} are the same place: one copy would count as two.",
                "Give one of them another bucket, directory or prefix, or remove it.",
            )
        seen[place] = alias


def _database(database: Database, section: Section, settings: Settings) -> Iterator[Problem]:
    for name in database.destinations:
        if name not in settings.destinations:
            hint = did_you_mean(name, settings.destinations)
            yield Problem(f"{section.where('destinations')} names no destination: {name!r}.", hint)
    if database.require_copies > len(database.destinations):
        yield Problem(
            f"{section.where('require_copies')} asks for {database.require_copies} copies, "
            f"but there are {len(database.destinations)} destinations.",
            "Write a smaller number, or 0 for all of them.",
        )


def _told(settings: Settings, section: Section) -> Iterator[Problem]:
    if settings.digest and not settings.notify_urls:
        example = section.example("notify_urls", "mailto://user:password@example.com")
        yield _half(section, "digest", "notify_urls", f"Say whom to send it to, such as {example}.")


def _times(settings: Settings, section: Section) -> Iterator[Problem]:
    ordered = (
        ("retry_base_seconds", "retry_max_seconds"),
        ("lease_seconds", "spool_gone_seconds"),
        ("lease_seconds", "run_deadline_seconds"),
    )
    for shorter, longer in ordered:
        if getattr(settings, shorter) > getattr(settings, longer):
            yield Problem(
                f"{section.where(shorter)} is longer than {section.where(longer)}.",
                f"Shorten {section.label(shorter)} or lengthen {section.label(longer)}.",
            )
    if settings.lease_seconds < 1:
        yield Problem(
            f"{section.where('lease_seconds')} is so short that a worker would lose its steps to a hiccup.",
            f"Write at least 1s, such as {section.example('lease_seconds', '90s')}.",
        )


def _addresses(settings: Settings, section: Section) -> Iterator[Problem]:
    broker = settings.broker_url.get_secret_value()
    if urlsplit(broker).scheme not in BROKER_SCHEMES:
        example = section.example("broker_url", "redis://localhost:6379/0")
        what = section.where("broker_url")
        yield Problem(f"{what} is not the URL of a Redis or Valkey.", f"Write for example {example}.")
    ledger = settings.ledger_url.get_secret_value()
    if urlsplit(ledger).scheme not in LEDGER_SCHEMES:
        example = section.example("ledger_url", "postgresql://pgfleet@dbhost/pgfleet")
        yield Problem(
            f"{section.where('ledger_url')} is not the URL of a SQLite file or a PostgreSQL database.",
            f"Write for example {example}, or sqlite:////var/lib/pgfleet/ledger.sqlite3.",
        )
    if ledger.startswith("sqlite") and not ledger.startswith("sqlite:////"):
        yield Problem(
            f"{section.where('ledger_url')} means another file in each process: it is not absolute.",
            f"Write for example {section.example('ledger_url', 'sqlite:////var/lib/pgfleet/ledger.sqlite3')}.",
        )
    if ledger.startswith("postgresql") and (match := _POSTGRESQL.match(ledger)):
        yield from _ledger_is_source(settings, match["host"], int(match["port"] or 5432), match["name"])


def _ledger_is_source(settings: Settings, host: str, port: int, name: str) -> Iterator[Problem]:
    for database in settings.databases.values():
        same_host = database.host == host or {database.host, host} <= _LOCAL_HOSTS
        if same_host and database.port == port and database.name == name:
            yield Problem(
                f"The ledger is in {database.alias}, a database that it keeps the books about.",
                "Keep it on another server: it must survive what it helps to recover from.",
            )
