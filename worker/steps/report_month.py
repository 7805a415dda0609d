"""Write the report of a month by schedule, sign it, and store it beside the backups: once, and never again changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from worker.catalog.reader import load
from worker.core import period
from worker.core.compliance import Json
from worker.errors import ObjectMissing, PgfleetError, StorageError
from worker.report import render_month, summary
from worker.steps import audit, compliance
from worker.steps.context import Adapters, Context, Outcome

log = logging.getLogger("pgfleet.report")

PREFIX = "pgfleet-report-"
SIGNATURE = ".asc"


class Document(NamedTuple):
    """signature: detached and armored, over exactly these bytes; None where nothing signs here."""

    content: bytes
    signature: bytes | None


def documents(adapters: Adapters, report: Json) -> dict[str, Document]:
    """json, md and html. The JSON is first: from it the others can be made again."""
    plain = as_json(report)
    signature = audit.sign(adapters, plain)
    if signature is None:
        report = report | {"signed_by": ""}
        plain = as_json(report)
    made = render_month(report)
    rest = {"md": made.markdown.encode(), "html": made.html.encode()}
    signed = {
        form: Document(content, audit.sign(adapters, content) if signature else None)
        for form, content in rest.items()
    }
    return {"json": Document(plain, signature), **signed}


def as_json(report: Mapping[str, Any]) -> bytes:
    return (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode()


def make(context: Context) -> Outcome:
    """``{"month", "summary", "findings", "stored": {destination: [page]}, "missed": {destination: why}}``.

    A destination that does not answer is asked again with each attempt, and does without after the last one. Raises
    StorageError when none took the report.
    """
    adapters, run = context.adapters, context.run
    span = period.month(str(run.request["month"]))
    name = f"{PREFIX}{span.name}-{run.id}"
    report = _begun(adapters, f"{name}.json")
    if report is None:
        report = compliance.make(adapters, span, datetime.now(UTC), by=run.requested_by, check=context.check)
    files = documents(adapters, report)
    stored: dict[str, list[str]] = {}
    missed: dict[str, PgfleetError] = {}
    for alias in adapters.settings.destinations:
        context.check()
        try:
            _store(adapters, alias, name, files)
            stored[alias] = [f"{name}.html"]
        except PgfleetError as error:
            missed[alias] = error
    last = context.step.attempts >= context.step.max_attempts
    for problem in missed.values():
        if not stored or (problem.retryable and not last):
            raise problem
    result = {
        "month": span.name,
        "summary": summary(report),
        "findings": len(report["findings"]),
        "signed": files["json"].signature is not None,
        "stored": stored,
        "missed": {alias: problem.message for alias, problem in missed.items()},
    }
    return Outcome({"stored": list(stored)}, end="succeeded", run_result=result)


def _begun(adapters: Adapters, key: str) -> Json | None:
    """What an earlier attempt has stored: all destinations are to say the same."""
    for alias in adapters.settings.destinations:
        try:
            found = json.loads(load(adapters.store(alias), key))
        except (ObjectMissing, ValueError):
            continue
        except StorageError as error:
            log.info(error.message, extra={"action": "report.begun"})
            continue
        if isinstance(found, dict):
            return found
    return None


def _store(adapters: Adapters, alias: str, name: str, files: Mapping[str, Document]) -> None:
    for form, document in files.items():
        audit.put_once(adapters, alias, f"{name}.{form}", document.content)
        if document.signature is not None:
            audit.put_once(adapters, alias, f"{name}.{form}{SIGNATURE}", document.signature)
