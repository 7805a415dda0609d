"""What is sent and what comes back: the right number of bytes, with a checksum, as a stream."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from typing import TYPE_CHECKING, BinaryIO

from botocore.exceptions import BotoCoreError

from worker.errors import StorageError, StorageUnavailable
from worker.storage.failures import Place, explain
from worker.storage.profiles import Checksum
from worker.storage.slice import BUFFER

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from botocore.response import StreamingBody


def as_stream(body: bytes | BinaryIO, size: int, key: str) -> BinaryIO:
    """`body` from its position on. Raises StorageError when that is not `size` bytes."""
    stream = io.BytesIO(body) if isinstance(body, bytes) else body
    start = stream.tell()
    found = stream.seek(0, os.SEEK_END) - start
    stream.seek(start)
    if found != size:
        raise StorageError(
            f"{key} cannot be sent: {found} bytes are there, and it should be {size}.",
            "The spool has changed under it; the run will make the file again.",
        )
    return stream


def wrong_bytes(key: str, store: str) -> StorageUnavailable:
    """Retried, as a store's own refusal is: what was read wrongly may be read rightly."""
    return StorageUnavailable(
        f"The bytes of {key} for {store} do not have their SHA-256.", "They are read again."
    )


def checksum_headers(stream: BinaryIO, sha256: str, mode: Checksum, key: str, store: str) -> dict[str, str]:
    """The arguments that make the store check the body.

    MD5 has to be computed first, so in that mode the stream is read once more; the SHA-256 is checked on the
    way. Raises StorageUnavailable when it is another one.
    """
    if mode == "none":
        return {}
    if mode == "sha256":
        return {"ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode()}
    start = stream.tell()
    md5, own = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    while block := stream.read(BUFFER):
        md5.update(block)
        own.update(block)
    stream.seek(start)
    if own.hexdigest() != sha256:
        raise wrong_bytes(key, store)
    return {"ContentMD5": base64.b64encode(md5.digest()).decode()}


class Download(io.RawIOBase):
    """The body of an answer. A connection that breaks off raises StorageUnavailable, never a short read."""

    def __init__(self, body: StreamingBody, place: Place, key: str) -> None:
        super().__init__()
        self._body = body
        self._place = place
        self._key = key

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        try:
            block = self._body.read(len(view))
        except BotoCoreError as error:
            raise explain(error, self._place, self._key) from None
        view[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._body.close()
        super().close()
