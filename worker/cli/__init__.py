"""The command line: one module a command; an error becomes one sentence, a hint and the seed's exit code."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from worker import __version__
from worker.errors import PgfleetError

#: command → (module under worker.cli, attribute). Imported when used: `pgfleet --help` opens no SDK.
COMMANDS = {
    "backup": ("backup", "backup"),
    "list": ("catalog", "list_backups"),
    "show": ("catalog", "show"),
    "verify": ("verify", "verify"),
    "restore": ("restore", "restore"),
    "fetch": ("restore", "fetch"),
    "drill": ("drill", "drill"),
    "validate": ("validate", "validate"),
    "evidence": ("evidence", "evidence"),
    "cleanup": ("cleanup", "cleanup"),
    "copy": ("copy", "copy"),
    "repair": ("copy", "repair"),
    "scrub": ("scrub", "scrub"),
    "hold": ("hold", "hold"),
    "release": ("hold", "release"),
    "runs": ("runs", "runs"),
    "run": ("runs", "run"),
    "cancel": ("runs", "cancel"),
    "status": ("status", "show_status"),
    "audit": ("audit", "audit"),
    "report": ("report", "report"),
    "web": ("web", "web"),
    "exporter": ("exporter", "exporter"),
    "config": ("config", "config"),
    "doctor": ("doctor", "doctor"),
    "local": ("local", "local"),
    "up": ("local", "up"),
    "install": ("install", "install"),
    "demo": ("demo", "demo"),
}
INTERRUPTED = 130


class Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"worker.cli.{module}"), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message}{_did_you_mean(args[0])}", ctx) from None


def _did_you_mean(word: str) -> str:
    import difflib

    close = difflib.get_close_matches(word, COMMANDS, 1)
    return f" Did you mean {close[0]!r}?" if close else ""


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pgfleet")
def cli() -> None:
    """PostgreSQL backups run by a fleet of Celery workers, and proven restorable."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; a user's mistake never shows a traceback."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        code = cli.main(arguments, standalone_mode=False)
    except PgfleetError as error:
        sys.exit(show_error(error, as_json="--json" in arguments))
    except click.exceptions.Abort:
        sys.exit(INTERRUPTED)
    except click.ClickException as error:
        error.show()
        sys.exit(3)  # bad input is a configuration error in the seed's numbers
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def show_error(error: PgfleetError, *, as_json: bool) -> int:
    """Print an error for a person (stderr) or a program (stdout, JSON) and return its exit code."""
    if as_json:
        shown: dict[str, Any] = {
            "error": {
                "type": type(error).__name__,
                "message": error.message,
                "hint": error.hint,
                "exit_code": error.exit_code,
            }
        }
        click.echo(json.dumps(shown))
    else:
        click.secho(f"Error: {error.message}", err=True, fg="red")
        if error.hint:
            click.secho(f"Hint:  {error.hint}", err=True, fg="yellow")
    return error.exit_code
