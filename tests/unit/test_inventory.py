"""Which backup a request means, and what is said about the choice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from worker.catalog import Entry
from worker.config.load import load
from worker.core.requests import OfOneBackup
from worker.errors import BackupNotFound, StorageUnavailable
from worker.ledger import Ledger
from worker.steps import inventory
from worker.steps.context import Adapters
from worker.steps.inventory import Listed, choose

NOW = datetime(2026, 11, 23, tzinfo=UTC)
AWAY = {"far": StorageUnavailable("far does not answer.", "Look whether it is up.")}


def copy(days: int, state: Any = "verified", **known: Any) -> Entry:
    at = NOW - timedelta(days=days)
    values: dict[str, Any] = {
        "backup_id": f"shop-backup-{at:%Y%m%d-%H%M%S}", "database": "shop", "at": at, "type": "daily", "state": state,
        "size": 1, "manifest": None, "verified_at": None, "proven_at": None, "scrubbed_at": None, "held": False,
        "objects": (),
    }  # fmt: skip
    return Entry(**values | known)


@pytest.fixture
def adapters(tmp_path: Path) -> Adapters:
    path = tmp_path / "pgfleet.toml"
    places = "".join(
        f'[destinations.{name}]\nkind = "directory"\npath = "{tmp_path}/{name}"\n' for name in ("near", "far")
    )
    path.write_text(f"[databases.shop]\nallow_unencrypted = true\n{places}")
    path.chmod(0o600)
    settings = load({"PGFLEET_CONFIG": str(path), "PGFLEET_STATE_DIR": str(tmp_path)})
    return Adapters(settings, Ledger("sqlite://"))


def stored(monkeypatch: pytest.MonkeyPatch, *entries: Entry, failures: Any = None) -> None:
    listed = [Listed(entry.backup_id, "shop", {"near": entry}) for entry in entries]
    monkeypatch.setattr(
        inventory,
        "list_all",
        lambda *_, backup=None, **__: (
            [one for one in listed if backup in (None, one.backup_id)],
            failures or {},
        ),
    )


@pytest.mark.parametrize(
    ("newest", "failures", "note"),
    [
        (copy(0), {}, None),
        (copy(0, "incomplete"), {}, None),
        (copy(0, "damaged"), {}, "shop-backup-20261123-000000 is newer, but damaged in near."),
        (copy(2), AWAY, "far could not be listed, and may hold a newer backup: far does not answer."),
        (copy(0, refuted_at=NOW), {}, "A drill has refuted the copy in near (2026-11-23 00:00 UTC)"),
    ],
)
def test_the_latest_is_not_taken_for_granted(
    adapters: Adapters, monkeypatch: pytest.MonkeyPatch, newest: Entry, failures: Any, note: str | None
) -> None:
    stored(monkeypatch, newest, copy(3), failures=failures)
    found = choose(adapters, OfOneBackup())
    assert found.backup_id == (newest if newest.state == "verified" else copy(3)).backup_id
    assert len(found.notes) == bool(note)
    assert (note or "") in "".join(found.notes)


def test_who_names_a_backup_is_told_of_that_one_only(
    adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(monkeypatch, copy(0, "damaged"), copy(3), failures=AWAY)
    assert choose(adapters, OfOneBackup(backup=copy(3).backup_id)).notes == ()
    assert choose(adapters, OfOneBackup(before=NOW - timedelta(days=1))).notes == (
        "far could not be listed, and may hold a newer backup: far does not answer.",
    )


def test_what_is_not_found_may_be_where_nobody_answered(
    adapters: Adapters, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored(monkeypatch, copy(0), failures=AWAY)
    with pytest.raises(BackupNotFound, match="No drill has proven") as caught:
        choose(adapters, OfOneBackup(backup="latest-proven"))
    assert "far could not be listed" in caught.value.hint
