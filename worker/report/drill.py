"""A drill's evidence record, or what a validation came to, as a document for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_eval_context, select_autoescape
from jinja2.nodes import EvalContext
from markupsafe import Markup

from worker.core import human
from worker.core.drill import Phase, reservation
from worker.report.pictures import Past, timeline, trend

_TITLE = {"drill": "Restore drill", "validate": "Validation of the full cycle"}
_SENTENCE = {
    "drill": {
        "proven": "This backup restores to the database that it was taken from.",
        "refuted": "What this backup restores to is not the database that it was taken from.",
        "could_not_run": "This drill came to no verdict. It says nothing about the backup.",
    },
    "validate": {
        "proven": "A database was backed up, lost, restored, and is the same as before.",
        "refuted": "A database was backed up, lost, restored, and is not the same as before.",
        "could_not_run": "The cycle did not run to its end.",
    },
}
#: For a proof that rests on less than everything (`worker.core.drill.reservation`): what can be said all the same.
_RESERVED = {
    "there is no table in it": "This backup restores, and there is no table in it to compare.",
    "row counts only, no content": "This backup restores with the tables and row counts of the database that it was "
    "taken from. What is in the rows was not compared.",
}
_LABEL = {"proven": "Proven", "refuted": "Refuted", "could_not_run": "Could not run"}


class Report(NamedTuple):
    markdown: str
    html: str


def render(record: Mapping[str, Any], past: Sequence[Past] = ()) -> Report:
    """record: as `worker.steps.drill_report` makes it. past: earlier drills of the database, oldest first."""
    rto = record["rto"]
    phases = [Phase.model_validate(phase) for phase in rto["phases"]]
    own = [Past(_moment(record["at"], short=True), rto["seconds"], record["verdict"])]
    shown = [*past, *(own if record["verdict"] != "could_not_run" else ())]
    reserved = reservation(record["compared"]) if record["verdict"] == "proven" else ""
    label, sentence = _LABEL[record["verdict"]], _SENTENCE[record["kind"]][record["verdict"]]
    values = {
        "record": record,
        "title": _TITLE[record["kind"]],
        "sentence": _RESERVED.get(reserved, sentence),
        "drill": record["kind"] == "drill",
        "cycle": max((phase.began + phase.seconds for phase in phases), default=0.0),
        "label": f"{label}: {reserved}" if reserved else label,
        "phases": phases,
        "exceeded": rto["seconds"] > rto["target_seconds"],
        "timeline": Markup(timeline(phases, rto["seconds"])),  # noqa: S704 - its texts are escaped
        "trend": Markup(trend(shown, rto["target_seconds"])),  # noqa: S704
        "drills": len(shown),
    }
    made = environment()
    return Report(
        made.get_template("drill.md.j2").render(values),
        made.get_template("drill.html.j2").render(values),
    )


def environment() -> Environment:
    """Of templates that escape what is foreign, in HTML and in Markdown, with the filters that all of them use."""
    made = Environment(
        loader=PackageLoader("worker.report"),
        autoescape=select_autoescape(("html.j2",)),
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=_number, duration=human.duration, size=human.size, moment=_moment, cell=_cell, short=_short
    )
    return made


@pass_eval_context
def _finalize(context: EvalContext, value: object) -> object:
    """In Markdown, no tag and no link out of a name or a message; HTML is escaped by its own rules."""
    if context.autoescape or not isinstance(value, str):
        return value
    return value.replace("<", "\\<").replace("[", "\\[")


def _number(value: float) -> str:
    """Groups of three, by a narrow space."""
    return f"{value:,}".replace(",", "\u202f")


def _moment(text: str, short: bool = False) -> str:
    at = datetime.fromisoformat(text)
    return f"{at:%Y-%m-%d}" if short else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _cell(value: object) -> str:
    """Text for a cell of a Markdown table."""
    return str(value).replace("|", "\\|").replace("\n", " ")


def _short(text: object, length: int = 300) -> str:
    line = str(text)
    return line if len(line) <= length else f"{line[: length - 1]}…"
