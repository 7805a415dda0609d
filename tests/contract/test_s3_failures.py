"""Each way a bucket can fail: the kind of error, one sentence that names the place, one hint, no secret."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.contract.conftest import put, s3_destination
from tests.services import Bucket
from worker.errors import AccessDenied, BucketMissing, ConfigError, StorageError, StorageUnavailable
from worker.storage.s3 import S3Store

SECRET = "a-very-secret-key"


def failure(there: Bucket, work: Callable[[S3Store], object], /, **settings: object) -> StorageError:
    destination = s3_destination(there, **{"connect_timeout": 2, "read_timeout": 2, **settings})
    with pytest.raises(StorageError) as raised:
        work(S3Store(destination))
    error = raised.value
    assert error.message.startswith(
        f"Destination bucket (bucket {destination.bucket} at {destination.endpoint}) "
    )
    assert error.message.endswith(".")
    assert error.hint
    assert "\n" not in str(error)
    assert SECRET not in repr(error) + repr(error.__cause__)
    assert error.__cause__ is None
    return error


def listing(store: S3Store) -> object:
    return list(store.list())


def test_connection_refused(bucket: Bucket) -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = failure(bucket, listing, endpoint=f"http://127.0.0.1:{port}")
    assert type(error) is StorageUnavailable
    assert error.retryable
    assert error.message == (
        f"Destination bucket (bucket {bucket.name} at http://127.0.0.1:{port}) does not answer: connection refused."
    )
    assert "server runs" in error.hint


def test_unknown_host(bucket: Bucket) -> None:
    error = failure(bucket, listing, endpoint="http://s3.nowhere.invalid")
    assert type(error) is StorageUnavailable
    assert "its host name cannot be resolved" in error.message


def test_no_tls_there(bucket: Bucket) -> None:
    error = failure(bucket, listing, endpoint=bucket.server.endpoint.replace("http:", "https:"))
    assert type(error) is StorageUnavailable
    assert "over TLS" in error.message
    assert "ca_bundle" in error.hint


def test_wrong_bucket(bucket: Bucket) -> None:
    for work in (listing, lambda store: put(store, "a", b"x"), lambda store: store.begin("a")):
        error = failure(bucket, work, bucket="not-there-at-all")
        assert type(error) is BucketMissing
        assert "no such bucket" in error.message


def test_wrong_access_key(bucket: Bucket) -> None:
    error = failure(bucket, listing, access_key="NOBODY")
    assert type(error) is AccessDenied
    assert "does not know the access key" in error.message
    assert "S3_ACCESS_KEY" in error.hint


def test_wrong_secret_key(bucket: Bucket) -> None:
    for work in (listing, lambda store: put(store, "a", b"x"), lambda store: store.stat("a")):
        error = failure(bucket, work, secret_key=SECRET)
        assert type(error) is AccessDenied


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    error = failure(bucket, listing, access_key=None, secret_key=None)
    assert type(error) is AccessDenied
    assert "no credentials" in error.message


def test_no_bucket_configured(bucket: Bucket) -> None:
    with pytest.raises(ConfigError, match="has no bucket"):
        S3Store(s3_destination(bucket, bucket=None))


def test_object_lock_without_checksums(bucket: Bucket) -> None:
    with pytest.raises(ConfigError, match="needs a checksum"):
        S3Store(s3_destination(bucket, checksum="none", object_lock="governance", object_lock_days=1))


class Canned(ThreadingHTTPServer):
    """Answers every request with the same bytes after reading it, then closes the connection."""

    daemon_threads = True

    def __init__(self, answer: bytes) -> None:
        class Handler(BaseHTTPRequestHandler):
            def handle_one_request(self) -> None:
                if self.rfile.readline():
                    self.server.requests += 1  # type: ignore[attr-defined]
                    while self.rfile.readline().strip():
                        pass
                    self.wfile.write(answer)
                    if not answer:
                        self.server.silent.wait(20)  # type: ignore[attr-defined]
                self.close_connection = True

        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = 0
        self.silent = threading.Event()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        self.silent.set()
        self.shutdown()
        self.thread.join()
        self.server_close()


@pytest.fixture
def canned() -> Iterator[Callable[[bytes], Canned]]:
    servers: list[Canned] = []

    def start(answer: bytes) -> Canned:
        servers.append(Canned(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def answer(status: str, code: str, message: str = "Please wait.") -> bytes:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        ("503 Slow Down", "SlowDown", StorageUnavailable, "is too busy"),
        ("400 Bad Request", "ThrottlingException", StorageUnavailable, "is too busy"),
        ("429 Too Many Requests", "Strange", StorageUnavailable, "is too busy"),
        ("500 Internal Server Error", "InternalError", StorageUnavailable, "has an internal error"),
        ("502 Bad Gateway", "Strange", StorageUnavailable, "has an internal error"),
        ("400 Bad Request", "BadDigest", StorageUnavailable, "received other bytes"),
        ("403 Forbidden", "AccessDenied", AccessDenied, "refuses the access key"),
        ("403 Forbidden", "RequestTimeTooSkewed", AccessDenied, "has another time"),
        ("400 Bad Request", "ExpiredToken", AccessDenied, "session token"),
        ("400 Bad Request", "AuthorizationHeaderMalformed", StorageError, "another region"),
        ("507 Insufficient Storage", "XMinioStorageFull", StorageError, "takes no more data"),
        ("501 Not Implemented", "NotImplemented", StorageError, "does not offer"),
        ("418 Teapot", "Brewing", StorageError, "answers Brewing: Please wait."),
    ],
)
def test_answers(
    canned: Callable[[bytes], Canned],
    bucket: Bucket,
    status: str,
    code: str,
    kind: type[StorageError],
    says: str,
) -> None:
    error = failure(bucket, lambda store: put(store, "a", b"x"), endpoint=canned(answer(status, code)).url)
    assert type(error) is kind
    assert says in error.message


def test_requests_are_tried_again(canned: Callable[[bytes], Canned], bucket: Bucket) -> None:
    server = canned(answer("503 Slow Down", "SlowDown"))
    failure(bucket, listing, endpoint=server.url, max_attempts=2)
    assert server.requests == 2


def test_no_answer(canned: Callable[[bytes], Canned], bucket: Bucket) -> None:
    error = failure(bucket, listing, endpoint=canned(b"").url, read_timeout=1)
    assert type(error) is StorageUnavailable
    assert "did not answer in time" in error.message


def test_an_answer_that_breaks_off_is_never_a_short_read(
    canned: Callable[[bytes], Canned], bucket: Bucket
) -> None:
    server = canned(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 10)

    def read(store: S3Store) -> None:
        with store.read("a") as stream:
            while stream.read(7):
                pass

    error = failure(bucket, read, endpoint=server.url)
    assert type(error) is StorageUnavailable
    assert "broke off" in error.message
