"""docs/reference/cli.md: the help of every command, as the terminal shows it."""

from __future__ import annotations

from collections.abc import Iterator

import click

from scripts.reference.markdown import joined, made_by, table
from worker.cli import cli

_WIDTH = 100
_INTRO = f"""# Commands

{made_by()} `--help` says the same, and `-h` too.

Options may stand before or after arguments. `--json` prints JSON ([fields](json.md)), for errors too. Colours and live
progress are for terminals alone. A failure has one sentence and a hint ([errors](errors.md)); what the codes mean is
in [exit codes](exit-codes.md).
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """(``pgfleet restore``, its command) of each command and subcommand, in the order of the help."""
    context = click.Context(cli, info_name="pgfleet")
    yield "pgfleet", cli
    yield from _below("pgfleet", cli, context)


def _below(path: str, group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _below(f"{path} {name}", command, click.Context(command, context, info_name=name))


def help_of(path: str, command: click.Command) -> str:
    parent = (
        click.Context(click.Command("parent"), info_name=path.rpartition(" ")[0]) if " " in path else None
    )
    context = click.Context(
        command,
        parent,
        info_name=path.rpartition(" ")[2],
        terminal_width=_WIDTH,
        max_content_width=_WIDTH,
        help_option_names=["-h", "--help"],
    )
    return command.get_help(context)


def render() -> str:
    listed = [
        (f"[`{path}`](#{path.replace(' ', '-')})", command.get_short_help_str(100))
        for path, command in commands()
    ]
    sections = [f"## {path}\n\n```text\n{help_of(path, command)}\n```" for path, command in commands()]
    return joined(_INTRO, table(("command", "what it does"), listed[1:]), *sections)
