"""Which vendor an endpoint is, and what that decides."""

from __future__ import annotations

import pytest

from worker.config.model import Destination
from worker.storage.profiles import profile_of
from worker.storage.s3 import S3Store


def destination(**settings: object) -> Destination:
    made = {"alias": "x", "kind": "s3", "bucket": "bucket", "access_key": "k", "secret_key": "s", **settings}
    return Destination.model_validate(made)


@pytest.mark.parametrize(
    ("endpoint", "addressing", "checksum", "conditional", "region"),
    [
        (None, "auto", "sha256", True, ""),
        ("https://s3.eu-west-1.amazonaws.com", "auto", "sha256", True, ""),
        ("https://fra1.digitaloceanspaces.com", "virtual", "md5", False, "us-east-1"),
        ("https://s3.us-west-004.backblazeb2.com", "path", "md5", False, "us-west-004"),
        ("https://0123.r2.cloudflarestorage.com", "path", "md5", True, "auto"),
        ("https://0123.eu.r2.cloudflarestorage.com", "path", "md5", True, "auto"),
        ("http://minio:9000", "path", "md5", False, "us-east-1"),
        ("https://notamazonaws.com", "path", "md5", False, "us-east-1"),
    ],
)
def test_guessed_from_the_endpoint(
    endpoint: str | None, addressing: str, checksum: str, conditional: bool, region: str
) -> None:
    profile = profile_of(destination(endpoint=endpoint))
    assert (profile.addressing, profile.checksum, profile.conditional, profile.region) == (
        addressing, checksum, conditional, region,
    )  # fmt: skip


def test_what_is_set_wins() -> None:
    profile = profile_of(
        destination(
            profile="minio", endpoint="http://m:9000", region="eu", addressing="virtual", checksum="md5"
        )
    )
    assert (profile.addressing, profile.checksum, profile.conditional, profile.region) == (
        "virtual",
        "md5",
        True,
        "eu",
    )


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "https://bucket.s3.amazonaws.com/a.dump"),
        (
            {"endpoint": "https://fra1.digitaloceanspaces.com"},
            "https://bucket.fra1.digitaloceanspaces.com/a.dump",
        ),
        ({"endpoint": "http://127.0.0.1:9000"}, "http://127.0.0.1:9000/bucket/a.dump"),
    ],
)
def test_where_requests_go(settings: dict[str, object], host: str) -> None:
    store = S3Store(destination(**settings))
    url = store.bucket.client.generate_presigned_url("get_object", Params=dict(store.bucket.target("a.dump")))
    assert url.partition("?")[0] == host


def test_the_region_is_that_of_the_bucket() -> None:
    assert (
        S3Store(destination(region="eu-west-1")).bucket.place.endpoint == "https://s3.eu-west-1.amazonaws.com"
    )
