"""Names in prose and examples that look like ours, and whether the program has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import yaml

from scripts.reference.cli import commands
from scripts.reference.errors import RECORDED
from scripts.reference.exit_codes import MEANINGS
from scripts.reference.known import ERRORS
from scripts.reference.tasks import registered
from tests.docs.conftest import ROOT
from tests.docs.links import FENCE
from worker.config.variables import KNOWN
from worker.ledger.model import RunKind, RunState
from worker.metrics.names import METRICS

#: They look like ours and are not: misspelt on purpose, of Compose or Kubernetes; databases, networks.
NOT_OURS = frozenset({"S3_BUKET", "S3_IMAGE", "PGFLEET_FLOWER_PORT"})
NOT_METRICS = ("pgfleet_validate_", "pgfleet_drill_", "pgfleet_database", "pgfleet_backend")
_VARIABLE = re.compile(
    r"(?<![\w$.-])(?P<name>(?:PGFLEET|DB|S3)_[A-Z0-9_]*[A-Z0-9]_?)(?P<open>\*|…)?(?![a-z])"
)
_METRIC = re.compile(r"(?<![\w./-])pgfleet_[a-z_]+")
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_CALL = re.compile(
    r"(?P<first>(?:^|&&|[|;]|--)\s*(?:\w+=\S+\s+)*(?:[\w./]*/)?)?(?<![\w.-])pgfleet(?::\S+)?[ \t]+(?=(?P<rest>[^\n`]+))"
)
_END = re.compile(r"\s--\s|[;|<>&#)]|\s[\"']")
_ERROR = re.compile(
    r"\b(?:[A-Z][a-z]+)+(?:Error|Failed|Unavailable|Missing|Denied|Exceeded|Found|Damaged|Exists|Archived|Locked|Gone|Lost)\b"
)
_TASK = re.compile(
    r"(?<![\w./-])(?P<kind>backup|restore|drill|cleanup|verify|scrub|copy|audit|report|digest)\.(?P<step>[a-z_]+)\b(?![./-])"
)
_INSTALL = re.compile(r"\bpip install\b(?P<what>[^\n`|&;]*)")
_SUFFIXES = frozenset(
    {"env", "asc", "md", "toml", "service", "timer", "json", "sql", "gpg", "sh", "py", "html", "sock"}
)
_CODE = re.compile(r"\bexit(?:s|ed)?(?: with)? codes? (?P<code>\d+)")


@cache
def alerts() -> frozenset[str]:
    rules = yaml.safe_load((ROOT / "compose/prometheus/alerts.yml").read_text())
    return frozenset(rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule)


@cache
def tree() -> dict[str, click.Command]:
    """``restore undo`` → its command."""
    return {path.removeprefix("pgfleet").strip(): command for path, command in commands()}


def options(command: click.Command) -> set[str]:
    own = {option for param in command.params for option in (*param.opts, *param.secondary_opts)}
    return {option for option in own if option.startswith("-")} | {"--help", "-h"}


def unknown(text: str) -> Iterator[str]:
    """What a document names and the program does not have."""
    yield from _variables(text)
    yield from (
        name for name in _METRIC.findall(text) if name not in _metrics() and not name.startswith(NOT_METRICS)
    )
    yield from (
        f"exit code {found['code']}" for found in _CODE.finditer(text) if int(found["code"]) not in MEANINGS
    )
    for found in _INSTALL.finditer(text):  # pgfleet is on no index: whose package would that be?
        words = found["what"].split()
        if "--no-index" not in words and any(re.fullmatch(r"'?pgfleet(\[.*)?", word) for word in words):
            yield found[0].strip()
    for code in _code(text):
        yield from _calls(code)
        yield from (name for name in _ERROR.findall(code) if name not in {*ERRORS, *RECORDED, *alerts()})
        yield from _tasks(code)


def _variables(text: str) -> Iterator[str]:
    for found in _VARIABLE.finditer(text):
        name = found["name"]
        if found["open"] or name.endswith("_"):
            if not any(known.startswith(name) for known in KNOWN):
                yield f"{name}{found['open'] or ''}"
        elif name not in KNOWN and name not in NOT_OURS:
            yield name


@cache
def _metrics() -> frozenset[str]:
    return frozenset(metric.name for metric in METRICS)


def _code(text: str) -> Iterator[str]:
    """Code in running text, and the commands of shell blocks; what these print is not ours to judge."""
    for fence in FENCE.finditer(text):
        language = (fence["info"].split() or [""])[0]
        body = fence["body"].replace("\\\n", " ")
        if language == "console":
            yield from (
                line.lstrip()[2:] for line in body.splitlines() if line.lstrip().startswith(("$ ", "# "))
            )
        elif language in ("sh", "bash", "cron"):
            yield from body.splitlines()
    yield from (found[1] for found in _SPAN.finditer(FENCE.sub("", text)))


def _calls(code: str) -> Iterator[str]:
    for call in _CALL.finditer(code):
        rest = _END.split(call["rest"])[0].split()
        path = ""
        while rest and (longer := f"{path} {rest[0]}".strip()) in tree():
            path = longer
            rest.pop(0)
        if not path and rest and not re.fullmatch(r"[a-z]+", rest[0]):
            continue  # `pgfleet COMMAND`, `pgfleet … --here`
        if not path and rest:
            if call["first"] is not None:  # elsewhere it may be an argument
                yield f"pgfleet {rest[0]}"
            continue
        command = tree()[path]
        given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
        group = isinstance(command, click.Group) and rest and re.fullmatch(r"[a-z]+", rest[0])
        yield from (f"pgfleet {path} {one}" for one in sorted(given - options(command)))
        if group:
            yield f"pgfleet {path} {rest[0]}"


def _tasks(code: str) -> Iterator[str]:
    events = {f"{kind}.{state}" for kind in RunKind.__args__ for state in RunState.__args__}
    for found in _TASK.finditer(code):
        if found["step"] not in _SUFFIXES and found[0] not in {*registered(), *events}:
            yield found[0]


def documents() -> list[Path]:
    named = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "systemd/README.md")
    return [*(ROOT / name for name in named), *sorted(ROOT.glob("docs/**/*.md"))]
