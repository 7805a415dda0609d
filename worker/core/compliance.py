"""The report of a month: from what is known of each database's backups to numbers, gaps and findings.

Values in, JSON values out: no I/O. What is written here is what the page shows, so that the page can be made again
from the stored JSON.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from worker.core import period
from worker.core.period import Span, Window

Json = dict[str, Any]
_MOST = 500  # rows of a list; the rest is counted
KEY_DAYS = 60


@dataclass
class Copy:
    """One copy: removed_at is set when a cleanup has taken it since. reread: the share of its bytes."""

    destination: str
    state: str
    bytes: int
    verified_at: datetime | None = None
    removed_at: datetime | None = None
    proven_at: datetime | None = None
    held: bool = False
    reread: float = 0.0


@dataclass
class Taken:
    """A backup. encrypted: None where no manifest says. only_ledger: no destination has or had it."""

    backup_id: str
    at: datetime
    type: str
    copies: list[Copy]
    encrypted: bool | None = None
    recipients: tuple[str, ...] = ()
    only_ledger: bool = False

    @property
    def verified_at(self) -> datetime | None:
        return min((copy.verified_at for copy in self.copies if copy.verified_at), default=None)


class Drilled(NamedTuple):
    at: datetime
    backup_id: str
    destination: str
    verdict: str
    seconds: float
    target_seconds: float
    by: str
    signed_by: str
    run_id: str


class FailedRun(NamedTuple):
    """A backup run that ended without a verified backup. at: when it was asked for."""

    run_id: str
    at: datetime
    state: str
    why: str


class Removal(NamedTuple):
    at: datetime
    backup_id: str
    destination: str
    bytes: int
    reason: str
    by: str
    result: str


@dataclass
class Database:
    """What is known of one database. runs: None when the ledger is gone; runs_since: how far back it remembers.

    since: from when on backups were owed; None when nothing is known at all.
    """

    alias: str
    schedule: str
    rpo_seconds: int
    rto_seconds: int
    retention: str
    destinations: Sequence[str]
    backups: list[Taken] = field(default_factory=list)
    drills: list[Drilled] = field(default_factory=list)
    removals: list[Removal] = field(default_factory=list)
    runs: list[FailedRun] | None = None
    runs_since: datetime | None = None
    since: datetime | None = None


def of_database(known: Database, span: Span, now: datetime) -> Json:
    """The part of the report about one database."""
    inside = [taken for taken in known.backups if span.has(taken.at)]
    verified = [taken for taken in inside if taken.verified_at is not None]
    drills = [drill for drill in known.drills if span.has(drill.at)]
    owed = period.windows(known.schedule, span, known.since or now, now)
    missing = [window for window in owed if not _served(window, known.backups)]
    gaps = [_gap(window, known) for window in missing]
    proven = {drill.backup_id for drill in drills if drill.verdict == "proven"}
    part: Json = {
        "newest": _newest(known),
        "proof": _proof(known),
        "database": known.alias,
        "schedule": known.schedule or "off",
        "since": _iso(known.since),
        "backups": {
            "owed": len(owed),
            "taken": len(inside),
            "verified": len(verified),
            "proven": len({taken.backup_id for taken in inside} & proven),
            "damaged": sum(any(copy.state == "damaged" for copy in taken.copies) for taken in inside),
            "unencrypted": sum(taken.encrypted is False for taken in inside),
            "removed_since": sum(
                bool(taken.copies) and all(c.removed_at for c in taken.copies) for taken in inside
            ),
            "bytes": sum(max((copy.bytes for copy in taken.copies), default=0) for taken in inside),
            "list": [_taken(taken, proven) for taken in sorted(inside, key=lambda one: one.at)[:_MOST]],
        },
        "rpo": _rpo(known, span, now),
        "rto": _rto(known, drills),
        "gaps": gaps,
        "days": _days(span, inside, missing, owed, proven, now),
        "failed_runs": [
            {"run_id": run.run_id, "at": _iso(run.at), "state": run.state, "why": run.why}
            for run in (known.runs or ())
            if span.has(run.at)
        ][:_MOST],
        "retention": _retention(known, span),
        "copies": [_copies(known, alias) for alias in known.destinations],
    }
    part["findings"] = list(_findings(part))
    return part


def _newest(known: Database) -> Json | None:
    """The newest verified backup that is still stored."""
    there = [
        (taken, [c for c in taken.copies if c.verified_at and not c.removed_at]) for taken in known.backups
    ]
    taken, copies = max(
        ((taken, copies) for taken, copies in there if copies),
        key=lambda pair: pair[0].at,
        default=(None, []),
    )
    if taken is None:
        return None
    return {
        "backup_id": taken.backup_id,
        "at": _iso(taken.at),
        "bytes": max(copy.bytes for copy in copies),
        "destinations": [copy.destination for copy in copies],
    }


def _proof(known: Database) -> Json | None:
    """The newest proof of a copy that is still stored."""
    proven = [
        (copy.proven_at, taken.backup_id, copy.destination)
        for taken in known.backups
        for copy in taken.copies
        if copy.proven_at is not None and not copy.removed_at
    ]
    if not proven:
        return None
    at, backup_id, destination = max(proven)
    return {"at": _iso(at), "backup_id": backup_id, "destination": destination}


def _served(window: Window, backups: Sequence[Taken]) -> bool:
    return any(taken.verified_at is not None and window.begin <= taken.at < window.end for taken in backups)


def _gap(window: Window, known: Database) -> Json:
    """Why there is no verified backup for this window, as far as anybody knows."""
    there = [taken for taken in known.backups if window.begin <= taken.at < window.end]
    runs = [run for run in known.runs or () if window.begin <= run.at < window.end]
    if runs:
        why = "; ".join(f"run {run.run_id} {run.state}: {run.why}" for run in runs[:3])
        cause = "failed"
    elif there:
        why = f"{there[0].backup_id} was stored, but there is no record that it was verified."
        cause = "not verified"
    elif known.runs is None:
        why, cause = "Not known: the ledger cannot be read, and no destination has a trace of one.", "unknown"
    elif known.runs_since is None or window.begin < known.runs_since:
        why, cause = "Not known: the ledger does not remember that time.", "unknown"
    else:
        why, cause = "No run at all: nothing asked for one (is beat running, and the schedule on?).", "no run"
    return {"day": window.begin.date().isoformat(), "due_at": _iso(window.begin), "cause": cause, "why": why}


def _taken(taken: Taken, proven: set[str]) -> Json:
    return {
        "backup_id": taken.backup_id,
        "at": _iso(taken.at),
        "type": taken.type,
        "verified_at": _iso(taken.verified_at),
        "proven": taken.backup_id in proven,
        "encrypted": taken.encrypted,
        "only_ledger": taken.only_ledger,
        "copies": [
            {
                "destination": copy.destination,
                "state": "removed" if copy.removed_at else copy.state,
                "bytes": copy.bytes,
                "removed_at": _iso(copy.removed_at),
            }
            for copy in taken.copies
        ],
    }


def _rpo(known: Database, span: Span, now: datetime) -> Json:
    target = period.allowed(known.schedule, known.rpo_seconds, span.begin)
    snapshots = [taken.at for taken in known.backups if taken.verified_at is not None]
    found = period.longest(snapshots, span, now)
    return {
        "target_seconds": target,
        "set": bool(known.rpo_seconds),
        "reached_seconds": found.seconds if found else None,
        "from": _iso(found.begin) if found else None,
        "until": _iso(found.end) if found else None,
        "met": found.seconds <= target if found else None,
    }


def _rto(known: Database, drills: Sequence[Drilled]) -> Json:
    timed = [drill for drill in drills if drill.verdict != "could_not_run" and drill.seconds]
    slowest = max((drill.seconds for drill in timed), default=None)
    return {
        "target_seconds": known.rto_seconds,
        "reached_seconds": slowest,
        "met": all(drill.seconds <= drill.target_seconds for drill in timed) if timed else None,
        "drills": [
            {
                "at": _iso(drill.at),
                "backup_id": drill.backup_id,
                "destination": drill.destination,
                "verdict": drill.verdict,
                "seconds": drill.seconds,
                "target_seconds": drill.target_seconds,
                "by": drill.by,
                "signed_by": drill.signed_by,
                "run_id": drill.run_id,
            }
            for drill in sorted(drills)[:_MOST]
        ],
    }


def _days(
    span: Span,
    inside: Sequence[Taken],
    missing: Sequence[Window],
    owed: Sequence[Window],
    proven: set[str],
    now: datetime,
) -> list[Json]:
    """Each day of the span: proven, verified, unverified, missing, none (nothing was owed) or ahead."""
    by_day: dict[str, list[Taken]] = {}
    for taken in inside:
        by_day.setdefault(taken.at.date().isoformat(), []).append(taken)
    gone = {window.begin.date() for window in missing}
    due = {window.begin.date() for window in owed}
    found = []
    for day in span.days():
        there = by_day.get(day.isoformat(), [])
        if any(taken.backup_id in proven for taken in there):
            state = "proven"
        elif any(taken.verified_at for taken in there):
            state = "verified"
        elif there:
            state = "unverified"
        elif day in gone:
            state = "missing"
        else:
            state = "ahead" if day > now.date() else "late" if day in due else "none"
        found.append({"day": day.isoformat(), "state": state, "backups": len(there)})
    return found


def _retention(known: Database, span: Span) -> Json:
    inside = sorted(removal for removal in known.removals if span.has(removal.at))
    return {
        "policy": known.retention,
        "removed": len([one for one in inside if one.result == "removed"]),
        "bytes": sum(one.bytes for one in inside if one.result == "removed"),
        "list": [
            {**one._asdict(), "at": _iso(one.at)} for one in inside[:_MOST]
        ],
    }  # fmt: skip


def _copies(known: Database, destination: str) -> Json:
    """As they are when the report is made."""
    there = [
        c
        for taken in known.backups
        for c in taken.copies
        if c.destination == destination and not c.removed_at
    ]
    size = sum(copy.bytes for copy in there)
    count = {
        state: sum(copy.state == state for copy in there) for state in ("verified", "unverified", "damaged")
    }
    return {
        "destination": destination,
        "copies": len(there),
        **count,
        "held": sum(copy.held for copy in there),
        "bytes": size,
        "reread_share": round(sum(copy.reread * copy.bytes for copy in there) / size, 4) if size else None,
    }


def _findings(part: Json) -> Iterator[Json]:
    """What somebody who reads the report will ask about."""
    name, backups, rpo = part["database"], part["backups"], part["rpo"]
    if part["gaps"]:
        count = len(part["gaps"])
        yield _bad(
            f"{name}: {count} of {backups['owed']} backups that were due are missing or were never verified."
        )
    if rpo["met"] is False:
        yield _bad(f"{name}: verified backups were further apart than the target allows.")
    if rpo["met"] is None:
        yield _bad(f"{name}: there is no verified backup.")
    yield from _of_drills(name, part["rto"])
    if backups["damaged"]:
        yield _bad(f"{name}: {backups['damaged']} backups have a damaged copy.")
    if backups["unencrypted"]:
        yield _bad(f"{name}: {backups['unencrypted']} backups are stored unencrypted.")


def _of_drills(name: str, rto: Json) -> Iterator[Json]:
    for drill in rto["drills"]:
        if drill["verdict"] == "refuted":
            yield _bad(f"{name}: the drill of {drill['backup_id']} in {drill['destination']} refuted it.")
    if rto["met"] is False:
        yield _bad(f"{name}: a recovery took longer than the target allows.")
    if not any(drill["verdict"] == "proven" for drill in rto["drills"]):
        yield _wait(f"{name}: no backup was proven by a drill in this time.")


def _bad(text: str) -> Json:
    return {"severity": "bad", "text": text}


def _wait(text: str) -> Json:
    return {"severity": "wait", "text": text}


def findings(
    databases: Sequence[Json], keys: Sequence[Json], access: Json, unread: Mapping[str, str]
) -> list[Json]:
    """Of the whole report."""
    found = [finding for part in databases for finding in part["findings"]]
    for alias, why in unread.items():
        found.append(_bad(f"Destination {alias} could not be read, so what it holds is missing here: {why}"))
    if access["tampered"]:
        found.append(
            _bad(f"{access['tampered']} audit records were changed after writing, or cannot be read.")
        )
    for key in keys:
        days = key["days_left"]
        if key["problem"]:
            found.append(_wait(f"Keys of {key['database']}: {key['problem']}"))
        elif days is not None and days < KEY_DAYS:
            found.append(
                _wait(f"Key {key['fingerprint'][-16:]} of {key['database']} expires in {days} days.")
            )
    return found


def _iso(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None
