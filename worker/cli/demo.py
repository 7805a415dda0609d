"""``pgfleet demo``: the main job on real input, narrated. What ``make demo`` runs."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from worker.core import human
from worker.errors import PgfleetError
from worker.local.sample import load_sample
from worker.local.stack import BUCKET, DATABASE, FLOWER_USER, Stack, ending
from worker.process import run

_SETTINGS = {"PGFLEET_PART_SIZE": "8MiB"}
_SCALE = 6  # about 140 MB, which makes more than ten parts
_CLI = [sys.executable, "-m", "worker"]


@click.command(hidden=True)
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True)
def demo(workers: int) -> int:
    """Back up a sample database through a fleet of its own, and show what became of it."""
    console = Console(highlight=False)
    began = time.monotonic()
    with ending():
        console.print(Rule("[bold]pgfleet demo[/]", align="left"))
        console.print("Everything is real, on loopback, and stops at the end.\n")
        stack = Stack(
            workers=workers, settings=_SETTINGS, say=lambda what: console.print(f"  starting {what}")
        )
        with stack:
            _title(console, "A PostgreSQL database")
            with console.status("Filling it …"):
                size = load_sample(stack.postgres, DATABASE, _SCALE)
            console.print(f"{DATABASE}: {human.size(size)} on PostgreSQL {stack.postgres.major}")
            _fleet(console, stack)
    seconds = human.duration(time.monotonic() - began)
    console.print(f"\n[bold green]✓ Done[/] in {seconds}; everything is stopped and removed.")
    console.print("To look around in one that stays: [cyan].venv/bin/pgfleet up[/]")
    return 0


def _fleet(console: Console, stack: Stack) -> None:
    _title(console, "Dumped, encrypted, uploaded in parts, read back and sealed")
    console.print(
        f"Watch it in Flower: {stack.fleet.flower_url} (user {FLOWER_USER}, {stack.flower_password})"
    )
    _pgfleet(console, stack, "backup", "--wait")
    _title(console, "What the destinations hold")
    _pgfleet(console, stack, "list")
    _title(console, "What that backup is")
    _pgfleet(console, stack, "show", _newest(stack))
    _title(console, "The bucket, seen by any S3 client")
    console.print(_objects(stack))
    _title(console, "Who did it: Celery tasks, as Flower saw them")
    console.print(_tasks(stack))
    _title(console, "The drill: restored into a throwaway server, and compared with its source")
    _pgfleet(console, stack, "drill", "latest")
    console.print(f"That page stays: {_kept_report(stack)}")


def _kept_report(stack: Stack) -> Path:
    """The drill's report, where it outlives the stack."""
    (page,) = (Path(stack.env["PGFLEET_STATE_DIR"]) / "reports").glob("*.html")
    kept = Path("build") / "drill-report.html"
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(page, kept)
    return kept.absolute()


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(Rule(f"[bold]{text}[/]", align="left", style="dim"))


def _pgfleet(console: Console, stack: Stack, *arguments: str) -> None:
    console.print(f"[cyan]$ pgfleet {' '.join(arguments)}[/]")
    if code := stack.run([*_CLI, *arguments]):
        raise PgfleetError(f"pgfleet {arguments[0]} ended with exit code {code}.", "See its output above.")


def _newest(stack: Stack) -> str:
    finished = run([*_CLI, "list", "--json"], env=stack.environment, timeout=60)
    if finished.returncode:
        raise PgfleetError("pgfleet list --json failed.", finished.stderr.strip())
    return str(json.loads(finished.stdout)[0]["backup_id"])


def _objects(stack: Stack) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(f"s3://{BUCKET}", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for entry in stack.s3.client().list_objects_v2(Bucket=BUCKET).get("Contents", []):
        table.add_row(entry["Key"], human.size(entry["Size"]))
    return table


def _tasks(stack: Stack) -> Table:
    tasks = stack.fleet.flower_tasks()
    count = Counter((task["name"], task["worker"].partition("@")[0]) for task in tasks if task["worker"])
    workers = sorted({worker for _, worker in count})
    table = Table("task", *workers, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
    for name in sorted({name for name, _ in count if name}):
        table.add_row(name, *(str(count[name, worker] or "") for worker in workers))
    return table
