"""What went wrong at an S3 endpoint, in our words: which kind of error, one sentence, one hint."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore import exceptions as sdk

from worker.errors import (
    AccessDenied,
    BucketMissing,
    ObjectArchived,
    ObjectExists,
    ObjectMissing,
    StorageError,
    StorageUnavailable,
    UploadGone,
)

_WAIT = "It is tried again by itself; if it lasts, look at the provider's status page."
_DOCTOR = "`pgfleet doctor` tries it again."


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket as messages name it. `endpoint` is a URL without a user."""

    alias: str
    bucket: str
    endpoint: str

    def __str__(self) -> str:
        return f"destination {self.alias} (bucket {self.bucket} at {self.endpoint})"


@dataclass(frozen=True, slots=True)
class _Rule:
    """`says` follows the place: "Destination x (bucket y at z) …"; {key} is the object's name."""

    kind: type[StorageError]
    says: str
    hint: str


_BUSY = _Rule(StorageUnavailable, "is too busy to answer", _WAIT)
_BROKEN = _Rule(StorageUnavailable, "has an internal error", _WAIT)
_GARBLED = _Rule(StorageUnavailable, "received other bytes than were sent for {key}", "They are sent again.")
_NO_RIGHT = _Rule(
    AccessDenied,
    "refuses the access key the right to do this",
    "Give it the right to put, get, list and delete under the prefix (docs: roles and policies).",
)
_CREDENTIALS = _Rule(AccessDenied, "has been given no credentials", "Set S3_ACCESS_KEY and S3_SECRET_KEY.")
_TOKEN = _Rule(AccessDenied, "does not accept the session token any more", "Renew the temporary credentials.")
_REGION = _Rule(
    StorageError,
    "is in another region than the one configured",
    "Set the destination's region to the bucket's.",
)
_NO_OBJECT = _Rule(ObjectMissing, "has no object {key}", "`pgfleet list` shows what is there.")
_NO_UPLOAD = _Rule(UploadGone, "knows no such upload of {key}", "It was completed or aborted before.")
_PARTS = _Rule(
    StorageError,
    "refuses to join the parts of {key}: one is missing, too small or not the one that was uploaded last",
    "Start the backup again; if it repeats, set another checksum mode for this destination.",
)
_RULES = {
    **dict.fromkeys(
        ("SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "Throttling", "ThrottlingException",
         "RequestLimitExceeded", "BandwidthLimitExceeded", "TooManyRequests", "OperationAborted",
         "ConditionalRequestConflict", "RequestTimeout"),
        _BUSY,
    ),
    **dict.fromkeys(("InternalError", "InternalFailure"), _BROKEN),
    **dict.fromkeys(
        ("BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody"), _GARBLED
    ),
    **dict.fromkeys(("AccessDenied", "AllAccessDisabled", "AccountProblem", "403"), _NO_RIGHT),
    **dict.fromkeys(("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), _TOKEN),
    **dict.fromkeys(("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraint"), _REGION),
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "404"), _NO_OBJECT),
    **dict.fromkeys(("InvalidPart", "InvalidPartOrder", "EntityTooSmall"), _PARTS),
    "NoSuchUpload": _NO_UPLOAD,
    "InvalidAccessKeyId": _Rule(
        AccessDenied, "does not know the access key", "Correct S3_ACCESS_KEY (access_key in the settings file)."
    ),
    "SignatureDoesNotMatch": _Rule(
        AccessDenied,
        "does not accept the signature: the secret key is wrong",
        "Correct S3_SECRET_KEY (secret_key in the settings file); look for spaces or a cut-off end.",
    ),
    "RequestTimeTooSkewed": _Rule(AccessDenied, "has another time than this host", "Set this host's clock (NTP)."),
    "NoSuchBucket": _Rule(
        BucketMissing, "does not exist: there is no such bucket", "Correct S3_BUCKET, or create the bucket."
    ),
    "InvalidBucketName": _Rule(BucketMissing, "has a name that no bucket can have", "Correct S3_BUCKET."),
    "PreconditionFailed": _Rule(ObjectExists, "has {key} already", "It is left as it is."),
    "InvalidObjectState": _Rule(ObjectArchived, "keeps {key} in cold storage", "A restore thaws it and waits."),
    "InvalidStorageClass": _Rule(
        StorageError, "has no such storage class", "Set the destination's storage_class to what the provider offers."
    ),
    **dict.fromkeys(
        ("NotImplemented", "MethodNotAllowed"),
        _Rule(StorageError, "does not offer what was asked", "Set the destination's profile to your provider's."),
    ),
    "ObjectLockConfigurationNotFoundError": _Rule(
        StorageError, "has no object lock", "Create a bucket with object lock, or remove object_lock."
    ),
    **dict.fromkeys(
        ("InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "EntityTooLarge"),
        _Rule(StorageError, "takes no more data", "Free some space there or raise the quota."),
    ),
}  # fmt: skip
_STATUS = {403: _NO_RIGHT, 412: _RULES["PreconditionFailed"], 429: _BUSY, 301: _REGION,
           501: _RULES["NotImplemented"], 503: _BUSY, 507: _RULES["InsufficientStorage"]}  # fmt: skip


def explain(error: Exception, place: Place, key: str = "") -> StorageError:
    """The error to raise for one of botocore's. It never holds a secret, nor the request."""
    if isinstance(error, sdk.ClientError):
        return _answered(error, place, key)
    rule = _unanswered(error)
    return _say(rule, place, key)


def code_of(error: Exception) -> str:
    """S3's error code; "" when there was no answer."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, sdk.ClientError) else ""


def trace_of(error: Exception) -> dict[str, str]:
    """What the provider's support asks for."""
    metadata: Any = error.response.get("ResponseMetadata", {}) if isinstance(error, sdk.ClientError) else {}
    return {"code": code_of(error) or type(error).__name__, "request": str(metadata.get("RequestId", ""))}


def _answered(error: sdk.ClientError, place: Place, key: str) -> StorageError:
    code = code_of(error)
    metadata: Any = error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode", 0))
    rule = _RULES.get(code) or _STATUS.get(status) or (_BROKEN if status >= 500 else None)
    if rule is None:
        answer = str(error.response.get("Error", {}).get("Message", "")).partition("\n")[0][:200]
        rule = _Rule(StorageError, f"answers {code or status}: {answer.rstrip('.')}", _DOCTOR)
    return _say(rule, place, key)


def _say(rule: _Rule, place: Place, key: str) -> StorageError:
    where = str(place)
    says = rule.says.replace("{key}", key or "the object")
    return rule.kind(f"{where[0].upper()}{where[1:]} {says}.", rule.hint)


def _unanswered(error: Exception) -> _Rule:
    if isinstance(error, sdk.NoCredentialsError | sdk.PartialCredentialsError | sdk.CredentialRetrievalError):
        return _CREDENTIALS
    if isinstance(error, sdk.SSLError):
        return _Rule(
            StorageUnavailable,
            f"cannot be reached over TLS: {_tls_reason(error)}",
            "Set the destination's ca_bundle to the CA's certificate, or correct the endpoint's name or scheme.",
        )
    if isinstance(error, sdk.ReadTimeoutError):
        return _Rule(
            StorageUnavailable, "did not answer in time", f"{_WAIT} read_timeout sets how long to wait."
        )
    if isinstance(error, sdk.IncompleteReadError | sdk.ResponseStreamingError):
        return _Rule(StorageUnavailable, "broke off in the middle of an answer", _WAIT)
    if isinstance(error, sdk.HTTPClientError | sdk.ConnectionError):
        return _unreachable(error)
    return _Rule(
        StorageError, f"cannot be used: {str(error).partition(chr(10))[0][:200].rstrip('.')}", _DOCTOR
    )


def _unreachable(error: Exception) -> _Rule:
    reasons = list(_chain(error))
    if isinstance(error, sdk.ConnectTimeoutError):
        return _Rule(
            StorageUnavailable, "does not answer: no connection in time",
            f"Check the endpoint and the firewall between here and there; {_DOCTOR}",
        )  # fmt: skip
    if any(isinstance(reason, socket.gaierror) for reason in reasons):
        return _Rule(
            StorageUnavailable, "does not answer: its host name cannot be resolved",
            f"Check the spelling of the endpoint and this host's DNS; {_DOCTOR}",
        )  # fmt: skip
    if any(isinstance(reason, ConnectionRefusedError) for reason in reasons):
        return _Rule(
            StorageUnavailable, "does not answer: connection refused",
            f"Check that the server runs and that the endpoint's port is right; {_DOCTOR}",
        )  # fmt: skip
    return _Rule(
        StorageUnavailable, "does not answer: the connection failed",
        f"Check the endpoint, the network and the proxy; {_DOCTOR}",
    )  # fmt: skip


def _tls_reason(error: Exception) -> str:
    """OpenSSL's verdict on the certificate, or what the innermost error says."""
    reasons = list(_chain(error))
    verdict = next((text for reason in reasons if (text := getattr(reason, "verify_message", ""))), "")
    return str(verdict or reasons[-1]).partition("\n")[0][:200].rstrip(".")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what caused it; the SDK keeps the cause in a keyword, urllib3 in `reason`."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        kept = getattr(error, "kwargs", {}).get("error") if isinstance(error, sdk.BotoCoreError) else None
        inner = (kept, getattr(error, "reason", None), error.__cause__, error.__context__)
        error = next((one for one in inner if isinstance(one, BaseException)), None)
