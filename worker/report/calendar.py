"""A month of days as inline SVG: what became of each day's backup, by colour and by sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

#: State of a day → (sign, what it means). The sign tells it without colour.
STATES: Mapping[str, tuple[str, str]] = {
    "proven": ("★", "verified, and proven by a drill"),
    "verified": ("✓", "verified"),
    "unverified": ("?", "stored, never verified"),
    "missing": ("✗", "due, and missing"),
    "late": ("…", "due, and not there yet"),
    "none": ("", "nothing was due"),
    "ahead": ("", "still to come"),
}
_WIDTH, _GAP, _CELL, _HEIGHT = 860, 4, 26, 46


def calendar(days: Sequence[Mapping[str, Any]]) -> str:
    """days: ``{"day", "state", "backups"}`` each, as `worker.core.compliance` has them; "" for none."""
    if not days:
        return ""
    cell = min(_CELL, (_WIDTH + _GAP) / len(days) - _GAP)
    step = cell + _GAP
    width = step * len(days) - _GAP
    counts = {state: sum(day["state"] == state for day in days) for state in STATES}
    said = ", ".join(f"{count} {STATES[state][1]}" for state, count in counts.items() if count)
    parts = [
        f'<svg class="calendar" viewBox="-1 -1 {width + 2:.1f} {_HEIGHT}" role="img" aria-label="Days: {escape(said)}">'
    ]
    for number, day in enumerate(days):
        x, state = number * step, str(day["state"])
        sign, meaning = STATES.get(state, ("", state))
        middle, number_ = f"{x + cell / 2:.1f}", escape(str(day["day"])[8:])
        count = int(day["backups"])
        backups = f", {count} backup{'s' if count != 1 else ''}" if count else ""
        parts.append(
            f"<g><title>{escape(str(day['day']))}: {escape(meaning)}{backups}</title>"
            f'<rect class="day {escape(state)}" x="{x:.1f}" y="0" width="{cell:.1f}" height="26" rx="4"/>'
            f'<text class="sign {escape(state)}" x="{middle}" y="18" text-anchor="middle">{sign}</text>'
            f'<text class="tick" x="{middle}" y="42" text-anchor="middle">{number_}</text></g>'
        )
    return "".join([*parts, "</svg>"])
