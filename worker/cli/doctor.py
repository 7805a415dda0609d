"""`pgfleet doctor`: is everything there that a backup takes?"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import click
from rich.table import Table
from rich.text import Text

from worker.cli import broker_check, place, render
from worker.steps.doctor import probes
from worker.steps.examine import PROBE_SECONDS, Check, Probe, examine, exit_code

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "failed": ("✗", "bold red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object: status, exit_code, checks.")
@click.option(
    "--timeout",
    default=PROBE_SECONDS,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds a check may take.",
)
def doctor(as_json: bool, timeout: float) -> int:
    """Check tools, databases, keys, destinations, broker, ledger, spool and workers.

    Nothing is changed, but for a probe object that is stored and deleted again in each destination.
    Exit codes: 0 nothing failed (there may be warnings), 2 something is not installed, 3 a setting is wrong,
    1 anything else failed.
    """
    adapters = place.adapters()
    broker = Probe("broker", partial(broker_check.checks, adapters.settings.broker_url.get_secret_value()))
    asked = [*probes(adapters), broker]
    if as_json:
        checks = list(examine(asked, timeout))
        click.echo(json.dumps(_report(checks), ensure_ascii=False))
    else:
        console = render.console()
        with console.status("Asking…"):
            checks = list(examine(asked, timeout))
        console.print(_table(checks))
        console.print()
        console.print(_summary(checks))
    return exit_code(checks)


def _report(checks: Sequence[Check]) -> dict[str, object]:
    found = {check.status for check in checks}
    status = next((status for status in ("failed", "warning") if status in found), "ok")
    return {"status": status, "exit_code": exit_code(checks), "checks": [asdict(check) for check in checks]}


def _table(checks: Sequence[Check]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column("", no_wrap=True)
    table.add_column("Check", no_wrap=True)
    table.add_column("Finding", overflow="fold")
    for check in checks:
        mark, colour = _MARKS[check.status]
        finding = Text(check.detail, style="" if check.status == "ok" else colour)
        if check.hint:
            finding.append(f"\n→ {check.hint}", style="default")
        table.add_row(Text(mark, style=colour), Text(check.name), finding)
    return table


def _summary(checks: Sequence[Check]) -> Text:
    counts = Counter(check.status for check in checks)
    words = [(f"{counts['ok']} ok", "green")]
    warnings = counts["warning"]
    words += [(f"{warnings} warning{'s' if warnings > 1 else ''}", "yellow")] if warnings else []
    words += [(f"{counts['failed']} failed", "bold red")] if counts["failed"] else []
    return Text(", ").join(Text(word, style=style) for word, style in words)
