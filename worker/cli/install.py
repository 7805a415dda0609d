"""``pgfleet install systemd``: the units of this host, with this installation's paths in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Literal, NamedTuple

import click
import jinja2

from worker.errors import ConfigError

UNITS = "etc/systemd/system"
SETTINGS = "etc/pgfleet/pgfleet.env"
#: Template → where it goes, for those that are no units.
_PLACES = {
    "sysusers.conf": "etc/sysusers.d/pgfleet.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/pgfleet.conf",
    "pgfleet.env": SETTINGS,
    "pgfleet": "usr/local/sbin/pgfleet",
}
_MODES = {"pgfleet.env": 0o600, "pgfleet": 0o755}
#: ProtectHome= hides these from services.
_HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"))
_NEXT = """
Next, as root:
  systemd-sysusers && systemd-tmpfiles --create && systemctl daemon-reload
  edit /etc/pgfleet/pgfleet.env; put secrets into /etc/pgfleet/secrets, public keys into /etc/pgfleet/keys
One machine, no fleet:
  systemctl enable --now pgfleet-backup.timer pgfleet-cleanup.timer pgfleet-drill.timer
A host of a fleet:
  systemctl enable --now pgfleet-worker@dump pgfleet-worker@verify
  systemctl enable --now pgfleet-worker@control pgfleet-beat pgfleet-flower pgfleet-exporter     (on one host)
Any command with these settings, as root:
  pgfleet doctor"""


_REMOVED = """
Next, as root:
  systemctl stop 'pgfleet-*'; systemctl daemon-reload
What is left, for you to keep or to remove:
  /etc/pgfleet (settings, secrets, keys), /var/lib/pgfleet (state), /var/backups/postgres (copies), the user pgfleet"""


class File(NamedTuple):
    """path: below the root. mode: of a file that is made."""

    path: str
    content: str
    mode: int


class Change(NamedTuple):
    """What becomes of one file. file: what is written there, where something is."""

    verb: Literal["new", "changed", "unchanged", "kept", "removed"]
    path: Path
    file: File | None = None


@click.group()
def install() -> None:
    """Write what this host's service manager needs."""


@install.command()
@click.option(
    "--root",
    default="/",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write below this directory (for packages and tests).",
)
@click.option(
    "--bin",
    "bin_",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where pgfleet and celery are; this installation's programs without.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be done with each file, and do nothing.")
@click.option("--remove", is_flag=True, help="Remove what this command writes; settings and data stay.")
def systemd(root: Path, bin_: Path | None, dry_run: bool, remove: bool) -> None:
    """Write units, timers, the user, the directories and a `pgfleet` for root; settings that are there are kept.

    Run it again after an upgrade. Changes of your own belong into `systemctl edit UNIT`.
    """
    changes = _removal(root) if remove else _installation(root, bin_ or _own_programs())
    for change in changes:
        if not dry_run:
            _carry_out(change)
        click.echo(f"{change.verb:<9}  {change.path}")
    if dry_run:
        click.echo("Nothing was done: --dry-run.")
    else:
        click.echo(_REMOVED if remove else _NEXT)


def _installation(root: Path, programs: Path) -> list[Change]:
    return [_written(root / file.path, file) for file in rendered(programs)]


def _written(path: Path, file: File) -> Change:
    """Raises ConfigError when what is there cannot be read."""
    try:
        there = path.read_bytes()
        mode = path.stat().st_mode & 0o777
    except FileNotFoundError:
        return Change("new", path, file)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "Run it as root.") from error
    if file.path == SETTINGS:
        return Change("kept", path)
    same = there == file.content.encode() and mode == file.mode
    return Change("unchanged" if same else "changed", path, None if same else file)


def _removal(root: Path) -> list[Change]:
    """The links by which units are enabled go with them; `systemctl edit`'s files are somebody's own."""
    folder = root / UNITS
    ours = [root / file.path for file in rendered(Path("/")) if file.path != SETTINGS]
    units = {path.name for path in ours if path.parent == folder}
    links = [path for path in sorted(folder.glob("*.wants/pgfleet-*")) if _unit(path.name) in units]
    edited = [path for path in sorted(folder.glob("pgfleet-*.d/*")) if _unit(path.parent.stem) in units]
    gone = [Change("removed", path) for path in (*links, *ours) if path.is_symlink() or path.exists()]
    kept = [Change("kept", path) for path in (*edited, root / SETTINGS) if path.exists()]
    return [*gone, *kept]


def _unit(name: str) -> str:
    """pgfleet-worker@dump.service → pgfleet-worker@.service, whose instance it is."""
    stem, _, kind = name.rpartition(".")
    return f"{stem.partition('@')[0]}@.{kind}" if "@" in stem else name


def _carry_out(change: Change) -> None:
    if change.verb == "removed":
        _remove(change.path)
    elif change.file is not None:
        _write(change.path, change.file)


def rendered(programs: Path) -> Iterator[File]:
    """Everything that is written, for programs in that directory."""
    folder = files("worker.cli").joinpath("units")
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: folder.joinpath(name).read_text()),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - units, no markup
        keep_trailing_newline=True,
        trim_blocks=True,
    )
    for template in sorted(one.name for one in folder.iterdir() if not one.name.startswith("_")):
        name = template.removesuffix(".j2")
        text = environment.get_template(template).render(bin=programs).strip() + "\n"
        yield File(_PLACES.get(name, f"{UNITS}/{name}"), text, _MODES.get(name, 0o644))


def _own_programs() -> Path:
    """Raises ConfigError when services could not see them."""
    programs = Path(sys.executable).parent
    if any(programs.is_relative_to(hidden) for hidden in _HIDDEN):
        raise ConfigError(
            f"pgfleet is installed in {programs}, which the services are not allowed to see.",
            "Install it elsewhere, in a checkout: "
            "python3 -m venv /opt/pgfleet && /opt/pgfleet/bin/pip install -c constraints.txt .",
        )
    return programs


def _write(path: Path, file: File) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, file.mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(file.content)
            os.fchmod(opened.fileno(), file.mode)  # whatever the umask
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.",
            "Run it as root, or name another place with --root.",
        ) from error


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be removed: {error.strerror}.",
            "Run it as root, or name another place with --root.",
        ) from error
