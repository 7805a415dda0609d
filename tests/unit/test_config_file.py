"""Settings from the TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.config.explain import explain
from worker.config.load import load
from worker.config.model import Settings
from worker.errors import ConfigError

TWO = """
[pgfleet]
part_size = "16MiB"
lease_seconds = 60

[databases.shop]
host = "db1"
password_env = "SHOP_PASSWORD"
destinations = ["near"]
jobs = 4
allow_replace = true

[databases.shop.retention]
daily_days = 14

[databases.blog]
name = "wordpress"
schedule = "off"

[destinations.near]
kind = "directory"
path = "/srv/backups"

[destinations.far]
kind = "s3"
bucket = "b"
storage_class.monthly = "DEEP_ARCHIVE"

[targets.blog]
host = "staging"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pgfleet.toml"
    path.write_text(TWO)
    return path


def settings(file: Path, **environ: str) -> Settings:
    return load({"PGFLEET_CONFIG": str(file), "SHOP_PASSWORD": "hidden-shop", **environ})


def refused(file: Path, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        settings(file, **environ)
    assert caught.value.exit_code == 3
    return str(caught.value)


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_several_databases_and_destinations(file: Path) -> None:
    loaded = settings(file)
    shop, blog = loaded.databases["shop"], loaded.databases["blog"]
    assert (shop.alias, shop.name, shop.host, shop.jobs) == ("shop", "shop", "db1", 4)
    assert shop.password is not None
    assert shop.password.get_secret_value() == "hidden-shop"
    assert (shop.destinations, blog.destinations) == (("near",), ("near", "far"))
    assert (shop.retention.daily_days, shop.retention.weekly_weeks) == (14, 4)
    assert (blog.name, blog.schedule, blog.password) == ("wordpress", "", None)
    assert loaded.destinations["far"].storage_class == {
        "daily": "STANDARD", "weekly": "STANDARD_IA", "monthly": "DEEP_ARCHIVE",
    }  # fmt: skip
    assert loaded.destinations["near"].storage_class == {}
    assert (loaded.part_size, loaded.lease_seconds) == (16 * 2**20, 60)


def test_a_destination_may_keep_less_or_more_than_the_database(file: Path) -> None:
    here = "[destinations.near.retention]\ndaily_days = 3\nyearly_years = 0\n\n"
    edit(file, "[destinations.far]", f"{here}[destinations.far]")
    edit(file, "daily_days = 14", "daily_days = 14\nyearly_years = 7\nminimum = 2")
    loaded = settings(file)
    near, far = loaded.retention("shop", "near"), loaded.retention("shop", "far")
    assert far == loaded.databases["shop"].retention
    assert near == far.model_copy(update={"daily_days": 3, "yearly_years": 0}), (
        "0 is a value, not the database's"
    )
    assert (near.minimum, loaded.retention("blog", "near").daily_days) == (2, 3)
    assert loaded.retention("blog", "far") == loaded.databases["blog"].retention
    rows = {row.name: row for row in explain({"PGFLEET_CONFIG": str(file), "SHOP_PASSWORD": "hidden"})}
    row = rows["destinations.near.retention.daily_days"]
    assert row.value == "3"
    assert row.source.startswith(f"{file}:")
    assert rows["destinations.far.retention.daily_days"].value == ""


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dayly_days = 3", ["destinations.near.retention.dayly_days", "Did you mean retention.daily_days?"]),
        ("daily_days = -1", ["destinations.near.retention.daily_days", "; -1 is not"]),
        ("minimum = 0", ["destinations.near.retention.minimum", "; 0 is not"]),
        ("keep_last = true", ["destinations.near.retention.keep_last", "whole number"]),
    ],
)
def test_a_destinations_wrong_retention_is_refused(file: Path, line: str, words: list[str]) -> None:
    edit(file, "[destinations.far]", f"[destinations.near.retention]\n{line}\n\n[destinations.far]")
    told = refused(file)
    assert [word for word in words if word not in told] == [], told


def test_each_database_is_a_target_unless_one_is_configured(file: Path) -> None:
    targets = settings(file).targets
    shop, blog = targets["shop"], targets["blog"]
    assert (shop.host, shop.database, shop.allow_replace) == ("db1", "shop", True)
    assert shop.password is not None
    assert (blog.host, blog.database, blog.allow_replace) == ("staging", None, False)


def test_the_environment_wins_at_the_top_level(file: Path) -> None:
    assert settings(file, PGFLEET_PART_SIZE="32MiB").part_size == 32 * 2**20


def test_databases_are_not_mixed(file: Path) -> None:
    text = refused(file, DB_HOST="elsewhere", GPG_RECIPIENT="a@b")
    assert "DB_HOST, GPG_RECIPIENT" in text
    assert "[databases." in text
    text = refused(file, S3_BUCKET="b", BACKUP_DIR="")
    assert "BACKUP_DIR, S3_BUCKET" in text


