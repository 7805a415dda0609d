"""Plots as inline SVG, in the page's colours, so that they follow its dark mode; each says what it shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape

from markupsafe import Markup

from worker.core import human

WIDTH, HEIGHT = 460, 176
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 8, 12, 26
_INNER_W, _INNER_H = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
_KIB = 1024.0


@dataclass(frozen=True, slots=True)
class Bar:
    """pieces: (class, value), from the bottom up. title: what a pointer on it, and a screen reader, is told."""

    at: datetime
    pieces: Sequence[tuple[str, float]]
    title: str

    @property
    def value(self) -> float:
        return sum(value for _, value in self.pieces)


@dataclass(frozen=True, slots=True)
class Point:
    at: datetime
    value: float
    title: str
    mark: str = ""  # refuted, could_not_run: another shape, not only another colour


@dataclass(frozen=True, slots=True)
class Plot:
    """desc: the plot in one sentence, for who cannot see it."""

    slug: str
    title: str
    desc: str
    show: Callable[[float], str]
    bars: Sequence[Bar] = ()
    points: Sequence[Point] = ()
    target: float | None = None
    binary: bool = False
    from_zero: bool = True
    legend: Mapping[str, str] = field(default_factory=dict)  # class → label


def svg(plot: Plot) -> Markup:
    """Nothing for a plot without values."""
    shown: list[Bar | Point] = [*plot.bars, *plot.points]
    times, values = [one.at for one in shown], [one.value for one in shown]
    if not times:
        return Markup("")
    ticks = _ticks(max([*values, plot.target or 0.0]), 0.0 if plot.from_zero else min(values), plot)
    low, high = ticks[0], ticks[-1]
    x = _x(times)

    def y(value: float) -> float:
        return _TOP + _INNER_H * (1 - (value - low) / (high - low))

    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="{plot.slug}-t {plot.slug}-d">'
        f'<title id="{plot.slug}-t">{escape(plot.title)}</title><desc id="{plot.slug}-d">{escape(plot.desc)}</desc>'
    ]
    for tick in ticks:
        at = y(tick)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        label = escape(plot.show(tick))
        parts.append(f'<text x="{_LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    parts += _dates([bar.at for bar in plot.bars], _place(plot.bars)) if plot.bars else _dates_of(times, x)
    parts += _bars(plot.bars, y, low)
    if plot.target is not None:
        at = y(plot.target)
        parts.append(f'<path class="target" d="M{_LEFT} {at:.1f}H{WIDTH - _RIGHT}"/>')
        below = at + 15 if at < _TOP + 14 else at - 5
        words = f"target {escape(plot.show(plot.target))}"
        parts.append(
            f'<text class="targeted" x="{WIDTH - _RIGHT}" y="{below:.1f}" text-anchor="end">{words}</text>'
        )
    parts += _points(plot.points, x, y)
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704 - every text in it is escaped


def _x(times: Sequence[datetime]) -> Callable[[datetime], float]:
    first, last = min(times).timestamp(), max(times).timestamp()
    span = last - first
    margin = 10

    def place(at: datetime) -> float:
        share = (at.timestamp() - first) / span if span else 0.5
        return _LEFT + margin + (_INNER_W - 2 * margin) * share

    return place


def _place(bars: Sequence[Bar]) -> Callable[[int], float]:
    """Bars stand side by side: retention thins them out, and on an axis of time the young ones would be slivers."""
    return lambda number: _LEFT + _INNER_W * (number + 0.5) / len(bars)


def _dates(times: Sequence[datetime], x: Callable[[int], float]) -> list[str]:
    """Below the first, the last and some between."""
    last = len(times) - 1
    chosen = sorted({round(last * share) for share in ((0, 1 / 3, 2 / 3, 1) if last > 5 else (0, 1))})
    return [
        _date(times[number], x(number), number == 0 and last > 5, number == last > 5, "%d %b")
        for number in chosen
    ]


def _dates_of(times: Sequence[datetime], x: Callable[[datetime], float]) -> list[str]:
    first, last = min(times), max(times)
    count = 1 if first == last else 4 if (last - first).days >= 4 else 2
    form = "%d %b" if (last - first).days >= 1 else "%H:%M"
    found = []
    for number in range(count):
        at = first + (last - first) * (number / max(1, count - 1))
        found.append(_date(at, x(at), number == 0 and count > 1, number == count - 1 > 0, form))
    return found


def _date(at: datetime, x: float, first: bool, last: bool, form: str) -> str:
    anchor = "start" if first else "end" if last else "middle"
    x += -10 if first else 10 if last else 0
    text = f"{at.astimezone(UTC):{form}}".lstrip("0")
    return f'<text x="{x:.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{text}</text>'


def _bars(bars: Sequence[Bar], y: Callable[[float], float], low: float) -> list[str]:
    place, width = _place(bars), min(22.0, _INNER_W / max(1, len(bars)) * 0.74)
    found = []
    for number, bar in enumerate(bars):
        floor = low
        found.append(f"<g><title>{escape(bar.title)}</title>")
        for kind, value in bar.pieces:
            top, height = y(floor + value), y(floor) - y(floor + value)
            left = place(number) - width / 2
            rect = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{max(0.0, height):.1f}"'
            found.append(f'<rect class="{kind}" {rect}/>')
            floor += value
        found.append("</g>")
    return found


def _points(
    points: Sequence[Point], x: Callable[[datetime], float], y: Callable[[float], float]
) -> list[str]:
    if not points:
        return []
    line = " ".join(f"{x(point.at):.1f},{y(point.value):.1f}" for point in points)
    found = [f'<polyline class="line" points="{line}"/>'] if len(points) > 1 else []
    for point in points:
        at, high = x(point.at), y(point.value)
        title = f"<title>{escape(point.title)}</title>"
        if point.mark:
            cross = f"M{at - 5:.1f} {high - 5:.1f}l10 10m0 -10l-10 10"
            found.append(f'<path class="cross {point.mark}" d="{cross}">{title}</path>')
        else:
            radius = 4 if len(points) < 40 else 2
            found.append(f'<circle class="dot" cx="{at:.1f}" cy="{high:.1f}" r="{radius}">{title}</circle>')
    return found


def _ticks(high: float, low: float, plot: Plot) -> list[float]:
    """Three to five round values, in powers of 1024 for bytes, that hold all values."""
    unit = 1.0
    if plot.binary:
        while high / unit >= _KIB:
            unit *= _KIB
    elif plot.show is human.duration:
        unit = 3600.0 if high >= 7200 else 60.0 if high >= 120 else 1.0
    top = high / unit or 1.0
    bottom = low / unit
    step = _nice((top - bottom or top) / 3.2)
    first = math.floor(bottom / step)
    last = max(first + 1, math.ceil(top / step - 1e-9))
    return [number * step * unit for number in range(first, last + 1)]


def _nice(rough: float) -> float:
    """The next 1, 2, 2.5 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
