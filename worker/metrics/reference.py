"""docs/reference/metrics.md, made from the declarations.

``python -m worker.metrics.reference > docs/reference/metrics.md``; a test keeps the page current.
"""

from __future__ import annotations

import sys
from typing import get_args

from worker.metrics.names import METRICS, Part

_TITLES = {
    "destinations": "From the destinations: manifests and evidence",
    "ledger": "From the ledger",
    "keys": "From the keyring",
    "spool": "From the spool of the exporter's host",
    "broker": "From the broker",
    "settings": "From the settings: what should be",
    "exporter": "About the exporter",
}
_INTRO = """# Metrics

This page is made by `python -m worker.metrics.reference`. `pgfleet exporter` tells these to Prometheus:
[monitoring](../monitoring.md). All are gauges. Times are Unix seconds, sizes bytes, durations seconds.

A part that cannot be read has `pgfleet_up` 0, and its metrics are absent until it can be read again: what is not known
is not told. `database` and `destination` are aliases of the configuration.
"""


def render() -> str:
    """The page, with a newline at its end."""
    lines = [_INTRO]
    for part in get_args(Part):
        lines += [f"## {_TITLES[part]}", "", "| Metric | Labels | Meaning |", "|---|---|---|"]
        for metric in METRICS:
            if metric.part == part:
                labels = ", ".join(f"`{label}`" for label in metric.labels)
                lines.append(f"| `{metric.name}` | {labels} | {metric.help} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(render())
