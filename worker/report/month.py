"""The report of a month as a document for people, made from its JSON alone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from markupsafe import Markup

from worker.core import human
from worker.report.aligned import aligned
from worker.report.calendar import STATES, calendar
from worker.report.drill import Report, environment
from worker.report.pictures import Past, trend

_ACTIONS = {
    "restore": ("restore", "restores"), "fetch": ("download", "downloads"),
    "undo": ("restore undone", "restores undone"), "finish": ("old database dropped", "old databases dropped"),
    "drill": ("drill on demand", "drills on demand"), "cleanup": ("cleanup", "cleanups"),
    "remove": ("copy removed", "copies removed"), "hold": ("hold", "holds"),
    "release": ("hold released", "holds released"), "cancel": ("run cancelled", "runs cancelled"),
    "settings": ("change of settings", "changes of settings"),
}  # fmt: skip


def render_month(report: Mapping[str, Any]) -> Report:
    """report: as `worker.steps.compliance` makes it."""
    pictures = {
        part["database"]: {
            "calendar": Markup(calendar(part["days"])),  # noqa: S704 - its texts are escaped
            "trend": Markup(_trend(part["rto"])),  # noqa: S704
        }
        for part in report["databases"]
    }
    values = {
        "report": report,
        "title": f"Backup and recovery, {_month(report)}",
        "sentence": _sentence(report),
        "verdict": _verdict(report),
        "pictures": pictures,
        "states": STATES,
        "asked": ", ".join(_asked(*pair) for pair in report["access"]["counts"].items()),
        "total": _total(report),
    }
    made = environment()
    made.filters.update(day=_day, share=_share, time=human.duration)
    return Report(
        aligned(made.get_template("month.md.j2").render(values)),
        made.get_template("month.html.j2").render(values),
    )


def summary(report: Mapping[str, Any]) -> str:
    """One sentence, for a message."""
    total, findings = _total(report), len(report["findings"])
    return (
        f"{total['verified']} of {total['taken']} backups verified, {total['proven']} proven by drills; "
        + (f"{findings} finding{'s' if findings != 1 else ''}." if findings else "nothing to explain.")
    )


def _total(report: Mapping[str, Any]) -> dict[str, int]:
    names = ("owed", "taken", "verified", "proven", "bytes")
    found = {name: sum(part["backups"][name] for part in report["databases"]) for name in names}
    return found | {"gaps": sum(len(part["gaps"]) for part in report["databases"])}


def _verdict(report: Mapping[str, Any]) -> str:
    severities = {finding["severity"] for finding in report["findings"]}
    return "bad" if "bad" in severities else "wait" if severities else "good"


def _sentence(report: Mapping[str, Any]) -> str:
    return {
        "good": "Every backup that was due was taken and verified, and recovery was proven within its target.",
        "wait": "Every backup that was due was taken and verified; something below is to be followed up.",
        "bad": "Something below has to be explained.",
    }[_verdict(report)]


def _month(report: Mapping[str, Any]) -> str:
    return f"{datetime.fromisoformat(report['from']):%B %Y}"


def _asked(action: str, count: int) -> str:
    return f"{count:,} {_ACTIONS.get(action, (action, action))[count != 1]}".replace(",", "\u202f")


def _trend(rto: Mapping[str, Any]) -> str:
    past = [
        Past(f"{datetime.fromisoformat(drill['at']):%m-%d}", drill["seconds"], drill["verdict"])
        for drill in rto["drills"]
        if drill["seconds"] and drill["verdict"] != "could_not_run"
    ]
    return trend(past, rto["target_seconds"])


def _day(text: str | None) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d}" if text else "—"


def _share(value: float | None) -> str:
    return f"{value:.0%}" if value is not None else "—"
