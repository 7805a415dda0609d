"""The names of stored objects, there and back, and that no stranger's object is taken for ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core import keys
from worker.core.backup import backup_id, parse_id

ID = "goimg-backup-20240301-020000"
NOW = datetime(2024, 3, 1, 2, 3, 4, 567, tzinfo=UTC)
ARTIFACTS = ["dump", "data-01.dump", "data-99.dump", "globals.sql", "fingerprint.json"]
STRANGERS = [
    "",
    ID,
    f"{ID}.",
    f"{ID}.dump.gpg.tmp",
    f"{ID}.dump.gpg~",
    f"{ID}.dump.gz",
    f"{ID}.dump.GPG",
    f"{ID}.tar",
    f"{ID}.data.dump",
    f"{ID}.data-1.dump",
    f"{ID}.data-001.dump",
    f"{ID}.manifest.json.gpg",
    f"{ID}.manifest.json.bak",
    f"{ID}-manifest.json",
    f"{ID}.verify.json",
    f"{ID}.verify-20240301T020304.json",
    f"{ID}.audit-20240301T020304000567Z.json",
    f"{ID}.verify-20240301T020304000567Z.json.gpg",
    f"{ID}.dump.gpg\n",
    f" {ID}.dump.gpg",
    f"sub/{ID}.dump.gpg",
    f"../{ID}.dump.gpg",
    f"{ID}.dump/../x.gpg",
    f".{ID}.dump.gpg",
    f"-{ID}.dump.gpg",
    "-backup-20240301-020000.dump.gpg",
    "goimg-backup-20240301.dump.gpg",
    "goimg-backup-2024031-020000.dump.gpg",
    "goimg-backup-20240301-02000.dump.gpg",
    "goimg-backup-20240301-0200000.dump.gpg",
    "goimg_backup_20240301_020000.dump.gpg",
    "goimg-Backup-20240301-020000.dump.gpg",
    "backup.sql",
    "größe-backup-20240301-020000.dump.gpg",
]

aliases = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
times = st.datetimes(datetime(1970, 1, 1), datetime(2199, 12, 31), timezones=st.just(UTC))
ids = st.builds(backup_id, aliases, times)


@pytest.mark.parametrize("stem", ARTIFACTS)
@pytest.mark.parametrize("encrypted", [True, False])
def test_artifacts_are_found_by_their_names(stem: str, encrypted: bool) -> None:
    name = keys.artifact_name(ID, stem, encrypted)
    assert name.endswith(".gpg") is encrypted
    assert keys.parse(name) == keys.Name(ID, "artifact")


def test_names_are_those_of_the_seed() -> None:
    assert keys.artifact_name(ID, "dump", encrypted=True) == "goimg-backup-20240301-020000.dump.gpg"
    assert keys.artifact_name(ID, "dump", encrypted=False) == "goimg-backup-20240301-020000.dump"
    assert keys.manifest_key(ID) == "goimg-backup-20240301-020000.manifest.json"


def test_the_manifest_is_found_by_its_name() -> None:
    assert keys.parse(keys.manifest_key(ID)) == keys.Name(ID, "manifest")


@pytest.mark.parametrize("kind", get_args(keys.EvidenceKind))
def test_evidence_is_found_by_its_name(kind: keys.EvidenceKind) -> None:
    assert keys.parse(keys.evidence_key(ID, kind, NOW)) == keys.Name(ID, "evidence", kind)


def test_evidence_of_two_moments_has_two_names_that_sort_by_time() -> None:
    moments = [NOW + timedelta(microseconds=n) for n in (0, 1, 999_999, 10_000_000)]
    names = [keys.evidence_key(ID, "scrub", moment) for moment in moments]
    assert len(set(names)) == 4
    assert names == sorted(names)


def test_evidence_is_named_in_utc() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=-7)))
    assert keys.evidence_key(ID, "drill", there) == f"{ID}.drill-20240301T020304000567Z.json"


@settings(max_examples=150, deadline=None)
@given(aliases, times, st.sampled_from(ARTIFACTS), st.booleans())
def test_every_name_leads_back_to_its_backup(alias: str, at: datetime, stem: str, encrypted: bool) -> None:
    backup = backup_id(alias, at)
    for name, role in (
        (keys.artifact_name(backup, stem, encrypted), "artifact"),
        (keys.manifest_key(backup), "manifest"),
        (keys.evidence_key(backup, "hold", at), "evidence"),
    ):
        found = keys.parse(name)
        assert found is not None
        assert (found.backup_id, found.role) == (backup, role)
        assert parse_id(found.backup_id) == (alias, at.replace(microsecond=0))


@pytest.mark.parametrize(
    "alias",
    [
        "backup",
        "a-backup",
        "goimg-backup-20240301",
        "goimg-backup-20240301-020000",
        "a.dump",
        "a.manifest.json",
    ],
)
def test_aliases_that_look_like_parts_of_a_name_are_no_trouble(alias: str) -> None:
    backup = backup_id(alias, NOW)
    assert parse_id(backup)[0] == alias
    assert keys.parse(keys.artifact_name(backup, "dump", encrypted=True)) == keys.Name(backup, "artifact")
    assert keys.parse(keys.manifest_key(backup)) == keys.Name(backup, "manifest")


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_not_ours(name: str) -> None:
    assert keys.parse(name) is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60))
def test_arbitrary_text_is_not_ours(text: str) -> None:
    assert keys.parse(text) is None


@settings(max_examples=300, deadline=None)
@given(ids, st.sampled_from([f".{stem}.gpg" for stem in ARTIFACTS] + [keys.MANIFEST_SUFFIX]), st.data())
def test_a_name_with_a_character_changed_is_another_backup_or_a_stranger(
    backup: str, suffix: str, data: st.DataObject
) -> None:
    name = backup + suffix
    place = data.draw(st.integers(0, len(name) - 1))
    other = name[:place] + data.draw(st.characters().filter(lambda c: c != name[place])) + name[place + 1 :]
    found = keys.parse(other)
    if place < len(backup):
        assert found is None or found.backup_id != backup
    elif found is not None:  # data-01 became data-02
        assert (found.backup_id, found.role) == (backup, "artifact")
        assert other[place].isdigit()
