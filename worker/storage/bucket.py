"""One bucket as one destination sees it: the client, the prefix, and errors in our words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypedDict

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from worker.config.model import Destination
from worker.errors import ConfigError
from worker.storage.failures import Place, explain, trace_of
from worker.storage.names import check_name
from worker.storage.profiles import Profile, profile_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = logging.getLogger("pgfleet.storage")

_CONNECTIONS = 16  # more than the threads that one process uses at once


class Target(TypedDict):
    Bucket: str
    Key: str


class Bucket:
    """`prefix` is empty or ends in a slash. Raises ConfigError, StorageError."""

    def __init__(self, destination: Destination) -> None:
        self.name = destination.bucket or ""
        self.prefix = f"{folder}/" if (folder := destination.prefix.strip("/")) else ""
        self.profile = profile_of(destination)
        self.client = _connect(destination, self.profile)
        self.place = Place(destination.alias, self.name, self.client.meta.endpoint_url)

    def target(self, key: str) -> Target:
        """The arguments that name an object. Raises StorageError for a name that none of ours has."""
        return {"Bucket": self.name, "Key": self.prefix + check_name(key)}

    @contextmanager
    def watch(self, key: str = "") -> Iterator[None]:
        """Raise our kinds of errors for the SDK's, for what is done to `key`."""
        try:
            yield
        except (BotoCoreError, ClientError) as error:
            log.debug(
                "failed",
                extra={
                    "action": "storage.failed",
                    "destination": self.place.alias,
                    "object": key,
                    **trace_of(error),
                },
            )
            # The SDK's error holds the request, so it is not chained.
            raise explain(error, self.place, key) from None

    def pages(self, operation: str, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Every page of a listing, fetched as needed."""
        paginator: Any = self.client.get_paginator(operation)  # type: ignore[call-overload]
        pages = iter(paginator.paginate(Bucket=self.name, **arguments))
        while True:
            with self.watch():
                page = next(pages, None)
            if page is None:
                return
            yield page


def _connect(destination: Destination, profile: Profile) -> S3Client:
    if not destination.bucket:
        raise ConfigError(
            f"Destination {destination.alias} has no bucket.", "Set S3_BUCKET (bucket in the settings file)."
        )
    if destination.ca_bundle is not None and not destination.ca_bundle.is_file():
        raise ConfigError(
            f"The ca_bundle of destination {destination.alias} is not there: {destination.ca_bundle}.",
            "Correct the path, or remove the setting to use the system's certificates.",
        )
    secret = destination.secret_key.get_secret_value() if destination.secret_key else None
    place = Place(destination.alias, destination.bucket, destination.endpoint or "Amazon S3")
    try:
        session = boto3.session.Session(
            aws_access_key_id=destination.access_key,
            aws_secret_access_key=secret,
            region_name=profile.region or None,
        )
        return session.client(
            "s3",
            region_name=session.region_name or "us-east-1",
            endpoint_url=destination.endpoint,
            verify=str(destination.ca_bundle) if destination.ca_bundle else None,
            config=_config(destination, profile),
        )
    except BotoCoreError as error:
        raise explain(error, place) from None
    except ValueError as error:
        raise ConfigError(
            f"Destination {destination.alias} cannot be used: {error}.", "Correct its endpoint."
        ) from None


def _config(destination: Destination, profile: Profile) -> Config:
    return Config(
        connect_timeout=destination.connect_timeout,
        read_timeout=destination.read_timeout,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        retries={"mode": "adaptive", "total_max_attempts": destination.max_attempts},
        # The SDK's own CRC trailers break many S3s; every put has an explicit checksum instead.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={
            "addressing_style": profile.addressing,
            "payload_signing_enabled": _sign_bodies(destination, profile),
        },
        user_agent_extra="pgfleet",
    )


def _sign_bodies(destination: Destination, profile: Profile) -> bool:
    """Signing reads a body once more. A signed SHA-256 header binds it as well, and so does TLS with a checksum."""
    plain = (destination.endpoint or "").startswith("http:")
    return profile.checksum == "none" or (plain and profile.checksum == "md5")
