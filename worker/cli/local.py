"""``pgfleet local`` and ``pgfleet up``: the embedded stack, around a command or until ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from worker.core import human
from worker.local.environment import program
from worker.local.sample import load_sample
from worker.local.stack import BUCKET, DATABASE, FLOWER_USER, Stack, ending

_WATCH_SECONDS = 1.0
Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def _stack_options(function: Decorated) -> Decorated:
    for option in (
        click.option("--keep", is_flag=True, help="Leave the stack's directory (logs, data) at the end."),
        click.option("--pg-major", default=17, show_default=True, help="Which PostgreSQL to start."),
        click.option(
            "--workers", type=click.IntRange(min=1), default=2, show_default=True, help="How many workers."
        ),
    ):
        function = option(function)
    return function


@click.command(context_settings={"allow_interspersed_args": False})
@_stack_options
@click.argument("command", nargs=-1, required=True, metavar="-- COMMAND...", type=click.UNPROCESSED)
def local(workers: int, pg_major: int, keep: bool, command: tuple[str, ...]) -> int:
    """Run COMMAND inside a stack of its own: PostgreSQL, Valkey, an S3 server, keys, workers, beat, Flower.

    All settings are exported to COMMAND; your own are not. Everything stops when it ends; its exit code is
    returned.

    \b
    Example: pgfleet local -- pgfleet backup
    """
    program(command[0])  # a misspelt one is told before anything starts
    with ending(), _Session(Console(stderr=True), workers, pg_major, keep) as stack:
        return stack.run(list(command))


@click.command()
@_stack_options
def up(workers: int, pg_major: int, keep: bool) -> int:
    """Start the stack with a sample database, say what to try, and stop it all at ctrl-C."""
    console = Console()
    began = time.monotonic()
    try:
        with ending(), _Session(console, workers, pg_major, keep) as stack:
            size = load_sample(stack.postgres, DATABASE)
            _describe(console, stack, size, time.monotonic() - began)
            while True:
                time.sleep(_WATCH_SECONDS)
                for name in stack.watch():
                    console.print(f"[yellow]{name} had ended and was started again.[/]")
    except KeyboardInterrupt:
        console.print("Stopped.")
    return 0


class _Session:
    """A stack, with a spinner at a terminal while it starts and while it stops."""

    def __init__(self, console: Console, workers: int, pg_major: int, keep: bool) -> None:
        self._console = console
        self._keep = keep
        self._status = console.status("Starting …")
        self._stack = Stack(
            workers=workers,
            pg_major=pg_major,
            keep=keep,
            say=lambda what: self._status.update(f"Starting {what} …"),
        )

    def __enter__(self) -> Stack:
        with self._status:
            return self._stack.__enter__()

    def __exit__(self, *reason: Any) -> None:
        with self._console.status("Stopping …"):
            self._stack.stop()
        if self._keep:
            self._console.print(f"Its files are in {self._stack.path}", highlight=False, soft_wrap=True)


def _describe(console: Console, stack: Stack, size: int, seconds: float) -> None:
    postgres = stack.postgres
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 3, 0, 0))
    facts.add_column(style="bold")
    facts.add_column(no_wrap=True, style="cyan")
    facts.add_column()
    facts.add_row(
        "Flower", stack.fleet.flower_url, f"user {FLOWER_USER}, password [bold]{stack.flower_password}[/]"
    )
    facts.add_row(
        f"PostgreSQL {postgres.major}",
        f"{postgres.host}:{postgres.port}",
        f"database {DATABASE}, a sample of {human.size(size)}",
    )
    facts.add_row("S3", stack.s3.endpoint, f"bucket {BUCKET}")
    facts.add_row("Files", str(stack.path), "logs, local copies, the ledger")
    console.print(f"[bold green]✓ pgfleet is up[/] after {human.duration(seconds)}\n")
    console.print(facts, soft_wrap=True)
    console.print("\n[bold]Try it in another terminal:[/]\n")
    for command, comment in (
        (f"source {stack.env_file}", ""),
        ("pgfleet backup", "# dump, encrypt, upload in parts, read back"),
        ("pgfleet list", "# what the bucket and the directory hold"),
        ("pgfleet runs --follow", "# what the workers are doing"),
        (f"kill -9 {_victim(stack)}", "# a worker, in the middle of a backup: the run still ends"),
    ):
        console.print(f"  [cyan]{command:<24}[/] [dim]{comment}[/]".rstrip(), soft_wrap=True, highlight=False)
    console.print("\n[bold]Ctrl-C[/] stops everything and removes it.")


def _victim(stack: Stack) -> int:
    return next(iter(stack.fleet.workers.values())).pid
