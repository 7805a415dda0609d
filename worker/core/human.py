"""Sizes, durations and rates as people read them."""

from __future__ import annotations

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size(bytes_: float) -> str:
    """``size(1536)`` is ``"1.5 KiB"``; below 1 KiB whole bytes."""
    if abs(bytes_) < 1024:
        return f"{bytes_:.0f} B"
    value = float(bytes_)
    for unit in _UNITS:
        value /= 1024
        if abs(value) < 1023.95 or unit == _UNITS[-1]:  # 1023.95 would print as 1024.0
            break
    return f"{value:.1f} {unit}"


def count(number: int, noun: str) -> str:
    """``count(1, "table")`` is ``"1 table"``, ``count(20000, "row")`` is ``"20,000 rows"``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """One or two leading units: ``duration(95)`` is ``"1 min 35 s"``; below 10 s one decimal."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole // 60, "min", whole % 60, "s")
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return _two(minutes // 60, "h", minutes % 60, "min")
    hours = round(seconds / 3600)
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, smaller: str) -> str:
    return f"{large} {unit} {small} {smaller}" if small else f"{large} {unit}"


def rate(bytes_: float, seconds: float) -> str:
    """``rate(bytes, seconds)`` is ``"12.3 MiB/s"``; ``"n/a"`` when no time has passed."""
    return f"{size(bytes_ / seconds)}/s" if seconds > 0 else "n/a"
