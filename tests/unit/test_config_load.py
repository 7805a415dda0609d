"""Settings from the environment: each rule, and what it must leave alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.config import defaults
from worker.config.load import load
from worker.config.masks import secrets
from worker.config.model import Settings
from worker.config.sources import Given, Section
from worker.errors import ConfigError
from worker.redaction import MASK, redact

S3 = {"S3_BUCKET": "b", "S3_ACCESS_KEY": "k", "S3_SECRET_KEY": "hidden-key"}


def settings(**environ: str) -> Settings:
    return load(environ)


def refused(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(environ)
    assert caught.value.exit_code == 3
    assert caught.value.hint
    return str(caught.value)


def test_nothing_set_gives_the_seeds_defaults() -> None:
    loaded = settings()
    database = loaded.databases["goimg"]
    assert (database.host, database.port, database.name, database.user) == (
        "localhost",
        5432,
        "goimg",
        "goimg",
    )
    assert (database.docker_container, database.use_docker) == ("goimg-postgres", False)
    kept = database.retention
    assert (kept.daily_days, kept.weekly_weeks, kept.monthly_months) == (7, 4, 6)
    assert database.password is None
    assert database.recipients == ()
    assert not database.allow_unencrypted
    assert list(loaded.destinations) == ["local"]
    assert loaded.destinations["local"].path == Path("/var/backups/postgres")
    assert database.destinations == ("local",)
    assert loaded.targets["goimg"].database == "goimg"


def test_the_seeds_variables() -> None:
    loaded = settings(
        DB_HOST="db", DB_PORT="6432", DB_NAME="shop", DB_USER="u", DB_PASSWORD="p w ", BACKUP_DIR="/b",
        USE_DOCKER="true", DOCKER_CONTAINER="c", GPG_RECIPIENT="a@b, c@d", DAILY_RETENTION_DAYS="1",
        WEEKLY_RETENTION_WEEKS="2", MONTHLY_RETENTION_MONTHS="3", ALLOW_UNENCRYPTED="yes",
        FINGERPRINT="counts", LOG_FORMAT="json", LOG_LEVEL="DEBUG", S3_ENDPOINT="http://s3:9000", **S3,
    )  # fmt: skip
    database = loaded.databases["shop"]
    assert (database.alias, database.host, database.port, database.user) == ("shop", "db", 6432, "u")
    assert database.password is not None
    assert database.password.get_secret_value() == "p w "
    assert database.recipients == ("a@b", "c@d")
    assert (database.use_docker, database.docker_container, database.allow_unencrypted) == (True, "c", True)
    assert database.fingerprint == "counts"
    kept = database.retention
    assert (kept.daily_days, kept.weekly_weeks, kept.monthly_months) == (1, 2, 3)
    assert (loaded.log_format, loaded.log_level) == ("json", "DEBUG")
    assert database.destinations == ("local", "s3")
    s3 = loaded.destinations["s3"]
    assert (s3.kind, s3.endpoint, s3.bucket, s3.access_key) == ("s3", "http://s3:9000", "b", "k")
    assert s3.storage_class == {"daily": "STANDARD", "weekly": "STANDARD_IA", "monthly": "GLACIER"}


def test_the_fleets_variables() -> None:
    loaded = settings(
        PGFLEET_BROKER_URL="rediss://h/1", PGFLEET_LEDGER_URL="postgresql://h/ledger", PGFLEET_SPOOL="/s",
        PGFLEET_STATE_DIR="/t", PGFLEET_PG_BIN="/a/bin:/b/bin", PGFLEET_PART_SIZE="8MiB",
        PGFLEET_LEASE_SECONDS="2m", PGFLEET_COMPRESSION="zstd:3", PGFLEET_DB_JOBS="4",
        PGFLEET_LOCK_TIMEOUT="5m", PGFLEET_DRILL_SCHEDULE="off", PGFLEET_KEEP_MINIMUM="3",
        PGFLEET_NOTIFY_URLS="json://a/b mailto://c,d",
        PGFLEET_PREFIX="p", S3_STORAGE_CLASS_MONTHLY="STANDARD", **S3,
    )  # fmt: skip
    database = loaded.databases["goimg"]
    assert loaded.pg_bin == (Path("/a/bin"), Path("/b/bin"))
    assert (loaded.part_size, loaded.lease_seconds, database.lock_timeout) == (8 * 2**20, 120.0, 300)
    assert (database.compression, database.jobs, database.drill_schedule) == ("zstd:3", 4, "")
    assert database.retention.minimum == 3
    assert [url.get_secret_value() for url in loaded.notify_urls] == ["json://a/b", "mailto://c,d"]
    assert loaded.destinations["s3"].prefix == "p"
    assert loaded.destinations["s3"].storage_class["monthly"] == "STANDARD"


def test_all_problems_are_told_at_once() -> None:
    text = refused(DB_PORT="x", PGFLEET_PART_SIZE="1MiB", S3_BUKET="b", PGFLEET_NOPE="1", S3_ACCESS_KEY="k")
    for word in ("DB_PORT", "PGFLEET_PART_SIZE", "S3_BUKET", "PGFLEET_NOPE", "S3_BUCKET is not set"):
        assert word in text


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DB_PORT": "54x"}, ["DB_PORT", "'54x'", "from 1 to 65535", "DB_PORT=5432"]),
        ({"DB_PORT": "70000"}, ["DB_PORT", "from 1 to 65535"]),
        ({"DB_PORT": "tcp://10.0.0.1:5432"}, ["DB_PORT", "enableServiceLinks"]),
        ({"USE_DOCKER": "perhaps"}, ["USE_DOCKER", "true or false"]),
        ({"DAILY_RETENTION_DAYS": "-1"}, ["DAILY_RETENTION_DAYS", "at least 0"]),
        ({"PGFLEET_KEEP_MINIMUM": "0"}, ["PGFLEET_KEEP_MINIMUM", "at least 1"]),
        ({"PGFLEET_PART_SIZE": "6GiB"}, ["PGFLEET_PART_SIZE", "5GiB"]),
        ({"PGFLEET_PART_SIZE": "64M"}, ["PGFLEET_PART_SIZE", "'64M'", "64MiB"]),
        ({"PGFLEET_SCHEDULE": "0 2 * *"}, ["PGFLEET_SCHEDULE", "cron line"]),
        ({"PGFLEET_LEASE_SECONDS": "0.2s"}, ["PGFLEET_LEASE_SECONDS", "at least 1s"]),
        ({"PGFLEET_RETRY_BASE_SECONDS": "1h"}, ["PGFLEET_RETRY_BASE_SECONDS", "PGFLEET_RETRY_MAX_SECONDS"]),
        ({"PGFLEET_SPOOL_GONE_SECONDS": "10s"}, ["PGFLEET_LEASE_SECONDS", "PGFLEET_SPOOL_GONE_SECONDS"]),
        ({"PGFLEET_SPOOL": "spool"}, ["PGFLEET_SPOOL", "absolute path"]),
        ({"FINGERPRINT": "some"}, ["FINGERPRINT", "full, counts, off"]),
        ({"LOG_LEVEL": "info"}, ["LOG_LEVEL", "INFO"]),
        ({"DB_NAME": "my db"}, ["DB_NAME", "PGFLEET_CONFIG", "[databases.ALIAS]"]),
        ({"DB_NAME": "-x"}, ["DB_NAME"]),
        ({"PGFLEET_DRILL_SERVER": "goimgg"}, ["PGFLEET_DRILL_SERVER", "Did you mean goimg?"]),
        ({"PGFLEET_REQUIRE_COPIES": "2"}, ["PGFLEET_REQUIRE_COPIES", "1 destinations"]),
        ({"PGFLEET_BROKER_URL": "http://x"}, ["PGFLEET_BROKER_URL", "redis://"]),
        ({"PGFLEET_LEDGER_URL": "mysql://x/y"}, ["PGFLEET_LEDGER_URL", "postgresql://"]),
        ({"PGFLEET_LEDGER_URL": "sqlite:///here.db"}, ["PGFLEET_LEDGER_URL", "not absolute"]),
        ({"BACKUP_DIR": ""}, ["BACKUP_DIR", "S3_BUCKET", "nowhere"]),
        ({**S3, "PGFLEET_PREFIX": "a", "S3_PREFIX": "b"}, ["S3_PREFIX", "PGFLEET_PREFIX", "contradict"]),
        ({**S3, "S3_PROFILE": "minio"}, ["S3_PROFILE", "S3_ENDPOINT"]),
        ({**S3, "S3_OBJECT_LOCK": "governance"}, ["S3_OBJECT_LOCK", "S3_OBJECT_LOCK_DAYS=30"]),
        ({**S3, "S3_OBJECT_LOCK_DAYS": "30"}, ["S3_OBJECT_LOCK_DAYS", "S3_OBJECT_LOCK=governance"]),
        ({"S3_BUCKET": "b", "S3_ACCESS_KEY": "k"}, ["S3_ACCESS_KEY", "S3_SECRET_KEY"]),
        ({"S3_BUCKET": "b", "S3_SECRET_KEY": "hidden-key"}, ["S3_ACCESS_KEY", "S3_SECRET_KEY"]),
        ({"S3_ENDPOINT": "http://s3:9000"}, ["S3_BUCKET", "S3_ENDPOINT"]),
        ({"S3_SECRET_KEY": "hidden-key", "S3_ACCESS_KEY": "k"}, ["S3_BUCKET", "S3_SECRET_KEY"]),
    ],
)
def test_a_wrong_setting_is_refused(environ: dict[str, str], words: list[str]) -> None:
    text = refused(**environ)
    assert [word for word in words if word not in text] == []
    assert "hidden-key" not in text


@pytest.mark.parametrize(
    "environ",
    [
        {"S3_BUCKET": "b"},  # neither key: the AWS chain
        {"BACKUP_DIR": "", **S3},
        {"DB_PORT": ""},  # what compose passes for an unset variable
        {"S3_BUCKET": "", "S3_ACCESS_KEY": "", "S3_SECRET_KEY": ""},
        {**S3, "PGFLEET_PREFIX": "a", "S3_PREFIX": "a"},
        {**S3, "S3_OBJECT_LOCK": "compliance", "S3_OBJECT_LOCK_DAYS": "1"},
        {**S3, "S3_PROFILE": "minio", "S3_ENDPOINT": "http://minio:9000"},
        {**S3, "PGFLEET_REQUIRE_COPIES": "2"},
        {"PGFLEET_DRILL_SERVER": "goimg"},
        {"PGFLEET_LEDGER_URL": "postgresql://localhost/ledger"},
    ],
)
def test_and_the_right_one_beside_it_is_not(environ: dict[str, str]) -> None:
    load(environ)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("S3_BUKET", "S3_BUCKET"),
        ("DB_PASSWD", "DB_PASSWORD"),
        ("GPG_RECIPIENTS", "GPG_RECIPIENT"),
        ("DAILY_RETENTION_DAY", "DAILY_RETENTION_DAYS"),
        ("ALLOW_UNENCRYTED", "ALLOW_UNENCRYPTED"),
        ("USE_DOKCER", "USE_DOCKER"),
        ("DB_PASSWORD_FIEL", "DB_PASSWORD_FILE"),
        ("PGFLEET_BROKERURL", "PGFLEET_BROKER_URL"),
        ("PGFLEET_DB_HOST", "DB_HOST"),
    ],
)
def test_a_misspelt_variable_is_refused(name: str, meant: str) -> None:
    text = refused(**{name: "x"})
    assert f"{name} is not a setting. Did you mean {meant}?" in text


@pytest.mark.parametrize(
    "name",
    ["DB_MAX_CONNS", "DOCKER_HOST", "DOCKER_BUILDKIT", "S3_CACHE_TTL", "GPG_TTY", "USE_CCACHE", "PATH"],
)
def test_a_foreign_variable_is_left_alone(name: str) -> None:
    settings(**{name: "x"})


def test_only_secrets_come_from_files(tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.write_text("two words\n")
    loaded = settings(DB_PASSWORD_FILE=str(held), PGFLEET_FLOWER_PASSWORD_FILE=str(held), DB_PASSWORD="")
    assert loaded.databases["goimg"].password is not None
    assert loaded.databases["goimg"].password.get_secret_value() == "two words"
    assert "DB_HOST is no secret" in refused(DB_HOST_FILE=str(held))


def test_a_secret_file_loses_one_newline_and_nothing_else(tmp_path: Path) -> None:
    held = tmp_path / "held"
    for content, secret in ((b" a \r\n", " a "), (b"a\n\n", "a\n"), (b"a", "a")):
        held.write_bytes(content)
        password = settings(DB_PASSWORD_FILE=str(held)).databases["goimg"].password
        assert password is not None
        assert password.get_secret_value() == secret


def test_a_secret_file_that_cannot_be_used(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    assert "which is empty" in refused(DB_PASSWORD_FILE=str(empty))
    assert "not text" in refused(DB_PASSWORD_FILE=str(binary))
    assert "No such file" in refused(DB_PASSWORD_FILE=str(tmp_path / "none"))
    assert "Is a directory" in refused(DB_PASSWORD_FILE=str(tmp_path))
    both = refused(DB_PASSWORD="hunter22", DB_PASSWORD_FILE=str(empty))
    assert "DB_PASSWORD and DB_PASSWORD_FILE" in both
    assert "hunter22" not in both


def test_no_secret_is_in_an_error() -> None:
    text = refused(
        DB_PORT="x",
        DB_PASSWORD="hunter22",
        PGFLEET_BROKER_URL="ftp://:hunter22@h",
        S3_BUCKET="b",
        S3_ENDPOINT="https://u:hunter22@h",
    )
    assert "hunter22" not in text


def test_the_ledger_is_never_a_database_that_it_keeps_the_books_about() -> None:
    assert "goimg" in refused(PGFLEET_LEDGER_URL="postgresql+psycopg://u:pw@127.0.0.1:5432/goimg")
    settings(PGFLEET_LEDGER_URL="postgresql://u:pw@127.0.0.1:5433/goimg")
    settings(PGFLEET_LEDGER_URL="postgresql://u:pw@other/goimg")


def test_two_destinations_at_one_place(tmp_path: Path) -> None:
    file = tmp_path / "pgfleet.toml"
    file.write_text(
        "[destinations.a]\nkind='s3'\nbucket='b'\nprefix='x/'\n[destinations.b]\nkind='s3'\nbucket='b'\nprefix='x'\n"
    )
    assert "same place" in refused(PGFLEET_CONFIG=str(file))
    file.write_text(file.read_text().replace("prefix='x/'", "prefix='y'"))
    settings(PGFLEET_CONFIG=str(file))


def test_directories_of_root() -> None:
    top = Section("environment", "pgfleet", "pgfleet")
    assert defaults.state_dir({}, system=True) == Path("/var/lib/pgfleet")
    if os.geteuid() == 0:
        defaults.add_defaults(top, {"HOME": "/root"})
        assert top.given["spool"].value == "/var/spool/pgfleet"
        assert top.given["ledger_url"].value == "sqlite:////var/lib/pgfleet/ledger.sqlite3"


def test_directories_of_a_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(defaults, "SYSTEM_STATE_DIR", tmp_path / "absent")
    assert defaults.state_dir({"HOME": "/home/ann"}, system=False) == Path("/home/ann/.local/state/pgfleet")
    assert defaults.state_dir({"XDG_STATE_HOME": "/x"}, system=False) == Path("/x/pgfleet")
    assert defaults.state_dir({"XDG_STATE_HOME": "rel", "HOME": "/h"}, system=False) == Path(
        "/h/.local/state/pgfleet"
    )
    monkeypatch.setattr(defaults, "SYSTEM_STATE_DIR", tmp_path)
    assert defaults.state_dir({"HOME": "/home/ann"}, system=False) == tmp_path


def test_what_follows_from_a_state_directory() -> None:
    loaded = settings(PGFLEET_STATE_DIR="/t", GNUPGHOME="/g")
    assert (loaded.spool, loaded.gpg_home) == (Path("/t/spool"), Path("/g"))
    assert loaded.ledger_url.get_secret_value() == "sqlite:////t/ledger.sqlite3"
    assert settings(PGFLEET_STATE_DIR="/t", HOME="/h").gpg_home == Path("/h/.gnupg")
    imported = settings(PGFLEET_STATE_DIR="/t", PGFLEET_GPG_KEYS_DIR="/keys", GNUPGHOME="/g")
    assert imported.gpg_home == Path("/t/gnupg")
    own = settings(PGFLEET_GPG_HOME="/own", PGFLEET_GPG_KEYS_DIR="/keys", GNUPGHOME="/g")
    assert own.gpg_home == Path("/own")


def test_every_secret_is_known_and_masked() -> None:
    loaded = settings(
        DB_PASSWORD="pass-one",
        PGFLEET_BROKER_URL="redis://:pass%2Ftwo@h",
        PGFLEET_LEDGER_URL="postgresql://u@h/l?password=pass-three",
        PGFLEET_FLOWER_PASSWORD="pass-four",
        PGFLEET_NOTIFY_URLS="slack://token-five/x",
        **S3,
    )
    known = set(secrets(loaded))
    assert {
        "pass-one", "pass/two", "pass%2Ftwo", "pass-three", "pass-four", "slack://token-five/x", "hidden-key",
    } <= known  # fmt: skip
    assert redact("a pass-one b pass/two c hidden-key") == f"a {MASK} b {MASK} c {MASK}"
    assert "pass-" not in repr(loaded)


def test_a_given_value_keeps_its_label() -> None:
    section = Section(
        "environment", "database", "goimg", {"fingerprint": Given("x", "PGFLEET_FINGERPRINT", "e")}
    )
    assert section.label("fingerprint") == "PGFLEET_FINGERPRINT"
    assert section.label("host") == "DB_HOST"


@pytest.mark.parametrize(
    ("environ", "classes"),
    [
        ({}, ["STANDARD", "STANDARD_IA", "GLACIER"]),
        ({"S3_ENDPOINT": "https://s3.eu-west-1.amazonaws.com"}, ["STANDARD", "STANDARD_IA", "GLACIER"]),
        ({"S3_ENDPOINT": "https://fra1.digitaloceanspaces.com"}, ["STANDARD", "STANDARD", "STANDARD"]),
        ({"S3_ENDPOINT": "http://minio:9000", "S3_PROFILE": "minio"}, ["STANDARD", "STANDARD", "STANDARD"]),
        ({"S3_ENDPOINT": "https://x.r2.cloudflarestorage.com"}, ["STANDARD", "STANDARD_IA", "STANDARD_IA"]),
        ({"S3_ENDPOINT": "https://s3.us-west-004.backblazeb2.com", "S3_STORAGE_CLASS_WEEKLY": "X"},
         ["STANDARD", "X", "STANDARD"]),
    ],
)  # fmt: skip
def test_storage_classes_that_the_vendor_has(environ: dict[str, str], classes: list[str]) -> None:
    found = load({**S3, **environ}).destinations["s3"].storage_class
    assert [found["daily"], found["weekly"], found["monthly"]] == classes