def test_a_file_without_databases_leaves_them_to_the_environment(file: Path) -> None:
    file.write_text("[pgfleet]\nmax_attempts = 7\n")
    loaded = settings(file, DB_NAME="shop", S3_BUCKET="b")
    assert (loaded.max_attempts, list(loaded.databases)) == (7, ["shop"])
    assert list(loaded.destinations) == ["local", "s3"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("jobs = 4", "jbos = 4", ["databases.shop.jbos", "pgfleet.toml:10", "Did you mean jobs?"]),
        ("daily_days = 14", "dayly = 14", ["databases.shop.retention.dayly", ":14"]),
        ("[targets.blog]", "[tragets.blog]", ["tragets", "Did you mean targets?"]),
        ("part_size =", "partsize =", ["pgfleet.partsize", "Did you mean part_size?"]),
        ("storage_class.monthly", "storage_class.yearly", ["destinations.far.storage_class.yearly"]),
        ('destinations = ["near"]', 'destinations = ["neer"]', ["'neer'", "Did you mean near?", ":9"]),
        ("jobs = 4", "jobs = true", ["databases.shop.jobs", "from 1 to 64", "True"]),
        ("jobs = 4", "jobs = 0", ["databases.shop.jobs", ":10", "jobs = 1 under [databases.shop]"]),
        ("jobs = 4", "alias = 'x'", ["databases.shop.alias"]),
        ('kind = "directory"\n', "", ["destinations.near.kind is missing"]),
        ('kind = "directory"', 'kind = "directroy"', ["destinations.near.kind", "s3, directory"]),
        ('path = "/srv/backups"', "", ["destinations.near.path is missing"]),
        ('path = "/srv/backups"', 'path = "/srv/backups"\nregion = "x"', ["near.region", "directory"]),
        ('bucket = "b"', "", ["destinations.far.bucket is missing"]),
        ('bucket = "b"', 'bucket = "b"\npath = "/x"', ["destinations.far.path", "bucket"]),
        ('bucket = "b"', 'bucket = "b"\naccess_key = "k"', ["far.access_key", "far.secret_key is not"]),
        ('bucket = "b"', 'bucket = "b"\nendpoint = "minio:9000"', ["far.endpoint", "http or https URL"]),
        ("[databases.blog]", "[databases.'b log']", ["[databases.b log]", "Rename"]),
        ("[pgfleet]", "pgfleet = 3\n[other]", ["pgfleet", "must be a table"]),
        ('"SHOP_PASSWORD"', '"SHOP_PASSWROD"', ["databases.shop.password_env", "SHOP_PASSWROD", "not set"]),
        ("password_env", "password_file", ["databases.shop.password_file", "cannot be read"]),
        ('"SHOP_PASSWORD"', "3", ["databases.shop.password_env", "variable's name"]),
        ("jobs = 4", "password_file = '/x'", ["databases.shop.password_file"]),
        ("host = \"db1\"", "host_file = '/x'", ["databases.shop.host_file", "not a setting"]),
        ("[pgfleet]", "[pgfleet", ["not a TOML file", "line 2"]),
    ],
)  # fmt: skip
def test_a_wrong_file_is_refused(file: Path, old: str, new: str, words: list[str]) -> None:
    edit(file, old, new)
    text = refused(file)
    assert [word for word in words if word not in text] == []


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "PGFLEET_CONFIG" in refused(tmp_path / "none.toml")
    assert "PGFLEET_CONFIG" in refused(tmp_path)


def test_inline_secrets_need_a_private_file(file: Path) -> None:
    edit(file, "jobs = 4", "jobs = 4")
    edit(file, 'password_env = "SHOP_PASSWORD"', 'password = "hidden-inline"')
    file.chmod(0o640)
    text = refused(file)
    assert "chmod 600" in text
    assert "hidden-inline" not in text
    file.chmod(0o600)
    settings(file)


@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ('broker_url = "redis://host/0"', False),
        ('broker_url = "redis://:hidden@host/0"', True),
        ('ledger_url = "postgresql://u@h/l"', False),
        ('ledger_url = "postgresql://u@h/l?password=hidden"', True),
        ('notify_urls = ["json://token/x"]', True),
        ('flower_password = "hidden"', True),
    ],
)
def test_what_makes_a_file_secret(file: Path, line: str, secret: bool) -> None:
    file.write_text(f"[pgfleet]\n{line}\n")
    file.chmod(0o644)
    if secret:
        assert "chmod 600" in refused(file)
    else:
        settings(file)


def test_a_referenced_variable_is_ours_whatever_it_is_called(file: Path) -> None:
    edit(file, '"SHOP_PASSWORD"', '"DB_PASSWORD_EU"')
    settings(file, DB_PASSWORD_EU="x")
    edit(file, '"DB_PASSWORD_EU"', '"DB_PASSWORD"')
    settings(file, DB_PASSWORD="x")
    edit(file, '"DB_PASSWORD"', '"SHOP_PASSWORD"')
    assert "DB_PASSWORD_EU is not a setting" in refused(file, DB_PASSWORD_EU="x")


def test_a_secret_from_a_file_of_its_own(file: Path, tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.write_text("hidden-held\n")
    edit(file, 'password_env = "SHOP_PASSWORD"', f'password_file = "{held}"')
    password = settings(file).databases["shop"].password
    assert password is not None
    assert password.get_secret_value() == "hidden-held"


def test_every_row_says_where_it_comes_from(file: Path) -> None:
    environ = {"PGFLEET_CONFIG": str(file), "SHOP_PASSWORD": "hidden-shop", "PGFLEET_MAX_ATTEMPTS": "9"}
    rows = {row.name: row for row in explain(environ)}
    assert rows["databases.shop.host"].source == f"{file}:7"
    assert rows["databases.shop.password"].value == "********"
    assert rows["databases.shop.port"].source == "default"
    assert rows["pgfleet.part_size"].value == "16MiB"
    assert rows["pgfleet.part_size"].source == f"{file}:3"
    assert (rows["PGFLEET_MAX_ATTEMPTS"].value, rows["PGFLEET_MAX_ATTEMPTS"].source) == ("9", "environment")
    assert rows["destinations.far.storage_class.monthly"].value == "DEEP_ARCHIVE"
    assert rows["destinations.far.storage_class.daily"].source == "default"
    assert rows["databases.shop.retention.daily_days"].value == "14"
    assert rows["PGFLEET_CONFIG"].value == str(file)
    assert not [row for row in rows.values() if "hidden" in "".join(row)]
