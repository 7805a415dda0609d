"""Pictures as inline SVG: they take their colours from the page, and so follow its dark mode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from worker.core import human
from worker.core.drill import Phase

_WIDTH = 860
_LABEL = 120
_ROW = 26
_TREND_HEIGHT = 200


class Past(NamedTuple):
    """An earlier drill, for the trend. at: as it is shown below its point."""

    at: str
    seconds: float
    verdict: str


def timeline(phases: Sequence[Phase], rto_seconds: float) -> str:
    """A bar a phase over the seconds since the drill began, and the moment when the database was back (0: never)."""
    if not phases:
        return ""
    end = max(phase.began + phase.seconds for phase in phases) or 1.0
    step = _nice(end / 6)
    scale = (_WIDTH - _LABEL - 70) / end
    bottom = _ROW * len(phases) + 8
    parts = [_svg(_WIDTH, bottom + 40, "Timeline of the drill: seconds from its begin to each phase's end")]
    for tick in range(int(end / step) + 1):
        x = _LABEL + tick * step * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="4" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{_seconds(tick * step)}</text>'
        )
    for row, phase in enumerate(phases):
        y, x = 6 + row * _ROW, _LABEL + phase.began * scale
        width = max(2.0, phase.seconds * scale)
        kind = "recovery" if phase.recovery else "proof"
        parts.append(
            f'<text class="name" x="{_LABEL - 10}" y="{y + 14}" text-anchor="end">{escape(phase.name)}</text>'
        )
        parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="{_ROW - 8}" rx="3">'
            f"<title>{escape(phase.name)}: {human.duration(phase.seconds)}</title></rect>"
        )
        parts.append(
            f'<text class="value" x="{x + width + 6:.1f}" y="{y + 14}">{human.duration(phase.seconds)}</text>'
        )
    if not rto_seconds:
        return "".join([*parts, "</svg>"])
    begin = min((phase.began for phase in phases if phase.recovery), default=0.0)
    x = _LABEL + (begin + rto_seconds) * scale
    parts.append(f'<line class="mark" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{bottom}"/>')
    anchor = "end" if x > _WIDTH * 0.6 else "start"
    offset = -6 if anchor == "end" else 6
    parts.append(
        f'<text class="marked" x="{x + offset:.1f}" y="{bottom + 33}" text-anchor="{anchor}">'
        f"database back after {human.duration(rto_seconds)}</text>"
    )
    return "".join([*parts, "</svg>"])


def trend(past: Sequence[Past], target_seconds: float) -> str:
    """The recovery time of each drill, oldest first, and the target as a line. Logarithmic where that tells more."""
    if not past:
        return ""
    low = min([*(one.seconds for one in past), target_seconds])
    high = max([*(one.seconds for one in past), target_seconds])
    wide = low > 0 and high / low > 20
    top, bottom, left, right = 18, _TREND_HEIGHT - 30, 70, _WIDTH - 20

    def y(seconds: float) -> float:
        if wide:
            floor = math.log10(max(low, 0.1)) - 0.1
            share = (math.log10(max(seconds, 0.1)) - floor) / (math.log10(high) + 0.05 - floor)
        else:
            share = seconds / (high * 1.1)
        return bottom - share * (bottom - top)

    def x(number: int) -> float:
        return (
            left + 40 + number * (right - left - 80) / max(1, len(past) - 1)
            if len(past) > 1
            else (left + right) / 2
        )

    parts = [_svg(_WIDTH, _TREND_HEIGHT, "Recovery time of each drill, against the target")]
    parts.append(f'<line class="axis" x1="{left}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    line, allowed = y(target_seconds), human.duration(target_seconds)
    parts.append(f'<line class="target" x1="{left}" y1="{line:.1f}" x2="{right}" y2="{line:.1f}"/>')
    parts.append(f'<text class="tick" x="{left - 8}" y="{line + 4:.1f}" text-anchor="end">target</text>')
    parts.append(f'<text class="tick" x="{right}" y="{line - 6:.1f}" text-anchor="end">{allowed}</text>')
    points = " ".join(f"{x(number):.1f},{y(one.seconds):.1f}" for number, one in enumerate(past))
    parts.append(f'<polyline class="line" points="{points}"/>')
    every = max(1, math.ceil(len(past) / 8))
    for number, one in enumerate(past):
        shown = (len(past) - 1 - number) % every == 0
        parts.append(
            f'<circle class="{escape(one.verdict)}" cx="{x(number):.1f}" cy="{y(one.seconds):.1f}" r="5">'
            f"<title>{escape(one.at)}: {human.duration(one.seconds)}, {escape(one.verdict)}</title></circle>"
        )
        if shown:
            parts.append(
                f'<text class="value" x="{x(number):.1f}" y="{y(one.seconds) - 11:.1f}" text-anchor="middle">'
                f"{human.duration(one.seconds)}</text>"
                f'<text class="tick" x="{x(number):.1f}" y="{bottom + 18}" text-anchor="middle">{escape(one.at)}</text>'
            )
    return "".join([*parts, "</svg>"])


def _svg(width: int, height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'


def _nice(rough: float) -> float:
    """The next 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _seconds(value: float) -> str:
    return human.duration(value) if value >= 60 else f"{value:g} s"
