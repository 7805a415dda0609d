"""Which PostgreSQL client serves which server, how it may compress, and which releases are not safe."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TypeVar

from worker.errors import ConfigError, MissingDependency

#: (major, minor), as PostgreSQL counts since version 10.
Version = tuple[int, int]
Tool = TypeVar("Tool")

SUPPORTED = range(14, 19)
#: The first release of each major without CVE-2026-6477, where the client is the victim.
SAFE_MINOR: Mapping[int, int] = {14: 23, 15: 18, 16: 14, 17: 10, 18: 4}

_VERSION = re.compile(r"\([^)]*\) (\d+)(?:\.(\d+))?")
_LEVELS = {"gzip": range(1, 10), "zstd": range(1, 23), "lz4": range(1, 13)}
_SETTING = re.compile(r"(?P<method>gzip|zstd|lz4)(?::(?P<level>\d{1,2}))?")


def parse_version(text: str) -> Version:
    """``"pg_dump (PostgreSQL) 15.18 (Debian …)"`` is (15, 18), a beta has minor 0. Raises ValueError."""
    match = _VERSION.search(text)
    if match is None:
        raise ValueError(f"no PostgreSQL version in {text[:80]!r}")
    return int(match[1]), int(match[2] or 0)


def from_number(version_num: int) -> Version:
    """``server_version_num``: 150018 is (15, 18)."""
    return version_num // 10000, version_num % 10000


def dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def choose(name: str, server: Version, installed: Mapping[int, Tool]) -> Tool:
    """The tools (by major) for the server of database `name`: its own major, else the nearest newer one.

    pg_dump refuses a server newer than itself, and the output of a newer one may not load into the older
    server (PostgreSQL manual, pg_dump, Notes). Raises MissingDependency when none is new enough.
    """
    suitable = [major for major in installed if major >= server[0]]
    if suitable:
        return installed[min(suitable)]
    found = (
        f"the newest client tools here are {max(installed)}"
        if installed
        else "there are no client tools here"
    )
    raise MissingDependency(
        f"The server of {name} is PostgreSQL {dotted(server)}, but {found}.",
        f"Install postgresql-client-{server[0]}, or put the directory of its programs into PGFLEET_PG_BIN.",
    )


def compression_argument(setting: str, client_major: int, libraries: Collection[str]) -> str:
    """What to give `pg_dump --compress`. libraries: those of gzip, zstd and lz4 that this pg_dump has.

    setting: ``auto`` (zstd:1 where possible, else gzip:6), ``none``, ``gzip[:1-9]``, ``zstd[:1-22]``,
    ``lz4[:1-12]``, or a plain digit for gzip. Before 16, pg_dump knows gzip only, by a digit.
    Raises ConfigError for anything else, and for what this pg_dump cannot do.
    """
    setting = {"none": "0", "auto": "zstd:1" if "zstd" in libraries else "gzip:6"}.get(setting, setting)
    if re.fullmatch(r"[0-9]", setting):
        return setting
    match = _SETTING.fullmatch(setting)
    if match is None or (match["level"] and int(match["level"]) not in _LEVELS[match["method"]]):
        raise ConfigError(
            f"{setting!r} is not a compression that pg_dump knows.",
            "Write auto, none, gzip:1 to gzip:9, zstd:1 to zstd:22, lz4, or a digit from 0 to 9.",
        )
    method, level = match["method"], match["level"]
    if client_major < 16 and method == "gzip":
        return level or "6"
    if method not in libraries:
        why = "knows gzip only" if client_major < 16 else f"was built without {method}"
        raise ConfigError(
            f"Compression {setting} is not possible: the pg_dump {client_major} for this server {why}.",
            "Set the compression to auto, or to gzip:6.",
        )
    return setting


def warnings_for(version: Version) -> list[str]:
    """Sentences about a client or server release that somebody should act on."""
    major, minor = version
    if major not in SUPPORTED:
        known = f"{SUPPORTED[0]} to {SUPPORTED[-1]}"
        return [f"PostgreSQL {major} is outside of what pgfleet is tested with ({known})."]
    if minor < SAFE_MINOR[major]:
        safe = dotted((major, SAFE_MINOR[major]))
        return [
            f"PostgreSQL {dotted(version)} has CVE-2026-6477 (a hostile server can take over its clients):"
            f" update to {safe} or later."
        ]
    return []
