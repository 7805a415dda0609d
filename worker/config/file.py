"""Settings out of the TOML file that PGFLEET_CONFIG names.

``[pgfleet]`` holds top-level settings, ``[databases.ALIAS]``, ``[destinations.ALIAS]``, ``[targets.ALIAS]``
the rest. A secret may be given as itself, as ``NAME_file`` (a path) or as ``NAME_env`` (a variable).
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from worker.config.masks import holds_secret
from worker.config.model import Database, Destination, Settings, Target
from worker.config.sources import Given, Problem, Section, Sources, did_you_mean, expand, read_secret
from worker.config.values import is_secret
from worker.config.variables import CONFIG_VARIABLE, TABLES_OF_TABLES, Table, field_info
from worker.core.backup import BackupType
from worker.errors import ConfigError

SECTIONS: dict[str, type[BaseModel]] = {"databases": Database, "destinations": Destination, "targets": Target}
_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_.\"' -]+?)\s*=")


def read(path: Path, environ: Mapping[str, str], problems: list[Problem]) -> Sources:
    """Raises ConfigError when it is no TOML at all; everything else is added to `problems`."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"{CONFIG_VARIABLE} names {path}, which cannot be read: {error.strerror}.",
            "Write the path of a TOML file that this user may read, or unset it.",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}.", "Correct it there.") from None
    return _Reader(path, _lines(text), environ, problems).sources(tree)


class _Reader:
    def __init__(
        self, path: Path, lines: dict[str, int], environ: Mapping[str, str], problems: list[Problem]
    ) -> None:
        self.path, self.lines, self.environ, self.problems = path, lines, environ, problems
        self.inline_secret = ""
        self.referenced: set[str] = set()

    def sources(self, tree: dict[str, Any]) -> Sources:
        for name in tree:
            if name not in {"pgfleet", *TABLES_OF_TABLES}:
                self._unknown(name, name, {"pgfleet", *TABLES_OF_TABLES})
        top = self._fields("pgfleet", Settings, tree.get("pgfleet", {}))
        found = Sources(
            Section("environment", "pgfleet", "pgfleet", top),
            databases=self._sections("databases", "database", tree),
            destinations=self._sections("destinations", "s3", tree),
            targets=self._sections("targets", "database", tree),
            file=self.path,
            referenced=self.referenced,
        )
        if self.inline_secret and stat.S_IMODE(self.path.stat().st_mode) & 0o077:
            self._problem(
                f"{self.path} holds a secret ({self.inline_secret}) and others may read it.",
                f"Run chmod 600 {self.path}, or move the secret out with {self.inline_secret}_file.",
            )
        return found

    def _sections(self, name: str, table: Table, tree: dict[str, Any]) -> dict[str, Section]:
        aliases = tree.get(name, {})
        if not isinstance(aliases, dict) or not all(isinstance(value, dict) for value in aliases.values()):
            self._problem(
                f"{self._at(name)} must hold tables.", f"Write [{name}.ALIAS] with settings under it."
            )
            return {}
        found = {}
        for alias, values in aliases.items():
            path = f"{name}.{alias}"
            found[alias] = Section("file", table, path, self._fields(path, SECTIONS[name], values))
        return found

    def _fields(self, path: str, model: type[BaseModel], values: Any) -> dict[str, Given]:
        if not isinstance(values, dict):
            self._problem(f"{self._at(path)} must be a table.", f"Write [{path}] with settings under it.")
            return {}
        known = expand(model, get_args(BackupType))
        given: dict[str, Given] = {}
        for name, value in _flat(values, {name.partition(".")[0] for name in known if "." in name}):
            if name in known and is_secret(field_info(model, name)) and holds_secret(value):
                self.inline_secret = self.inline_secret or f"{path}.{name}"
            if name in known:
                self._add(given, path, name, value)
            elif (secret := self._indirect(path, model, known, name, value)) is not None:
                self._add(given, path, *secret)
        return given

    def _add(self, given: dict[str, Given], path: str, name: str, value: Any) -> None:
        if name in given:
            self._problem(f"{path}.{name} is given in two ways.", "Keep one of them.")
        keys = [f"{path}.{name}{suffix}" for suffix in ("", "_file", "_env")]
        line = next((self.lines[key] for key in keys if key in self.lines), 0)
        given[name] = Given(value, f"{path}.{name}", f"{self.path}:{line}" if line else str(self.path))

    def _indirect(
        self, path: str, model: type[BaseModel], known: list[str], name: str, value: Any
    ) -> tuple[str, Any] | None:
        """(field, secret) of ``password_file`` or ``password_env``; None for a problem."""
        secrets = [field for field in known if is_secret(field_info(model, field))]
        field, _, way = name.rpartition("_")
        label = f"{path}.{name}"
        if field not in secrets or way not in {"file", "env"}:
            choices = {*known, *(f"{secret}_{way}" for secret in secrets for way in ("file", "env"))}
            self._unknown(label, name, choices)
            return None
        if not isinstance(value, str) or not value:
            what = "path" if way == "file" else "variable's name"
            self._problem(f"{self._at(label)} must be a {what}.", f"Write a {what} in quotes.")
            return None
        if way == "file":
            secret = read_secret(value, label)
            if isinstance(secret, Problem):
                self.problems.append(secret)
                return None
            return field, secret
        self.referenced.add(value)
        if not self.environ.get(value):
            self._problem(f"{self._at(label)} names {value}, which is not set.", f"Set the variable {value}.")
            return None
        return field, self.environ[value]

    def _unknown(self, label: str, name: str, known: set[str]) -> None:
        self._problem(f"{self._at(label)} is not a setting.", did_you_mean(name, known))

    def _at(self, label: str) -> str:
        line = self.lines.get(label)
        return f"{label} ({self.path}:{line})" if line else f"{label} ({self.path})"

    def _problem(self, message: str, hint: str) -> None:
        self.problems.append(Problem(message, hint))


def _flat(values: Mapping[str, Any], nested: set[str]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if name in nested and isinstance(value, dict):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        else:
            yield name, value


def _lines(text: str) -> dict[str, int]:
    """The line of each table and key in a file laid out as usual; others are told without a line."""
    found: dict[str, int] = {}
    table: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table = _path(header[1])
            found.setdefault(".".join(table), number)
        elif key:
            found.setdefault(".".join([*table, *_path(key[1])]), number)
    return found


def _path(key: str) -> list[str]:
    """The parts of a dotted, perhaps quoted key, by the TOML parser itself; empty when it is none."""
    try:
        tree: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return []
    names = []
    while isinstance(tree, dict):
        name, tree = next(iter(tree.items()))
        names.append(name)
    return names
