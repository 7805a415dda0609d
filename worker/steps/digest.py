"""A few lines on each database, sent by schedule to whoever is told of failures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from worker import notify
from worker.core import human
from worker.core.compliance import Json
from worker.core.period import Span
from worker.steps import compliance
from worker.steps.context import Context, Outcome

_FINDINGS = 10  # in all; the rest is counted


def send(context: Context) -> Outcome:
    """Raises NotificationFailed (retried; whoever has taken it is passed over then)."""
    request = context.run.request
    begin, end = (datetime.fromisoformat(str(request[name])) for name in ("from", "until"))
    now = datetime.now(UTC)
    report = compliance.make(
        context.adapters, Span("digest", begin, end), now, by=context.run.requested_by, check=context.check
    )
    told = set(context.step.data.get("told", ()))

    def took(name: str) -> None:
        told.add(name)
        context.note(told=sorted(told))

    title, body = text(report, end - begin, now)
    notify.send(context.settings, title, body, told=frozenset(told), took=took)
    return Outcome({"title": title}, end="succeeded", run_result={"title": title})


def text(report: Json, length: timedelta, now: datetime) -> tuple[str, str]:
    """(title, body)"""
    findings = report["findings"]
    how = f"{len(findings)} to look at" if findings else "all is well"
    lines = [line for part in report["databases"] for line in _of_database(part, length, now)]
    if findings:
        lines += ["", "Look at:", *(f"- {finding['text']}" for finding in findings[:_FINDINGS])]
        lines += [f"- and {len(findings) - _FINDINGS} more"] if len(findings) > _FINDINGS else []
    lines += ["", "See: pgfleet status"]
    return f"pgfleet digest: {how}", "\n".join(lines).strip()


def _of_database(part: Json, length: timedelta, now: datetime) -> Iterator[str]:
    newest, backups, drills = part["newest"], part["backups"], part["rto"]["drills"]
    yield f"{part['database']}"
    if newest is None:
        yield "  no verified backup"
    else:
        where = ", ".join(newest["destinations"])
        yield f"  newest verified backup: {_ago(newest['at'], now)}, in {where} ({human.size(newest['bytes'])})"
    proof = part["proof"]
    yield (
        f"  proven restorable: {_ago(proof['at'], now)}, {proof['backup_id']}" if proof else "  never proven"
    )
    failed = len(part["failed_runs"])
    done = [f"{_count(backups['verified'], 'backup')} verified"]
    done += [f"{len(part['gaps'])} missing"] if part["gaps"] else []
    done += [f"{_count(failed, 'run')} failed"] if failed else []
    done += [_verdicts(drills)] if drills else []
    yield f"  last {human.duration(length.total_seconds())}: {', '.join(done)}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _verdicts(drills: list[dict[str, Any]]) -> str:
    proven = sum(drill["verdict"] == "proven" for drill in drills)
    return f"{proven} of {_count(len(drills), 'drill')} proven"


def _ago(text: str, now: datetime) -> str:
    return f"{human.duration((now - datetime.fromisoformat(text)).total_seconds())} ago"
