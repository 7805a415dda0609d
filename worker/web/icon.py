"""The dot in a browser's tab."""

from __future__ import annotations

from worker.status import CRITICAL, OK, UNKNOWN


def favicon(level: int) -> str:
    """An SVG for a status' exit code: another shape for each state, not only another colour."""
    colour = {OK: "#1a7f37", CRITICAL: "#b3131f", UNKNOWN: "#6b4fa0"}.get(level, "#9a5b00")
    mark = {
        OK: "M4.5 8.3l2.5 2.4 4.6-5",
        CRITICAL: "M5 5l6 6M11 5l-6 6",
        UNKNOWN: "M6 6.2a2 2 0 1 1 2.6 2c-.5.2-.6.6-.6 1M8 11.6v.2",
    }.get(level, "M8 4.2v4.6M8 11.4v.2")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="8" fill="{colour}"/>'
        f'<path d="{mark}" fill="none" stroke="#fff" stroke-width="1.8" '
        'stroke-linecap="round" stroke-linejoin="round"/></svg>'
    )
