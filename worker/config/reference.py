"""docs/reference/settings.md, made from the settings themselves.

``python -m worker.config.reference > docs/reference/settings.md``; a test keeps the page current.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from worker.config.defaults import DEFAULT_BACKUP_DIR, STORAGE_CLASSES
from worker.config.model import Database, Destination, Target
from worker.config.sources import expand
from worker.config.values import Kind, is_secret, kind_of
from worker.config.variables import CONFIG_VARIABLE, VARIABLES, Table, Variable, field_info
from worker.core.backup import BackupType

_DERIVED = {
    "state_dir": "`/var/lib/pgfleet` for root or where it is writable, else `~/.local/state/pgfleet` (XDG)",
    "spool": "`/var/spool/pgfleet` for root, else `spool` in the state directory",
    "ledger_url": "`ledger.sqlite3` in the state directory",
    "gpg_home": "`gnupg` in the state directory with a keys directory, else `GNUPGHOME`, else `~/.gnupg`",
    "path": f"`{DEFAULT_BACKUP_DIR}`",
    "databases.name": "the alias",
    "destinations.retention": "the database's",
    **{
        f"storage_class.{type_}": f"`{name}` where the vendor has it"
        for type_, name in STORAGE_CLASSES.items()
    },
}
_GROUPS: tuple[tuple[Table, str, str], ...] = (
    ("database", "The database", "One database; several need the file."),
    ("local", "The local destination", "Always there, unless the variable is set to nothing."),
    ("s3", "The S3 destination", "There when `S3_BUCKET` is set; left unset means local copies only."),
    ("pgfleet", "The fleet", "In the file, these are the keys of `[pgfleet]`, without the prefix."),
)
_INTRO = f"""# Settings

This page is made by `python -m worker.config.reference`. `pgfleet config` shows what is in force here and
now, and where each value comes from.

- Settings come from environment variables, and from the TOML file that `{CONFIG_VARIABLE}` names, if any.
- An empty variable counts as not set, except `BACKUP_DIR`: empty, it means no local copies.
- A secret `NAME` (marked 🔑) may also be given as `NAME_FILE`, the path of a file that holds it alone. Both
  at once are refused.
- What is misspelt, contradictory or out of range is refused before anything starts, all of it at once:
  exit code 3. An unknown `PGFLEET_*` is an error, and so is a near miss of another name (`S3_BUKET`).
- The environment wins over the file's `[pgfleet]`. Databases and destinations come from one of the two:
  `DB_*` is refused beside `[databases.…]`, `S3_*` and `BACKUP_DIR` beside `[destinations.…]`.
- No password is fine where the server asks for none (peer, trust) or `~/.pgpass` has it; `pgfleet doctor`
  says whether it is.
- Sizes: `64MiB` is 2^26 bytes, `64MB` 64 million. Durations: `90s`, `15m`, `24h`, `1h30m`, `2d`, or seconds.
"""
_FILE = """## The file

Secrets may be given as `password_file = "/run/secrets/shop"` or `password_env = "SHOP_PASSWORD"` instead of
inline; a file with inline secrets must not be readable by others (`chmod 600`). An unknown key is an error.
Each database is a restore target of the same alias, unless `[targets.ALIAS]` says otherwise.

```toml
[pgfleet]
broker_url = "redis://broker:6379/0"
ledger_url_file = "/run/secrets/ledger_url"

[databases.shop]
host = "db1"
name = "shop"
user = "backup"
password_file = "/run/secrets/shop"
recipients = ["ops@example.com"]
destinations = ["near", "far"]
schedule = "0 */6 * * *"
jobs = 4

[databases.shop.retention]
daily_days = 14

[destinations.near]
kind = "directory"
path = "/srv/backups"

[destinations.near.retention]
daily_days = 3

[destinations.far]
kind = "s3"
endpoint = "https://fra1.digitaloceanspaces.com"
region = "fra1"
bucket = "shop-backups"
access_key = "KEY"
secret_key_file = "/run/secrets/s3"

[destinations.far.storage_class]
monthly = "STANDARD"

[targets.staging]
host = "db2"
database = "shop"
allow_replace = true
```
"""


def render() -> str:
    """The page, with a newline at its end."""
    lines = [_INTRO]
    for table, title, text in _GROUPS:
        rows = [_variable_row(variable) for variable in VARIABLES if variable.table == table]
        lines += [f"## {title}", "", text, "", *_table("Variable", rows), ""]
    lines.append(_FILE)
    models: tuple[tuple[str, type[BaseModel]], ...] = (
        ("databases", Database),
        ("destinations", Destination),
        ("targets", Target),
    )
    for name, model in models:
        rows = [_key_row(model, key) for key in expand(model, get_args(BackupType))]
        lines += [f"### `[{name}.ALIAS]`", "", *_table("Key", rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(first: str, rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {first} | Value | Default | Meaning |"
    yield "|---|---|---|---|"
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _variable_row(variable: Variable) -> tuple[str, ...]:
    names = " or ".join(f"`{name}`" for name in variable.names)
    return (names + _mark(variable.info), *_cells(variable.field, variable.info, kind_of(variable.info)))


def _key_row(model: type[BaseModel], key: str) -> tuple[str, ...]:
    info = field_info(model, key)
    default = key if model is Destination and key.startswith("storage_class") else ""
    if model is Database and key == "name":
        default = "databases.name"
    if model is Destination and key.startswith("retention."):
        default = "destinations.retention"
    return (f"`{key}`" + _mark(info), *_cells(default, info, kind_of(info)))


def _mark(info: FieldInfo) -> str:
    return " 🔑" if is_secret(info) else ""


def _cells(derived: str, info: FieldInfo, kind: Kind) -> tuple[str, ...]:
    return kind.expects, _DERIVED.get(derived) or _default(info, kind), info.description or ""


def _default(info: FieldInfo, kind: Kind) -> str:
    if info.is_required():
        return "required"
    default = info.get_default(call_default_factory=True)
    if default in (None, "", (), {}):
        return ""
    shown = default.get_secret_value() if is_secret(info) else kind.show(default)
    return f"`{shown}`"


if __name__ == "__main__":
    sys.stdout.write(render())
