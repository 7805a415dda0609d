"""A run over its workers: who did which step when, as a picture with a row for each process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from markupsafe import Markup

from worker.core import human
from worker.ledger.model import Step
from worker.web.flow import stage_of

_WIDTH, _LABEL, _RIGHT, _ROW, _TOP = 960, 150, 12, 22, 24
_LANES = 40
_COLOURS = 8
_STRIPED = " striped"  # the colours a second time, over which nobody mistakes one for the other
_PATTERN = (
    '<pattern id="stripes" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<rect class="stripe" width="2.5" height="6"/></pattern>'
)
_TICKS = 6
_FIRST = ("dump", "encrypt", "upload", "verify")
_NICE = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400)


@dataclass(frozen=True, slots=True)
class Picture:
    """kinds: (classes, name of the step) for the legend. left_out: steps in processes beyond those that are shown."""

    svg: Markup
    kinds: list[tuple[str, str]]
    processes: int
    left_out: int


@dataclass(frozen=True, slots=True)
class _Bar:
    step: Step
    began: float
    ended: float


def workers(steps: Iterable[Step]) -> dict[str, str]:
    """Owner → a name that people can tell apart: ``A · 4711``, the machine and the process."""
    machines: dict[str, str] = {}
    found: dict[str, str] = {}
    for step in sorted(steps, key=lambda step: step.started_at or 0.0):
        if step.owner and step.owner not in found:
            boot, namespace, pid = [*step.owner.split("/"), "", "", ""][:3]
            machine = machines.setdefault(f"{boot}/{namespace}", chr(ord("A") + len(machines) % 26))
            found[step.owner] = f"{machine} · {pid}" if pid else step.owner[:16]
    return found


def picture(steps: Sequence[Step], now: float, end: float | None = None) -> Picture | None:
    """None while nothing has begun. What is tidied up after the run's `end`, maybe much later, is not in it."""
    bars = [
        _Bar(step, step.started_at, max(step.started_at, step.ended_at or now))
        for step in steps
        if step.started_at is not None and step.owner and (step.ended_at or step.state == "running")
        if end is None or step.started_at < end
    ]
    if not bars:
        return None
    names = workers(steps)
    start = min(bar.began for bar in bars)
    span = max(max(bar.ended for bar in bars) - start, 0.001)
    kinds = _kinds(dict.fromkeys(stage_of(bar.step.name) for bar in bars))
    lanes = _lanes(bars, names)
    shown, rest = lanes[:_LANES], lanes[_LANES:]
    scale = (_WIDTH - _LABEL - _RIGHT) / span
    height = _TOP + _ROW * len(shown) + 6
    processes = len({owner for owner, _ in lanes})
    hands = f"{processes} process{'es' if processes != 1 else ''}"
    said = f"{human.count(len(bars), 'step')} by {hands} in {human.duration(span)}"
    parts = [
        f'<svg class="gantt" viewBox="0 0 {_WIDTH} {height}" role="img" aria-labelledby="gantt-t gantt-d">'
        '<title id="gantt-t">Timeline over workers</title>'
        f'<desc id="gantt-d">{said}; the table has the same.</desc>',
        _PATTERN,
        *_scale(span, scale, height),
    ]
    seen = ""
    for row, (owner, own) in enumerate(shown):
        y = _TOP + row * _ROW
        if owner != seen:
            parts.append(f'<path class="row" d="M0 {y - 1}H{_WIDTH}"/>')
            parts.append(f'<text class="who" x="4" y="{y + 14}">{escape(names.get(owner, owner))}</text>')
            seen = owner
        parts += [_bar(bar, kinds, y, start, scale) for bar in own]
    left_out = sum(len(own) for _, own in rest)
    legend = [(kind, name) for name, kind in kinds.items()]
    return Picture(Markup("".join([*parts, "</svg>"])), legend, processes, left_out)  # noqa: S704 - escaped


def _kinds(stages: Iterable[str]) -> dict[str, str]:
    """Stage → classes of its looks: a backup's as in the plots, others as they come."""
    found = list(stages)
    order = [
        *(stage for stage in _FIRST if stage in found),
        *(stage for stage in found if stage not in _FIRST),
    ]
    if "dump" in found:
        order = [*_FIRST, *order[sum(stage in found for stage in _FIRST) :]]
    looks = [f"k{number}{striped}" for striped in ("", _STRIPED) for number in range(_COLOURS)]
    return {stage: looks[order.index(stage) % len(looks)] for stage in found}


def _lanes(bars: Sequence[_Bar], names: Mapping[str, str]) -> list[tuple[str, list[_Bar]]]:
    """(owner, bars that do not overlap), in the order of the names."""
    found: list[tuple[str, list[_Bar]]] = []
    owners = sorted({str(bar.step.owner) for bar in bars}, key=lambda owner: names.get(owner, owner))
    for owner in owners:
        lanes: list[list[_Bar]] = []
        for bar in sorted((bar for bar in bars if bar.step.owner == owner), key=lambda bar: bar.began):
            free = next((lane for lane in lanes if lane[-1].ended <= bar.began + 0.001), None)
            if free is None:
                lanes.append([bar])
            else:
                free.append(bar)
        found += [(owner, lane) for lane in lanes]
    return found


def _scale(span: float, scale: float, height: int) -> list[str]:
    step: float = next((nice for nice in _NICE if span / nice <= _TICKS), _NICE[-1])
    if span < 1:
        step = span
    found = []
    for number in range(int(span / step) + 1):
        x = _LABEL + number * step * scale
        found.append(f'<path class="grid" d="M{x:.1f} {_TOP - 4}V{height}"/>')
        at = human.duration(number * step) if number else "0"
        anchor = "end" if x > _WIDTH - 40 else "middle"
        found.append(f'<text x="{x:.1f}" y="{_TOP - 10}" text-anchor="{anchor}">{at}</text>')
    return found


def _bar(bar: _Bar, kinds: Mapping[str, str], y: int, start: float, scale: float) -> str:
    step = bar.step
    x, width = _LABEL + (bar.began - start) * scale, max(2.0, (bar.ended - bar.began) * scale)
    told = f"{step.name} {step.key}".strip()
    tries = f", {step.attempts} attempts" if step.attempts > 1 else ""
    title = f"{told}: {step.state}, {human.duration(bar.ended - bar.began)}{tries}"
    state = " failed" if step.state == "failed" else " gone" if step.state in ("void", "skipped") else ""
    kind = kinds[stage_of(step.name)]
    shape = f'x="{x:.1f}" y="{y + 2}" width="{width:.1f}" height="{_ROW - 5}" rx="2"/>'
    drawn = f'<g><title>{escape(title)}</title><rect class="{kind}{state}" {shape}'
    if kind.endswith(_STRIPED) and state != " failed":
        drawn += f'<rect class="over{state}" fill="url(#stripes)" {shape}'
    if step.state == "failed":
        drawn += f'<path class="mark" d="M{x + 3:.1f} {y + 6}l8 9m0 -9l-8 9"/>'
    elif step.attempts > 1 and width > 14:
        drawn += f'<text class="tries" x="{x + 4:.1f}" y="{y + 14}">×{step.attempts}</text>'
    elif width > 60:
        label = step.name.partition(".")[2].replace("_", " ")
        if len(label) * 7 < width - 8:
            drawn += f'<text class="in" x="{x + 5:.1f}" y="{y + 14}">{escape(label)}</text>'
    return drawn + "</g>"
