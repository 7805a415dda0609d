"""What each S3 vendor needs.

Where the facts come from:
- aws: S3 user guide, "Conditional writes", "Checking object integrity". An upload that was opened without a
  checksum algorithm refuses parts that carry one, so it is declared.
- r2: developers.cloudflare.com/r2/api/s3: PutObject is conditional; UploadPart answers 501 to x-amz-checksum-sha256
  and checks Content-MD5. It has neither versioning nor object lock.
- b2: answers 400 to x-amz-checksum-* ("Unsupported header") and 501 to a conditional put; object lock needs
  Content-MD5. Every bucket is versioned.
- spaces: a Ceph gateway; its reference documents If-None-Match for reading only, and no x-amz-checksum-*.
- minio: checks both, enforces If-None-Match.
- seaweedfs (4.48, tried): checks both on parts and objects; If-None-Match is atomic (one winner of 8, 30 times);
  ListParts gives no checksums, but an upload that declared an algorithm is only completed with all of them,
  so it is not declared: parts are checked all the same.
- generic: what every S3 since 2006 has. Content-MD5 is checked by all, conditional puts by few.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import urlsplit

from worker.config.model import Destination
from worker.errors import ConfigError

Checksum = Literal["sha256", "md5", "none"]


@dataclass(frozen=True, slots=True)
class Profile:
    """addressing: bucket in the path or in the host name; auto is botocore's choice.

    checksum: what the store is asked to check on every object and part.
    declared: multipart uploads name the checksum algorithm when they are opened (checksum sha256 only).
    conditional: If-None-Match: * on a put is enforced, atomically. Elsewhere a put "if absent" looks first and
    then puts: two writers at the same instant may both win.
    region: what requests are signed for when none is configured; "" leaves it to the AWS chain.
    """

    addressing: Literal["auto", "path", "virtual"] = "path"
    checksum: Checksum = "md5"
    declared: bool = True
    conditional: bool = False
    region: str = "us-east-1"


_PROFILES = {
    "aws": Profile(addressing="auto", checksum="sha256", conditional=True, region=""),
    "spaces": Profile(addressing="virtual"),
    "b2": Profile(),
    "r2": Profile(conditional=True, region="auto"),
    "minio": Profile(checksum="sha256", conditional=True),
    "seaweedfs": Profile(checksum="sha256", declared=False, conditional=True),
    "generic": Profile(),
}
_HOSTS = {
    "amazonaws.com": "aws",
    "amazonaws.com.cn": "aws",
    "digitaloceanspaces.com": "spaces",
    "backblazeb2.com": "b2",
    "r2.cloudflarestorage.com": "r2",
}


def profile_of(destination: Destination) -> Profile:
    """The vendor's profile with what the destination sets itself. Raises ConfigError for what cannot go together."""
    vendor = _vendor(destination)
    profile = _PROFILES[vendor]
    if vendor == "b2" and (region := _b2_region(destination.endpoint)):
        profile = replace(profile, region=region)
    if destination.region:
        profile = replace(profile, region=destination.region)
    if destination.addressing != "auto":
        profile = replace(profile, addressing=destination.addressing)
    if destination.checksum != "auto":
        profile = replace(profile, checksum=destination.checksum)
    if destination.object_lock and profile.checksum == "none":
        raise ConfigError(
            f"Destination {destination.alias} has object_lock, which needs a checksum, and checksum = 'none'.",
            "Remove the checksum setting, or set it to sha256 or md5.",
        )
    return profile


def _vendor(destination: Destination) -> str:
    if destination.profile != "auto":
        return destination.profile
    if destination.endpoint is None:
        return "aws"
    host = _host(destination.endpoint)
    return next(
        (vendor for end, vendor in _HOSTS.items() if host == end or host.endswith(f".{end}")), "generic"
    )


def _host(endpoint: str) -> str:
    return urlsplit(endpoint).hostname or ""


def _b2_region(endpoint: str | None) -> str:
    """``https://s3.us-west-004.backblazeb2.com`` says it."""
    labels = _host(endpoint or "").split(".")
    return labels[1] if len(labels) == 4 and labels[0] == "s3" else ""
