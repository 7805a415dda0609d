"""Effective settings with their sources, for `pgfleet config`. Secrets are masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel

from worker.config.load import read
from worker.config.masks import masked
from worker.config.sources import Section, expand
from worker.config.values import is_secret, kind_of
from worker.config.variables import CONFIG_VARIABLE, VARIABLES, field_info
from worker.core.backup import BackupType


class Row(NamedTuple):
    """name: the variable, or the place in the file. group: "pgfleet", "database goimg", "destination s3"…"""

    name: str
    value: str
    source: str
    description: str
    group: str


def explain(environ: Mapping[str, str] | None = None) -> list[Row]:
    """Raises ConfigError, as `load` does."""
    settings, sources = read(environ)
    rows: list[Row] = []
    for alias, section in sources.databases.items():
        rows += _rows(section, settings.databases[alias], f"database {alias}")
    for alias, section in sources.destinations.items():
        rows += _rows(section, settings.destinations[alias], f"destination {alias}")
    for alias, section in sources.targets.items():
        rows += _rows(section, settings.targets[alias], f"target {alias}")
    if sources.file:
        rows.append(Row(CONFIG_VARIABLE, str(sources.file), "environment", "The TOML file.", "pgfleet"))
    rows += _rows(sources.top, settings, "pgfleet")
    return rows


def _rows(section: Section, value: BaseModel, group: str) -> Iterator[Row]:
    if section.origin == "environment":
        names = [variable.field for variable in VARIABLES if variable.table == section.table]
    else:
        names = expand(type(value), get_args(BackupType))
    for name in names:
        info = field_info(type(value), name)
        shown = _shown(_at(value, name), is_secret(info), kind_of(info).show)
        yield Row(section.label(name), shown, section.source(name), info.description or "", group)


def _at(value: Any, name: str) -> Any:
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
    return value


def _shown(value: Any, secret: bool, show: Any) -> str:
    if value is None or value == ():
        return ""
    return masked(value) if secret else str(show(value))
