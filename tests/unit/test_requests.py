"""What a message may ask for, and that all else is refused without being repeated."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.core.requests import (
    MAX_BYTES,
    BackupRequest,
    CleanupRequest,
    CopyRequest,
    DrillRequest,
    Kind,
    Request,
    RestoreRequest,
    VerifyRequest,
    check_repeated,
    parse,
)
from worker.errors import ConfigError

ID = "goimg-backup-20240301-020000"
ADDRESSES = [
    "postgresql://admin:hunter2@db.example.com/goimg",
    "host=db.example.com password=hunter2",
    "s3://bucket/prefix",
    "/etc/passwd",
    "../other",
    "..",
    ".hidden",
    "a/b",
    "C:\\backups",
    "user@host",
    "host:5432",
    "-rf",
    "a b",
    "a\nb",
    "",
    "ü",
    "x" * 64,
]


def refusal(kind: str, payload: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(kind, payload)
    assert caught.value.message.endswith(".")
    assert caught.value.hint.endswith(".")
    return caught.value


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        ("backup", BackupRequest()),
        ("backup", BackupRequest(databases=("goimg", "other.db-2"), idempotency_key="k", requested_by="app")),
        ("restore", RestoreRequest()),
        (
            "restore",
            RestoreRequest(
                backup="latest-proven",
                database="goimg",
                before=datetime(2024, 3, 1, 2, tzinfo=UTC),
                destination="s3",
                target="staging",
                as_name="größe 1",
                schemas=("public",),
                tables=("public.images", '"Odd Name"'),
                exclude_tables=("public.sessions",),
                data_only=True,
                globals_=True,
                no_owner=True,
                no_acl=True,
                dry_run=True,
                jobs=8,
            ),
        ),
        ("restore", RestoreRequest(backup=ID, replace=True, confirm="goimg", force=True, drop_old=True)),
        ("drill", DrillRequest(backup=ID, database="goimg", destination="dir", jobs=2)),
        ("cleanup", CleanupRequest(database="goimg", destination="s3", dry_run=True, force=True)),
        ("copy", CopyRequest(backup=ID, to="s3", source="dir")),
        ("verify", VerifyRequest(backup=ID, destination="s3")),
    ],
)
def test_a_request_survives_json(kind: str, request_: Request) -> None:
    payload = json.loads(json.dumps(request_.to_payload()))
    assert parse(kind, payload) == request_
    assert type(request_).from_payload(payload) == request_
    assert request_.kind == kind


def test_every_kind_can_be_parsed_from_its_smallest_payload() -> None:
    smallest: dict[str, dict[str, Any]] = {"copy": {"to": "s3"}}
    for kind in get_args(Kind):
        payload = smallest.get(kind, {})
        assert parse(kind, payload).to_payload() == payload


def test_what_is_null_or_the_default_may_be_written_out() -> None:
    payload: dict[str, Any] = {"databases": [], "idempotency_key": None, "requested_by": ""}
    assert parse("backup", payload) == BackupRequest()


def test_a_database_named_twice_is_meant_once() -> None:
    assert parse("backup", {"databases": ["b", "a", "b"]}) == BackupRequest(databases=("b", "a"))


def test_globals_has_its_plain_name_in_json() -> None:
    assert RestoreRequest(globals_=True).to_payload() == {"globals": True}
    assert parse("restore", {"globals": True}) == RestoreRequest(globals_=True)


def test_before_keeps_its_instant_in_any_zone() -> None:
    there = datetime(2024, 3, 1, 2, tzinfo=timezone(timedelta(hours=5)))
    again = parse("restore", RestoreRequest(before=there).to_payload())
    assert isinstance(again, RestoreRequest)
    assert again.before == there


ALIAS_FIELDS = [
    ("backup", "databases"),
    ("restore", "database"),
    ("restore", "destination"),
    ("restore", "target"),
    ("drill", "database"),
    ("drill", "destination"),
    ("cleanup", "database"),
    ("cleanup", "destination"),
    ("copy", "database"),
    ("copy", "to"),
    ("copy", "source"),
    ("verify", "database"),
    ("verify", "destination"),
]


@pytest.mark.parametrize(("kind", "name"), ALIAS_FIELDS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_alias_is_never_an_address_or_a_path(kind: str, name: str, address: str) -> None:
    value = [address] if name == "databases" else address
    error = refusal(kind, {"to": "s3", name: value} if kind == "copy" else {name: value})
    assert "can only name an alias" in error.message
    assert error.exit_code == 3


def test_every_field_that_names_something_configured_is_covered_above() -> None:
    named = {"databases", "database", "destination", "target", "to", "source"}
    models: list[type[Request]] = [
        BackupRequest,
        RestoreRequest,
        DrillRequest,
        CleanupRequest,
        CopyRequest,
        VerifyRequest,
    ]
    found = {(model.kind, name) for model in models for name in model.model_fields if name in named}
    assert found == set(ALIAS_FIELDS)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("restore", {"target": "postgresql://u:hunter2@h/db"}),
        ("restore", {"as_name": "host=h password=hunter2"}),
        ("restore", {"backup": "hunter2"}),
        ("restore", {"dsn=hunter2": 1}),
        ("restore", {"replace": "hunter2"}),
        ("restore", {"before": "hunter2"}),
        ("restore", {"confirm": "hunter2\n"}),
        ("restore", {"tables": "hunter2"}),
        ("restore", {"tables": [{"password": "hunter2"}]}),
        ("restore", {"jobs": "hunter2"}),
        ("hunter2", {}),
    ],
)
def test_what_is_refused_is_not_repeated(kind: str, payload: dict[str, Any]) -> None:
    error = refusal(kind, payload)
    told = "".join(traceback.format_exception(error, limit=0))
    assert "hunter2" not in told
    assert "hunter2" not in repr(error.args)


def test_nor_is_it_repeated_to_who_builds_a_request_in_python() -> None:
    with pytest.raises(ValidationError) as caught:
        RestoreRequest(replace="hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "payload", "message"),
    [
        ("backup", {"database": "goimg"}, "a field that is not known"),
        ("backup", {"databases": "goimg"}, "databases"),
        ("backup", {"databases": [1]}, "databases.0"),
        ("backup", {"databases": None}, "databases"),
        ("backup", {"requested_by": "a\x1b[2J"}, "requested_by: it holds control characters"),
        ("backup", {"requested_by": "x" * 201}, "requested_by"),
        ("backup", {"requested_by": "\ud800"}, "refused"),
        ("backup", {"idempotency_key": ""}, "idempotency_key"),
        ("restore", {"backup": "newest"}, "neither an id nor latest"),
        ("restore", {"backup": "goimg-backup-20240230-020000"}, "neither an id"),  # 30 February
        ("restore", {"backup": f"../{ID}"}, "neither an id"),
        ("restore", {"backup": f"{ID}.dump.gpg"}, "neither an id"),
        ("restore", {"backup": f"{ID}\n"}, "neither an id"),
        ("restore", {"replace": "yes"}, "replace"),
        ("restore", {"replace": 1}, "replace"),
        ("restore", {"jobs": 0}, "jobs"),
        ("restore", {"jobs": 65}, "jobs"),
        ("restore", {"jobs": "4"}, "jobs"),
        ("restore", {"jobs": True}, "jobs"),
        ("restore", {"tables": [""]}, "tables.0"),
        ("restore", {"as_name": ""}, "as_name"),
        ("restore", {"as_name": "template1"}, "template1 belongs to the server"),
        ("restore", {"as_name": "postgres"}, "postgres belongs to the server"),
        ("restore", {"as_name": "dbname=goimg"}, "not a plain name"),
        ("restore", {"as_name": "postgres://h/goimg"}, "not a plain name"),
        ("restore", {"as_name": "ü" * 32}, "not a plain name"),  # 64 bytes
        ("restore", {"as_name": "a\x00"}, "not a plain name"),
        ("restore", {"before": "2024-03-01T02:00:00"}, "before"),  # no zone
        ("restore", {"before": "1709258400"}, "before: it is not a time"),
        ("restore", {"before": "20240301"}, "before: Input should have timezone info"),  # a day, not seconds
        ("restore", {"before": 1709258400}, "before"),
        ("restore", {"before": "yesterday"}, "before"),
        ("copy", {"backup": ID}, "to: Field required"),
        ("copy", {"backup": ID, "to": "s3", "source": "s3"}, "the same destination"),
        ("restart", {}, "no such kind"),
        ("verify", {"x": float("nan")}, "not a JSON object"),
        ("verify", {"x": object()}, "not a JSON object"),
        ("verify", [1, 2], "not a JSON object"),
        ("verify", "goimg", "not a JSON object"),
        ("verify", None, "not a JSON object"),
        ("restore", {"tables": ["x" * 100] * (MAX_BYTES // 100)}, "larger than"),
    ],
)
def test_what_makes_no_sense_is_refused(kind: str, payload: Any, message: str) -> None:
    assert message in refusal(kind, payload).message


def test_an_unknown_field_is_answered_with_the_known_ones() -> None:
    hint = refusal("restore", {"drop-old": True}).hint
    assert "drop_old" in hint
    assert "globals," in hint


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"schema_only": True, "data_only": True}, "schema_only and data_only"),
        ({"tables": ["a", "b"], "exclude_tables": ["b"]}, "both selected and excluded"),
        ({"replace": True, "tables": ["a"]}, "a part of a backup"),
        ({"replace": True, "schemas": ["a"]}, "a part of a backup"),
        ({"replace": True, "exclude_tables": ["a"]}, "a part of a backup"),
        ({"replace": True, "schema_only": True}, "a part of a backup"),
        ({"replace": True, "data_only": True}, "a part of a backup"),
        ({"replace": True, "as_name": "beside"}, "replace and as_name"),
        ({"drop_old": True}, "drop_old without replace"),
        ({"backup": ID, "before": "2024-03-01T02:00:00Z"}, "an id and a time"),
        ({"backup": ID, "database": "other"}, f"{ID} is not a backup of the database other"),
    ],
)
def test_contradictions_are_refused_and_each_half_alone_is_not(payload: dict[str, Any], message: str) -> None:
    assert message in refusal("restore", payload).message
    for name, value in payload.items():
        if name != "drop_old":
            parse("restore", {name: value})


@pytest.mark.parametrize("kind", ["drill", "verify", "copy"])
def test_an_id_and_a_time_contradict_each_other_in_every_kind(kind: str) -> None:
    to = {"to": "s3"} if kind == "copy" else {}
    assert "an id and a time" in refusal(kind, {"backup": ID, "before": "2024-03-01T02:00:00Z", **to}).message
    parse(kind, {"backup": "latest", "before": "2024-03-01T02:00:00Z", **to})


def test_a_replace_without_confirmation_is_left_to_who_can_ask() -> None:
    assert parse("restore", {"replace": True}) == RestoreRequest(replace=True)


def test_the_same_rules_hold_for_a_request_built_in_python() -> None:
    with pytest.raises(ConfigError, match="can only name an alias"):
        RestoreRequest(target="/etc/passwd")
    with pytest.raises(ConfigError, match="schema_only and data_only"):
        RestoreRequest(schema_only=True, data_only=True)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
models_with_most = (RestoreRequest, CopyRequest, BackupRequest)
field_names = sorted({"globals", *(name for model in models_with_most for name in model.model_fields)})


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(get_args(Kind)),
    payload=st.dictionaries(st.sampled_from(field_names) | st.text(max_size=6), json_values, max_size=3),
)
def test_any_json_is_either_a_request_or_a_config_error(kind: str, payload: dict[str, Any]) -> None:
    try:
        request = parse(kind, payload)
    except ConfigError:
        return
    assert parse(kind, request.to_payload()) == request


def test_a_key_is_of_one_request() -> None:
    first = RestoreRequest(idempotency_key="k", as_name="a", requested_by="me").to_payload()
    check_repeated("k", first, {**first, "requested_by": "you", "database": "goimg"})
    check_repeated(None, first, {**first, "as_name": "b"})
    with pytest.raises(ConfigError, match="given to another request"):
        check_repeated("k", first, {**first, "as_name": "b"})
