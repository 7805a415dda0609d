"""A byte range of a file as a stream of its own: how parts are sent without being loaded."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER = 1024 * 1024


class FileSlice(io.BufferedReader):
    """`length` bytes of `path` from `offset`: read-only, seekable from 0, closed like a file.

    Shorter when the file ends before; the file's size is asked for once. Memory: one buffer of 1 MiB.
    Raises OSError.
    """

    def __init__(self, path: Path, offset: int, length: int) -> None:
        super().__init__(Range(path, offset, length), BUFFER)


class Range(io.RawIOBase):
    """The unbuffered side of FileSlice."""

    def __init__(self, path: Path, offset: int, length: int) -> None:
        super().__init__()
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._offset = offset
        self._length = max(0, min(length, os.fstat(self._descriptor).st_size - offset))
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        if start + offset < 0:
            raise ValueError("a position before the start of the range")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        with memoryview(buffer).cast("B") as view:
            wanted = max(0, min(len(view), self._length - self._position))
            count = (
                os.preadv(self._descriptor, [view[:wanted]], self._offset + self._position) if wanted else 0
            )
        self._position += count
        return count

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()
