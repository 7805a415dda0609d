"""A byte range of a file behaves like a small file."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from worker.storage.slice import FileSlice


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    path = tmp_path / "digits"
    path.write_bytes(b"0123456789")
    return path


@pytest.mark.parametrize(
    ("offset", "length", "expected"),
    [(0, 10, b"0123456789"), (3, 4, b"3456"), (8, 100, b"89"), (10, 1, b""), (50, 1, b""), (4, 0, b"")],
)
def test_content(digits: Path, offset: int, length: int, expected: bytes) -> None:
    with FileSlice(digits, offset, length) as piece:
        assert piece.read() == expected
        assert piece.read() == b""
        assert piece.seek(0, os.SEEK_END) == len(expected)


def test_seeking(digits: Path) -> None:
    with FileSlice(digits, 2, 6) as piece:
        assert piece.read(2) == b"23"
        assert piece.tell() == 2
        assert piece.seek(-1, os.SEEK_END) == 5
        assert piece.read() == b"7"
        assert piece.seek(1) == 1
        assert piece.seek(1, os.SEEK_CUR) == 2
        assert piece.read(1) == b"4"
        with pytest.raises(ValueError, match="before the start"):
            piece.seek(-99, os.SEEK_CUR)


def test_it_cannot_be_written(digits: Path) -> None:
    with FileSlice(digits, 0, 5) as piece:
        assert not piece.writable()
        with pytest.raises(io.UnsupportedOperation):
            piece.write(b"x")


def test_closing(digits: Path) -> None:
    piece = FileSlice(digits, 0, 5)
    piece.close()
    piece.close()
    with pytest.raises(ValueError, match="closed"):
        piece.read()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSlice(tmp_path / "missing", 0, 5)
