from __future__ import annotations

import pytest

from worker.core import human


@pytest.mark.parametrize(
    ("bytes_", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (64 * 1024**2, "64.0 MiB"),
        (1023.9 * 1024**3, "1023.9 GiB"),
        (5 * 1024**4, "5.0 TiB"),
        (3 * 1024**6, "3.0 EiB"),
        (4096 * 1024**6, "4096.0 EiB"),
        (-1536, "-1.5 KiB"),
    ],
)
def test_size(bytes_: float, text: str) -> None:
    assert human.size(bytes_) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (95, "1 min 35 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h"),
        (3720, "1 h 2 min"),
        (86399, "1 d"),
        (90000, "1 d 1 h"),
        (-95, "-1 min 35 s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert human.duration(seconds) == text


def test_rate() -> None:
    assert human.rate(123 * 1024**2, 10) == "12.3 MiB/s"
    assert human.rate(0, 3) == "0 B/s"
    assert human.rate(100, 0) == "n/a"
