"""``pgfleet install systemd``: the units of this host, with this installation's paths in them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

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


class File(NamedTuple):
    """path: below the root. mode: of a file that is made."""

    path: str
    content: str
    mode: int


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
def systemd(root: Path, bin_: Path | None) -> None:
    """Write units, timers, the user, the directories and a `pgfleet` for root; settings that are there are kept.

    Run it again after an upgrade. Changes of your own belong into `systemctl edit UNIT`.
    """
    programs = bin_ or _own_programs()
    for file in rendered(programs):
        path = root / file.path
        if file.path == SETTINGS and path.exists():
            click.echo(f"kept   {path}")
            continue
        _write(path, file)
        click.echo(f"wrote  {path}")
    click.echo(_NEXT)


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
