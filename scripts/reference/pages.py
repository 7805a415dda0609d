"""The generated files of the documentation, and what makes each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from scripts.reference import cli, client, errors, evidence, exit_codes, json_schema, ledger, manifest, tasks
from worker.config import reference as settings
from worker.metrics import reference as metrics

DIRECTORY = Path(__file__).parents[2] / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "cli.md": cli.render,
    "client.md": client.render,
    "errors.md": errors.render,
    "evidence.md": evidence.render,
    "evidence.schema.json": lambda: json_schema.as_json(evidence.schema()),
    "exit-codes.md": exit_codes.render,
    "ledger.md": ledger.render,
    "manifest.md": manifest.render,
    "manifest.schema.json": lambda: json_schema.as_json(manifest.schema()),
    "metrics.md": metrics.render,
    "settings.md": settings.render,
    "tasks.md": tasks.render,
}


def pages() -> Iterator[tuple[Path, str]]:
    """(file, its text) of each."""
    return ((DIRECTORY / name, render()) for name, render in PAGES.items())
