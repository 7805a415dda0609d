"""The client must be able to read the server, and its compression must be one it has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.versions import (
    choose,
    compression_argument,
    dotted,
    from_number,
    parse_version,
    warnings_for,
)
from worker.errors import ConfigError, MissingDependency

GZIP, ALL = frozenset({"gzip"}), frozenset({"gzip", "zstd", "lz4"})


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", (15, 18)),
        ("pg_restore (PostgreSQL) 17.10", (17, 10)),
        ("psql (PostgreSQL) 18beta1", (18, 0)),
        ("pg_dump (PostgreSQL) 19devel", (19, 0)),
        ("pg_dump (EnterpriseDB) 16.4.0", (16, 4)),
    ],
)
def test_parse_version(text: str, version: tuple[int, int]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    "text", ["", "Error: You must install at least one postgresql-client-<version> package"]
)
def test_what_is_no_version(text: str) -> None:
    with pytest.raises(ValueError, match="no PostgreSQL version"):
        parse_version(text)


def test_version_numbers() -> None:
    assert from_number(150018) == (15, 18)
    assert dotted(from_number(180001)) == "18.1"


def test_the_servers_own_major_is_preferred() -> None:
    installed = {15: "fifteen", 16: "sixteen", 18: "eighteen"}
    assert choose("goimg", (16, 3), installed) == "sixteen"
    assert choose("goimg", (17, 0), installed) == "eighteen"
    assert choose("goimg", (13, 9), installed) == "fifteen"


def test_a_server_newer_than_every_client_is_refused() -> None:
    with pytest.raises(MissingDependency) as caught:
        choose("goimg", (18, 1), {16: "", 17: ""})
    message = "The server of goimg is PostgreSQL 18.1, but the newest client tools here are 17."
    assert caught.value.message == message
    assert "postgresql-client-18" in caught.value.hint
    assert "PGFLEET_PG_BIN" in caught.value.hint
    with pytest.raises(MissingDependency, match="no client tools"):
        choose("goimg", (18, 1), {})


@given(st.integers(10, 30), st.sets(st.integers(10, 30)))
def test_the_choice_is_the_nearest_that_is_not_older(server: int, majors: set[int]) -> None:
    installed = {major: major for major in majors}
    if max(majors, default=0) < server:
        with pytest.raises(MissingDependency):
            choose("db", (server, 0), installed)
    else:
        chosen = choose("db", (server, 0), installed)
        assert chosen >= server
        assert not any(server <= major < chosen for major in majors)


@pytest.mark.parametrize(
    ("setting", "major", "libraries", "argument"),
    [
        ("auto", 15, GZIP, "6"),
        ("auto", 16, GZIP, "gzip:6"),
        ("auto", 17, ALL, "zstd:1"),
        ("none", 15, GZIP, "0"),
        ("none", 18, ALL, "0"),
        ("9", 15, GZIP, "9"),
        ("9", 18, ALL, "9"),
        ("gzip:4", 14, GZIP, "4"),
        ("gzip", 14, GZIP, "6"),
        ("gzip:4", 16, GZIP, "gzip:4"),
        ("zstd", 17, ALL, "zstd"),
        ("zstd:22", 17, ALL, "zstd:22"),
        ("lz4", 17, ALL, "lz4"),
    ],
)
def test_compression(setting: str, major: int, libraries: frozenset[str], argument: str) -> None:
    assert compression_argument(setting, major, libraries) == argument


@pytest.mark.parametrize(
    "setting", ["", "best", "10", "-1", "gzip:0", "gzip:10", "zstd:0", "zstd:23", "lz4:13", "zstd:1 "]
)
def test_a_compression_that_does_not_exist(setting: str) -> None:
    with pytest.raises(ConfigError, match="not a compression"):
        compression_argument(setting, 17, ALL)


def test_a_compression_that_this_client_does_not_have() -> None:
    with pytest.raises(ConfigError, match="pg_dump 15 for this server knows gzip only"):
        compression_argument("zstd:3", 15, GZIP)
    with pytest.raises(ConfigError, match="built without lz4") as caught:
        compression_argument("lz4", 18, GZIP)
    assert "auto" in caught.value.hint


@pytest.mark.parametrize("version", [(18, 4), (17, 10), (16, 15), (15, 18), (14, 23)])
def test_safe_releases(version: tuple[int, int]) -> None:
    assert warnings_for(version) == []


@pytest.mark.parametrize("version", [(18, 3), (17, 9), (16, 13), (15, 17), (14, 22)])
def test_unsafe_releases(version: tuple[int, int]) -> None:
    (warning,) = warnings_for(version)
    assert "CVE-2026-6477" in warning
    assert dotted((version[0], version[1] + 1)) in warning


@pytest.mark.parametrize("major", [13, 19])
def test_majors_that_are_not_tested(major: int) -> None:
    assert "14 to 18" in warnings_for((major, 99))[0]
