"""How sizes, durations, lists and schedules are written."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from worker.config import values
from worker.config.model import Database, Destination, Settings
from worker.config.values import format_duration, format_size, kind_of, parse_duration, parse_size


@given(st.integers(min_value=0, max_value=2**60))
def test_a_size_is_read_back_as_it_was_written(size: int) -> None:
    assert parse_size(format_size(size)) == size


@given(st.integers(min_value=0, max_value=10**9))
def test_a_duration_is_read_back_as_it_was_written(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_with_fractions_too(microseconds: int) -> None:
    seconds = round(timedelta(microseconds=microseconds).total_seconds(), 6)
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1048576", 1048576),
        ("64MiB", 64 * 2**20),
        ("64 MiB", 64 * 2**20),
        ("64MB", 64_000_000),
        ("1.5GiB", 3 * 2**29),
        ("5kB", 5000),
        ("5KB", 5000),
        ("2TiB", 2**41),
        (" 7B ", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "64M", "64m", "G", "-1MiB", "1,5GiB", "0.3B", "1e6", "64 mib", "٣MiB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("15min", 900),
        ("24h", 86400),
        ("1h30m", 5400),
        ("2d", 172800),
        ("0.5s", 0.5),
        ("500ms", 0.5),
        ("1h 30m", 5400),
        ("0", 0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "1y", "-5s", "5 s x", "1h30", "90S", "1.5.2s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(text)


def test_what_a_size_or_a_duration_is_shown_as() -> None:
    assert [format_size(n) for n in (0, 1000, 2**20, 5 * 2**30)] == ["0B", "1000B", "1MiB", "5GiB"]
    assert [format_duration(n) for n in (0, 0.25, 59, 60, 5400, 90000)] == [
        "0s", "0.25s", "59s", "1m", "1h30m", "1d1h",
    ]  # fmt: skip


class Sample(BaseModel):
    names: values.Names = ()
    folders: values.Folders = ()
    schedule: values.Cron = ""
    compression: values.Compression = "auto"
    endpoint: values.Endpoint | None = None
    alias: values.Alias = "x"


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("names", "a, b ,,c", ("a", "b", "c")),
        ("names", ["a,b"], ("a,b",)),
        ("schedule", "OFF", ""),
        ("schedule", "0  2 * * *", "0 2 * * *"),
        ("schedule", "@daily", "@daily"),
        ("compression", "zstd:22", "zstd:22"),
        ("compression", "9", "9"),
        ("endpoint", "http://127.0.0.1:8333/", "http://127.0.0.1:8333"),
        ("alias", "goimg-2.eu_1", "goimg-2.eu_1"),
    ],
)
def test_a_value_fits(field: str, text: object, value: object) -> None:
    assert getattr(Sample.model_validate({field: text}), field) == value


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("folders", "relative/dir"),
        ("schedule", "0 2 * *"),
        ("schedule", "0 2 * * * *"),
        ("schedule", "0 0 30 2 *"),
        ("schedule", "99 2 * * *"),
        ("compression", "zstd:23"),
        ("compression", "gzip:0"),
        ("compression", "bzip2"),
        ("endpoint", "s3.example.com"),
        ("endpoint", "https://user:pw@host"),
        ("endpoint", "ftp://host"),
        ("endpoint", "https://host:99999"),
        ("alias", "-x"),
        ("alias", "a b"),
        ("alias", "a/b"),
        ("alias", ""),
        ("alias", "x" * 64),
    ],
)
def test_a_value_does_not_fit(field: str, text: object) -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate({field: text})


def test_bounds_are_told_in_words() -> None:
    told = {name: kind_of(Settings.model_fields[name]).expects for name in ("part_size", "lease_seconds")}
    assert told == {
        "part_size": "a size such as 64MiB, from 5MiB to 5GiB",
        "lease_seconds": "a duration such as 15m, above 0s",
    }
    assert kind_of(Database.model_fields["port"]).expects == "a whole number, from 1 to 65535"
    assert kind_of(Destination.model_fields["object_lock"]).expects == "one of governance, compliance"
