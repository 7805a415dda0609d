"""`pgfleet config` and the reference page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from worker.cli import cli
from worker.config import reference
from worker.config.explain import explain
from worker.config.model import Settings
from worker.config.variables import KNOWN, TABLES_OF_TABLES, VARIABLES

PAGE = Path(__file__).parents[2] / "docs/reference/settings.md"
ENVIRON = {
    "DB_PASSWORD": "hidden-one",
    "PGFLEET_BROKER_URL": "redis://:hidden-two@broker/1",
    "PGFLEET_NOTIFY_URLS": "slack://hidden-three/x",
    "S3_BUCKET": "b",
    "S3_SECRET_KEY": "hidden-four",
    "S3_ACCESS_KEY": "key",
    "DB_HOST": "db1",
}


def run(monkeypatch: pytest.MonkeyPatch, *args: str, **environ: str) -> Result:
    for name in KNOWN:
        monkeypatch.delenv(name, raising=False)
    return CliRunner().invoke(cli, ["config", *args], env={**environ, "COLUMNS": "150"})


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference.render(), (
        "python -m worker.config.reference > docs/reference/settings.md"
    )


def test_every_setting_is_described_and_can_be_set_by_a_variable() -> None:
    assert [v.name for v in VARIABLES if not v.info.description] == []
    fields = {v.field for v in VARIABLES if v.table == "pgfleet"}
    assert fields == set(Settings.model_fields) - set(TABLES_OF_TABLES)
    names = [name for v in VARIABLES for name in v.names]
    assert len(names) == len(set(names))


def test_secrets_are_masked_and_addresses_stay_readable() -> None:
    rows = {row.name: row for row in explain(ENVIRON)}
    assert rows["DB_PASSWORD"].value == "********"
    assert rows["PGFLEET_BROKER_URL"].value == "redis://:***@broker/1"
    assert rows["PGFLEET_NOTIFY_URLS"].value == "slack://********"
    assert (rows["DB_HOST"].value, rows["DB_HOST"].source) == ("db1", "environment")
    assert (rows["DB_PORT"].value, rows["DB_PORT"].source) == ("5432", "default")
    assert not [row for row in rows.values() if "hidden" in "".join(row)]


def test_the_sources_of_the_environment(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.write_text("hidden")
    rows = {row.name: row for row in explain({"DB_PASSWORD_FILE": str(held), "GNUPGHOME": "/g"})}
    assert rows["DB_PASSWORD"].source == f"DB_PASSWORD_FILE {held}"
    assert (rows["PGFLEET_GPG_HOME"].value, rows["PGFLEET_GPG_HOME"].source) == (
        "/g",
        "environment GNUPGHOME",
    )


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, **ENVIRON)
    assert result.exit_code == 0
    for word in ("database goimg", "destination s3", "DB_HOST", "db1", "S3_STORAGE_CLASS_MONTHLY", "64MiB"):
        assert word in result.output
    assert "hidden" not in result.output


def test_only_what_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, "--set", DB_HOST="db1")
    assert "DB_HOST" in result.output
    assert "DB_PORT" not in result.output


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, "--json", **ENVIRON)
    rows = json.loads(result.output)
    assert set(rows[0]) == {"name", "value", "source", "description", "group"}
    assert {row["group"] for row in rows} == {
        "pgfleet",
        "database goimg",
        "destination local",
        "destination s3",
    }
    assert "hidden" not in result.output
