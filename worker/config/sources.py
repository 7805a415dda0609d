"""Settings as they were given: each value with the name and place it came from, and what is wrong with it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from worker.config.masks import masked_url
from worker.config.model import Settings, Strict
from worker.config.values import is_secret, kind_of, unwrap
from worker.config.variables import BY_FIELD, CONFIG_VARIABLE, TABLES_OF_TABLES, Table, field_info, is_mapping

Model = TypeVar("Model", bound=Strict)
Origin = Literal["environment", "file"]


class Problem(NamedTuple):
    """As in an error: what is wrong, what to do."""

    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Given:
    """label: ``DB_PORT`` or ``databases.shop.port``. source: where the value was found, for people."""

    value: Any
    label: str
    source: str


@dataclass(slots=True)
class Section:
    """One database, destination, target, or the top level. given: by dotted field (``retention.minimum``).

    table: which variables set it (environment). path: ``databases.shop`` (file), or the environment's alias.
    """

    origin: Origin
    table: Table
    path: str
    given: dict[str, Given] = field(default_factory=dict)

    def label(self, name: str) -> str:
        """What a person calls the field: a variable, or a place in the file."""
        if name in self.given:
            return self.given[name].label
        variable = BY_FIELD.get((self.table, name))
        return variable.name if self.origin == "environment" and variable else f"{self.path}.{name}"

    def source(self, name: str) -> str:
        return self.given[name].source if name in self.given else "default"

    def where(self, name: str) -> str:
        """`label`, with the file and line when it was read from one."""
        given = self.given.get(name)
        return f"{given.label} ({given.source})" if given and "/" in given.source else self.label(name)

    def example(self, name: str, text: str) -> str:
        """A line to copy into where this field is set."""
        label = self.label(name)
        if label.isupper():
            return f"{label}={text}" if " " not in text else f"{label}='{text}'"
        table, _, key = label.rpartition(".")
        bare = text.isdigit() or text in {"true", "false"}
        return f"{key} = {text if bare else repr(text)} under [{table}]"

    def build(self, model: type[Model], problems: list[Problem], **fixed: Any) -> Model | None:
        """The validated value, or None with its problems added."""
        before = len(problems)
        for name, given in self.given.items():
            annotation, _ = unwrap(field_info(model, name).annotation, [])
            if isinstance(given.value, bool) and annotation is not bool:
                problems.append(self.misfit(model, name))
        if len(problems) > before:
            return None
        values = {name: given.value for name, given in self.given.items()}
        try:
            return model.model_validate({**_nested(values), **fixed})
        except ValidationError as error:
            bad = dict.fromkeys(self._name(item["loc"]) for item in error.errors(include_url=False))
            problems.extend(
                _bad_alias(self, model, fixed[name]) if name in fixed else self.misfit(model, name)
                for name in bad
            )
            return None

    def _name(self, loc: tuple[int | str, ...]) -> str:
        """The dotted field of an error's location; the index within a list is not part of it."""
        names = [str(part) for part in loc if isinstance(part, str)]
        while len(names) > 1 and ".".join(names) not in self.given:
            names.pop()
        return ".".join(names)

    def misfit(self, model: type[BaseModel], name: str) -> Problem:
        info = field_info(model, name)
        kind = kind_of(info)
        write = f"Write for example {self.example(name, example_text(info))}."
        if name not in self.given:
            return Problem(f"{self.label(name)} is missing.", write)
        shown = "what is set" if is_secret(info) else _shown(self.given[name].value)
        if shown.startswith("'tcp://"):
            write += " Kubernetes sets it for a service of that name: enableServiceLinks: false stops it."
        return Problem(f"{self.where(name)} must be {kind.expects}; {shown} is not.", write)


@dataclass(slots=True)
class Sources:
    """Everything that was given, before any of it is judged together."""

    top: Section
    databases: dict[str, Section] = field(default_factory=dict)
    destinations: dict[str, Section] = field(default_factory=dict)
    targets: dict[str, Section] = field(default_factory=dict)
    file: Path | None = None
    #: Variables that the file refers to by ``password_env = "NAME"``: ours then, whatever they are called.
    referenced: set[str] = field(default_factory=set)


def example_text(info: FieldInfo) -> str:
    """The default where it is worth copying, else the kind's example."""
    kind = kind_of(info)
    default = info.get_default(call_default_factory=False)
    plain = default is not None and not isinstance(default, tuple | dict | bool | BaseModel)
    return kind.show(default) if plain and str(default) and not info.is_required() else kind.example


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``Did you mean X?``, or the names there are when they are few."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]}?"
    if not names or len(names) > 12:
        return "docs/reference/settings.md lists all settings."
    return f"There are: {', '.join(names)}."


def read_secret(path: str, label: str) -> str | Problem:
    """The content of a secret's file without the newline at its end."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        return Problem(
            f"{label} names {path}, which cannot be read: {reason}.",
            "Write the path of a file that this user may read and that holds the secret alone.",
        )
    secret = text.removesuffix("\n").removesuffix("\r")
    return secret or Problem(f"{label} names {path}, which is empty.", "Put the secret into that file.")


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        if rest:
            tree.setdefault(head, {})[rest] = value
        else:
            tree[head] = value
    return tree


def _shown(value: Any) -> str:
    """A value in an error; a password that somebody wrote into an address is masked."""
    text = masked_url(repr(value))
    return text if len(text) <= 80 else f"{text[:80]}…"


def _bad_alias(section: Section, model: type[BaseModel], alias: str) -> Problem:
    expects = kind_of(model.model_fields["alias"]).expects
    if section.origin == "environment":
        return Problem(
            f"{section.label('name')} also names the backups and must be {expects}; {alias!r} is not.",
            f"Use a {CONFIG_VARIABLE} file with [databases.ALIAS] and name = {alias!r}.",
        )
    return Problem(
        f"The ALIAS of [{section.path}] must be {expects}; {alias!r} is not.", "Rename that table."
    )


def expand(model: type[BaseModel], mapping_keys: Iterable[str]) -> list[str]:
    """Every dotted field that can be given, in order: not the alias, not tables of tables."""
    names: list[str] = []
    for name, info in model.model_fields.items():
        annotation, _ = unwrap(info.annotation, [])
        if name == "alias" or (model is Settings and name in TABLES_OF_TABLES):
            continue
        if is_mapping(info):
            names += [f"{name}.{key}" for key in mapping_keys]
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            names += [f"{name}.{inner}" for inner in annotation.model_fields]
        else:
            names.append(name)
    return names
