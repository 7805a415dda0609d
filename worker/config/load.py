"""Settings from the environment and an optional TOML file. Every problem is found before anything starts.

The environment wins over the file for top-level settings. Databases and destinations come from one of the
two, never mixed: a DB_HOST that is silently ignored, or silently used, is how the wrong one gets backed up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from worker import redaction
from worker.config import environment, file, rules
from worker.config.defaults import DEFAULT_BACKUP_DIR, add_defaults, storage_classes
from worker.config.masks import secrets
from worker.config.model import Database, Destination, Server, Settings, Target
from worker.config.sources import Given, Model, Problem, Section, Sources
from worker.config.variables import CONFIG_VARIABLE, Table
from worker.errors import ConfigError

_FROM_DATABASE = (*Server.model_fields, "allow_replace")


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings; their secrets are masked in logs from now on.

    Raises ConfigError: the first problem is its message, its hint lists the others.
    """
    settings, _ = read(environ)
    for secret in secrets(settings):
        redaction.register(secret)
    return settings


def read(environ: Mapping[str, str] | None = None) -> tuple[Settings, Sources]:
    """The settings, and where each came from. Raises ConfigError."""
    environ = os.environ if environ is None else environ
    problems: list[Problem] = []
    sources = _gather(environ, problems)
    settings = _build(sources, problems)
    if settings is not None:
        problems += rules.problems(settings, sources)
    if problems or settings is None:
        raise _error(problems)
    return settings, sources


def _error(problems: list[Problem]) -> ConfigError:
    unique = list(dict.fromkeys(problems))
    first, *others = unique
    more = "".join(f"\n- {problem.message} {problem.hint}" for problem in others)
    return ConfigError(first.message, first.hint + (f"\nAlso wrong:{more}" if more else ""))


def _gather(environ: Mapping[str, str], problems: list[Problem]) -> Sources:
    given = environment.read(environ, problems)
    path = environ.get(CONFIG_VARIABLE, "")
    if path:
        sources = file.read(Path(path).expanduser(), environ, problems)
    else:
        sources = Sources(Section("environment", "pgfleet", "pgfleet"))
    problems += environment.misspelt(environ, sources.referenced)
    sources.top.given.update(given["pgfleet"])
    _databases(sources, given, problems)
    _destinations(sources, given, problems)
    add_defaults(sources.top, environ)
    return sources


def _databases(sources: Sources, given: dict[Table, dict[str, Given]], problems: list[Problem]) -> None:
    if not sources.databases:
        name = given["database"].get("name")
        alias = str(name.value) if name else str(Database.model_fields["name"].default)
        sources.databases[alias] = Section("environment", "database", alias, given["database"])
        return
    for alias, section in sources.databases.items():
        section.given.setdefault("name", Given(alias, section.label("name"), "default"))
    _refuse_mixing(sources, given["database"], "databases", problems)


def _destinations(sources: Sources, given: dict[Table, dict[str, Given]], problems: list[Problem]) -> None:
    local, s3 = given["local"], given["s3"]
    if sources.destinations:
        _refuse_mixing(sources, {**local, **s3}, "destinations", problems)
    else:
        directory = local.get("path") or Given(DEFAULT_BACKUP_DIR, "BACKUP_DIR", "default")
        if directory.value:
            sources.destinations["local"] = Section("environment", "local", "local", {"path": directory})
        if s3:
            sources.destinations["s3"] = Section("environment", "s3", "s3", s3)
        if s3 and "bucket" not in s3:
            others = ", ".join(one.label for one in s3.values())
            problems.append(
                Problem(
                    f"S3_BUCKET is not set, but {others} {'is' if len(s3) == 1 else 'are'}.",
                    "Write S3_BUCKET=… to store copies there, or unset it to keep local copies only.",
                )
            )
        if not sources.destinations:
            problems.append(
                Problem(
                    "BACKUP_DIR is empty and S3_BUCKET is not set: there is nowhere to keep backups.",
                    f"Write for example BACKUP_DIR={DEFAULT_BACKUP_DIR}, or S3_BUCKET=… and its keys.",
                )
            )
    for section in sources.destinations.values():
        if section.table == "s3" and not _is_directory(section):
            profile, endpoint = (_text(section, name) for name in ("profile", "endpoint"))
            for type_, name in storage_classes(profile or "auto", endpoint).items():
                key = f"storage_class.{type_}"
                section.given.setdefault(key, Given(name, section.label(key), "default"))


def _text(section: Section, name: str) -> str:
    return str(section.given[name].value) if name in section.given else ""


def _is_directory(section: Section) -> bool:
    return "kind" in section.given and section.given["kind"].value != "s3"


def _refuse_mixing(sources: Sources, given: dict[str, Given], table: str, problems: list[Problem]) -> None:
    labels = [one.label for one in given.values() if one.label not in sources.referenced]
    if labels:
        problems.append(
            Problem(
                f"{', '.join(labels)} and the [{table}.…] tables of {sources.file} contradict each other.",
                f"Unset the variable and write the setting under [{table}.ALIAS], or remove those tables.",
            )
        )


def _build(sources: Sources, problems: list[Problem]) -> Settings | None:
    """None when a value does not fit; `problems` may hold others, found before."""
    misfits: list[Problem] = []
    destinations = _built(sources.destinations, Destination, misfits)
    databases = _built(sources.databases, Database, misfits)
    targets = _built(sources.targets, Target, misfits)
    databases = {
        alias: database
        if database.destinations
        else database.model_copy(update={"destinations": tuple(destinations)})
        for alias, database in databases.items()
    }
    for alias, database in databases.items():
        targets.setdefault(alias, _target(database))
    settings = sources.top.build(
        Settings, misfits, databases=databases, destinations=destinations, targets=targets
    )
    problems += misfits
    return None if misfits else settings


def _built(sections: dict[str, Section], model: type[Model], problems: list[Problem]) -> dict[str, Model]:
    kinds: dict[Table, str] = {"local": "directory", "s3": "s3"}
    built: dict[str, Model] = {}
    for alias, section in sections.items():
        fixed = {"alias": alias}
        if section.origin == "environment" and section.table in kinds:
            fixed["kind"] = kinds[section.table]
        if (value := section.build(model, problems, **fixed)) is not None:
            built[alias] = value
    return built


def _target(database: Database) -> Target:
    """Each database is a restore target of the same alias, unless one is configured."""
    fields = {name: getattr(database, name) for name in _FROM_DATABASE}
    return Target(alias=database.alias, database=database.name, **fields)
