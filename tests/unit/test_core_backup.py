"""Backup ids, types and the manifest, the stored format that must stay readable for ever."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.core.backup import Artifact, Gap, Manifest, Part, Server, backup_id, backup_type, parse_id
from worker.errors import StorageError

MANIFESTS = Path(__file__).parent.parent / "data" / "manifests"
FORMAT_1 = MANIFESTS / "format-1.json"
aliases = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,30}", fullmatch=True)
times = st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.timezones())


# Ids and types --------------------------------------------------------------------------------------------


def test_an_id_is_the_file_stem_of_the_seed() -> None:
    at = datetime(2024, 3, 1, 2, 0, 0, 999_999, tzinfo=UTC)
    assert backup_id("goimg", at) == "goimg-backup-20240301-020000"
    assert parse_id("goimg-backup-20240301-020000") == ("goimg", datetime(2024, 3, 1, 2, tzinfo=UTC))


def test_an_id_is_in_utc() -> None:
    at = datetime(2024, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert backup_id("goimg", at) == "goimg-backup-20240229-233000"


@settings(max_examples=200, deadline=None)
@given(aliases, times)
def test_ids_lead_back_to_name_and_second(alias: str, at: datetime) -> None:
    whole = at.astimezone(UTC).replace(microsecond=0)
    assert parse_id(backup_id(alias, at)) == (alias, whole)


@settings(max_examples=100, deadline=None)
@given(aliases, st.lists(times, min_size=2, max_size=6))
def test_ids_of_one_database_sort_by_time(alias: str, moments: list[datetime]) -> None:
    moments.sort()
    names = [backup_id(alias, moment) for moment in moments]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "goimg",
        "goimg-backup-",
        "-backup-20240301-020000",
        "goimg-backup-20240301",
        "goimg-backup-20240301-020000.dump.gpg",
        "goimg-backup-20240301-020000\n",
        " goimg-backup-20240301-020000",
        "../goimg-backup-20240301-020000",
        "a/b-backup-20240301-020000",
        ".goimg-backup-20240301-020000",
        "-goimg-backup-20240301-020000",
        "goimg-backup-20240230-020000",  # 30 February
        "goimg-backup-20230229-020000",  # not a leap year
        "goimg-backup-20241301-020000",
        "goimg-backup-20240100-020000",
        "goimg-backup-20240301-240000",
        "goimg-backup-20240301-026000",
        "goimg-backup-00000101-000000",
        "größe-backup-20240301-020000",
    ],
)
def test_anything_else_is_not_an_id(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_id(text)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=40))
def test_arbitrary_text_is_not_an_id(text: str) -> None:
    with pytest.raises(ValueError, match="is not a backup id"):
        parse_id(text)


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2024-03-01", "monthly"),  # a Friday
        ("2024-09-01", "monthly"),  # a Sunday: monthly wins
        ("2024-03-03", "weekly"),
        ("2024-03-31", "weekly"),
        ("2024-02-29", "daily"),
        ("2024-03-02", "daily"),  # a Saturday
        ("2024-03-04", "daily"),  # a Monday
        ("2024-12-31", "daily"),
    ],
)
def test_the_type_comes_from_the_date(day: str, expected: str) -> None:
    assert backup_type(date.fromisoformat(day)) == expected


@given(st.dates())
def test_one_day_in_seven_is_weekly_and_twelve_a_year_monthly(day: date) -> None:
    kind = backup_type(day)
    assert (kind == "monthly") == (day.day == 1)
    assert (kind == "weekly") == (day.weekday() == 6 and day.day != 1)


# The manifest ---------------------------------------------------------------------------------------------


def stored() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(FORMAT_1.read_text())
    return loaded


@pytest.mark.parametrize("path", sorted(MANIFESTS.glob("format-*.json")), ids=lambda path: path.name)
def test_every_released_format_stays_loadable(path: Path) -> None:
    manifest = Manifest.from_json(path.read_bytes())
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_format_1_means_what_it_meant() -> None:
    manifest = Manifest.from_json(FORMAT_1.read_bytes())
    assert manifest.format == 1
    assert parse_id(manifest.backup_id) == ("goimg", datetime(2024, 3, 3, 2, tzinfo=UTC))
    assert (manifest.database, manifest.dbname, manifest.destination) == ("goimg", "goimg_production", "s3")
    assert manifest.type == backup_type(manifest.snapshot_at.date()) == "weekly"
    assert manifest.snapshot_at == datetime(2024, 3, 3, 2, 0, 0, 481516, tzinfo=UTC)
    assert manifest.sealed_at - manifest.snapshot_at == timedelta(seconds=249, microseconds=752684)
    assert (manifest.server.major, manifest.server.version_num) == (16, 160002)
    assert manifest.server.extensions == {"pg_trgm": "1.6", "pgcrypto": "1.3"}
    assert manifest.server.tablespaces == ("fast",)
    assert manifest.encrypted
    assert manifest.recipients == ("0F5C1D2E3A4B5968778695A4B3C2D1E0F1029384",)
    dump, roles = manifest.artifacts
    assert (dump.kind, dump.size, len(dump.parts)) == ("dump", 12_583_915, 3)
    assert sum(part.size for part in dump.parts) == dump.size
    assert (roles.kind, roles.parts[0].sha256) == ("globals", roles.sha256)
    assert manifest.size == 12_583_915 + 1189
    assert manifest.tables[0].rows == 182_443
    assert manifest.tables[1].name == 'Odd "Name" größe'
    assert manifest.missing[0].what == "passwords of roles"
    assert manifest.restore[-1].startswith("pg_restore --exit-on-error")


def test_format_1_is_still_written_as_it_was() -> None:
    """A field that is renamed or dropped would leave older readers without it."""
    again = json.loads(Manifest.from_json(FORMAT_1.read_bytes()).to_json())
    assert again == stored() | again  # all that the sample has; new fields may have come
    assert set(stored()) <= set(again)


def test_fields_of_a_later_version_are_ignored() -> None:
    newer = stored()
    newer["tide"] = "high"
    newer["server"]["wal_level"] = "replica"
    newer["artifacts"][0]["crc64"] = "x"
    newer["artifacts"][0]["parts"][0]["crc64"] = "x"
    newer["tables"][0]["pages"] = 1
    newer["missing"][0]["since"] = "16"
    assert Manifest.from_json(json.dumps(newer)) == Manifest.from_json(FORMAT_1.read_bytes())


def test_what_a_manifest_may_leave_out() -> None:
    least = stored()
    for name in ("recipients", "tables", "missing", "restore"):
        del least[name]
    least["server"] = {"version": "16.2", "version_num": 160002}
    manifest = Manifest.from_json(json.dumps(least))
    assert (manifest.recipients, manifest.tables, manifest.missing, manifest.restore) == ((), (), (), ())
    assert manifest.server == Server(version="16.2", version_num=160002)
    assert manifest.server.locale_provider == "c"


REQUIRED = [
    "backup_id",
    "run_id",
    "database",
    "dbname",
    "destination",
    "type",
    "snapshot_at",
    "sealed_at",
    "pgfleet",
    "server",
    "client",
    "compression",
    "encrypted",
    "artifacts",
]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_manifest_without_a_needed_field_is_damaged(name: str) -> None:
    broken = stored()
    del broken[name]
    with pytest.raises(StorageError) as caught:
        Manifest.from_json(json.dumps(broken))
    assert f"{name}: Field required" in caught.value.message
    assert "pgfleet verify" in caught.value.hint
    assert not caught.value.retryable


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"format": 2}, "format"),
        ({"format": "1"}, "format"),
        ({"type": "yearly"}, "type"),
        ({"snapshot_at": "yesterday"}, "snapshot_at"),
        ({"artifacts": None}, "artifacts"),
        ({"artifacts": [{}]}, "artifacts.0.name"),
        ({"artifacts": [{"kind": "wal"}]}, "artifacts.0.name"),
        ({"server": []}, "server"),
        ({"encrypted": "perhaps"}, "encrypted"),
        ({"tables": [{"schema_name": "a", "name": "b", "rows": "many", "bytes": 1}]}, "tables.0.rows"),
    ],
)
def test_a_manifest_with_a_wrong_value_is_damaged(change: dict[str, Any], where: str) -> None:
    with pytest.raises(StorageError, match=f": {where}: "):
        Manifest.from_json(json.dumps(stored() | change))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b"1",
        b'"goimg"',
        b"{}",
        b"not json",
        b"\x00" * 100,
        b"\xff\xfe{}",
        FORMAT_1.read_bytes()[:-40],
        FORMAT_1.read_bytes()[1:],
        FORMAT_1.read_bytes().replace(b"format", b"f\xffrmat", 1),
        b"[" * 100_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_damaged_manifest_is_a_storage_error(text: bytes) -> None:
    with pytest.raises(StorageError, match="not a manifest that this version can read") as caught:
        Manifest.from_json(text)
    assert "\n" not in caught.value.message
    assert caught.value.exit_code == 6


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_truncated_manifest_is_never_taken_for_a_whole_one(data: st.DataObject) -> None:
    text = FORMAT_1.read_bytes().rstrip()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(StorageError):
        Manifest.from_json(text[:cut])


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
counts = st.integers(0, 2**63)
hashes = st.integers(0, 2**256 - 1).map(lambda n: f"{n:064x}")
STEMS = ("dump.gpg", "data-01.dump.gpg", "globals.sql.gpg", "fingerprint.json")


@st.composite
def artifacts(draw: st.DrawFn, backup: str, stem: str) -> Artifact:
    part_size = draw(st.integers(1, 2**62))
    sizes = [part_size] * draw(st.integers(0, 3)) + [draw(st.integers(1, part_size))]
    return Artifact(
        name=f"{backup}.{stem}",
        kind=draw(st.sampled_from(["dump", "data", "globals", "fingerprint"])),
        size=sum(sizes),
        sha256=draw(hashes),
        plain_size=draw(counts),
        plain_sha256=draw(hashes),
        part_size=part_size,
        parts=tuple(Part(number=n, size=size, sha256=draw(hashes)) for n, size in enumerate(sizes, 1)),
    )


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    backup = backup_id(draw(aliases), draw(times))
    stems = draw(st.lists(st.sampled_from(STEMS), min_size=1, unique=True))
    return Manifest(
        backup_id=backup,
        run_id=draw(names),
        database=draw(names),
        dbname=draw(names),
        destination=draw(names),
        type=draw(st.sampled_from(["daily", "weekly", "monthly"])),
        snapshot_at=draw(times).astimezone(UTC),
        sealed_at=draw(times).astimezone(UTC),
        pgfleet=draw(names),
        server=Server(
            version=draw(names), version_num=draw(st.integers(140000, 190000)), tablespaces=("fast",)
        ),
        client=draw(names),
        compression=draw(names),
        encrypted=draw(st.booleans()),
        artifacts=tuple(draw(artifacts(backup, stem)) for stem in stems),
        missing=tuple(draw(st.lists(st.builds(Gap, what=names, why=names), max_size=2))),
        restore=tuple(draw(st.lists(names, max_size=2))),
    )


@settings(max_examples=60, deadline=None)
@given(manifests())
def test_every_manifest_survives_its_json(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert text.endswith(b"}\n")
    assert Manifest.from_json(text) == manifest
    assert Manifest.from_json(text).to_json() == text


def test_a_manifest_cannot_be_changed() -> None:
    manifest = Manifest.from_json(FORMAT_1.read_bytes())
    with pytest.raises(ValidationError, match="frozen"):
        manifest.backup_id = "other"  # type: ignore[misc]


@pytest.mark.parametrize(("number", "major"), [(140011, 14), (150006, 15), (160002, 16), (180000, 18)])
def test_the_major_is_that_of_the_server(number: int, major: int) -> None:
    assert Server(version="", version_num=number).major == major
