"""What a report is made of, read from the destinations: manifests, evidence, audit records; the ledger adds why
something failed, and may be gone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from worker import __version__
from worker.catalog import Entry as CopyEntry
from worker.catalog.reader import load, moment
from worker.config.model import Database as Configured
from worker.config.model import Retention, Settings
from worker.core import compliance, keys
from worker.core.audit import ANY, TAMPERED, Entry
from worker.core.backup import parse_id
from worker.core.compliance import Copy, Drilled, FailedRun, Json, Removal, Taken
from worker.core.controls import CONTROLS
from worker.core.period import Span
from worker.errors import ObjectArchived, ObjectMissing, PgfleetError
from worker.ledger.model import Run
from worker.steps.audit_trail import Trail, trail
from worker.steps.context import Adapters
from worker.steps.inventory import Listed

_RUNS = 10_000
_ACCESS = 500
_NO_BACKUP = ("incomplete",)


def make(
    adapters: Adapters, span: Span, now: datetime, *, by: str, check: Callable[[], None] = lambda: None
) -> Json:
    """The report of that time, JSON values. A destination that cannot be read is named in it."""
    seen = trail(adapters, since=span.begin)
    check()
    databases = []
    ledger = seen.ledger
    for database in adapters.settings.databases.values():
        known = _known(adapters, database, seen, span)
        try:
            _of_ledger(adapters, known)
        except PgfleetError as error:
            ledger = ledger or error.message
            known.runs = None
        databases.append(compliance.of_database(known, span, now))
        check()
    unread = {alias: error.message for alias, error in seen.failures.items()}
    keys_ = [
        one
        for database in adapters.settings.databases.values()
        for one in _keys(adapters, database, seen, now)
    ]
    access = _access(seen, span)
    return {
        "format": 1,
        "kind": "report",
        "month": span.name,
        "from": span.begin.isoformat(),
        "until": span.end.isoformat(),
        "made_at": now.isoformat(),
        "made_by": by,
        "complete": now >= span.end,
        "pgfleet": __version__,
        "ledger": ledger,
        "records_since": seen.first_at.isoformat() if seen.first_at else None,
        "destinations": [
            _destination(adapters, alias, unread.get(alias)) for alias in adapters.settings.destinations
        ],
        "databases": databases,
        "keys": keys_,
        "access": access,
        "findings": compliance.findings(databases, keys_, access, unread),
        "notes": list(_notes(seen, span, ledger)),
        "controls": [control._asdict() for control in CONTROLS],
        "signed_by": adapters.settings.signing_key or "",
    }


def _known(adapters: Adapters, database: Configured, seen: Trail, span: Span) -> compliance.Database:
    listed = [item for item in seen.listed if item.database == database.alias]
    removals = [
        entry for entry in seen.entries if entry.action == "remove" and entry.database == database.alias
    ]
    backups = {item.backup_id: _taken(item) for item in listed if _is_backup(item)}
    for entry in removals:
        _add_removed(backups, entry)
    known = compliance.Database(
        alias=database.alias,
        schedule=database.schedule,
        rpo_seconds=database.rpo_seconds,
        rto_seconds=database.rto_seconds,
        retention=_policies(adapters.settings, database),
        destinations=database.destinations,
        backups=list(backups.values()),
        drills=list(_drills(adapters, listed, removals, span)),
        removals=[_removal(entry) for entry in removals],
        runs=None,
    )
    known.since = min((taken.at for taken in known.backups), default=None)
    return known


def _is_backup(item: Listed) -> bool:
    return any(copy.state not in _NO_BACKUP for copy in item.copies.values())


def _taken(item: Listed) -> Taken:
    copies = {alias: copy for alias, copy in item.copies.items() if copy.state not in _NO_BACKUP}
    manifest = next((copy.manifest for copy in copies.values() if copy.manifest), None)
    first = next(iter(copies.values()))
    return Taken(
        item.backup_id,
        manifest.snapshot_at if manifest else first.at,
        first.type,
        [_copy(alias, copy) for alias, copy in copies.items()],
        manifest.encrypted if manifest else None,
        manifest.recipients if manifest else (),
    )


def _copy(alias: str, copy: CopyEntry) -> Copy:
    return Copy(
        alias, copy.state, copy.size, copy.verified_at, None, copy.proven_at, copy.held, copy.scrubbed
    )


def _add_removed(backups: dict[str, Taken], entry: Entry) -> None:
    """A copy that a cleanup has taken, as its removal's record tells of it."""
    copy, backup = entry.detail.get("copy"), entry.backup_id
    if entry.result != "removed" or backup is None or not isinstance(copy, dict):
        return
    try:
        at = moment(copy.get("taken_at")) or parse_id(backup)[1]
    except ValueError:
        return
    checks = [check for check in copy.get("evidence", {}).get("verify", ()) if check.get("ok") is True]
    taken = backups.setdefault(
        backup,
        Taken(
            backup,
            at,
            str(copy.get("type", "")),
            [],
            copy.get("encrypted"),
            tuple(copy.get("recipients", ())),
        ),
    )
    taken.copies.append(
        Copy(
            entry.where,
            str(copy.get("state", "")),
            int(copy.get("bytes") or 0),
            moment(checks[-1].get("at")) if checks else None,
            removed_at=entry.at,
        )
    )


def _removal(entry: Entry) -> Removal:
    copy = entry.detail.get("copy") or {}
    return Removal(
        entry.at,
        entry.backup_id or "",
        entry.where,
        int(copy.get("bytes") or 0),
        str(entry.detail.get("reason") or ""),
        entry.who,
        entry.result,
    )


def _drills(adapters: Adapters, listed: list[Listed], removals: list[Entry], span: Span) -> Iterator[Drilled]:
    for item in listed:
        for alias, copy in item.copies.items():
            for info in copy.objects:
                name, at = keys.parse(info.key), keys.evidence_time(info.key)
                if name is not None and name.evidence == "drill" and at is not None and span.has(at):
                    record = _record(adapters, alias, info.key)
                    yield from _drilled(record, item.backup_id, alias, record.get("rto") or {})
    for entry in removals:
        was = entry.detail.get("copy") or {}
        for short in was.get("evidence", {}).get("drill", ()):
            if entry.result == "removed":
                yield from _drilled(short, entry.backup_id or "", entry.where, short)


def _drilled(
    record: Mapping[str, Any], backup: str, destination: str, times: Mapping[str, Any]
) -> Iterator[Drilled]:
    at = moment(record.get("at"))
    if at is not None:
        yield Drilled(
            at,
            backup,
            destination,
            str(record.get("verdict", "")),
            float(times.get("seconds") or 0.0),
            float(times.get("target_seconds") or 0.0),
            str(record.get("requested_by") or ""),
            str(record.get("signed_by") or ""),
            str(record.get("run_id") or ""),
        )


def _record(adapters: Adapters, alias: str, key: str) -> Mapping[str, Any]:
    try:
        record = json.loads(load(adapters.store(alias), key))
    except (ValueError, ObjectMissing, ObjectArchived):
        return {}
    return record if isinstance(record, dict) else {}


def _of_ledger(adapters: Adapters, known: compliance.Database) -> None:
    """Why backups failed, and those of which no destination has a trace any more. Raises LedgerUnavailable."""
    runs = adapters.ledger.runs(kind="backup", database=known.alias, limit=_RUNS)
    there = {taken.backup_id for taken in known.backups}
    for run in runs:
        if run.state == "verified" and run.backup_id and run.backup_id not in there:
            known.backups.append(_only_in_ledger(run))
    known.runs = [_failed(run) for run in runs if run.state in ("failed", "damaged", "cancelled")]
    known.runs_since = min((_moment(run.created_at) for run in runs), default=None)
    known.since = min((at for at in (known.since, known.runs_since) if at is not None), default=None)


def _only_in_ledger(run: Run) -> Taken:
    at, ended = parse_id(str(run.backup_id))[1], _moment(run.ended_at or run.created_at)
    copies = [
        Copy(copy["destination"], "gone", int(copy.get("bytes") or 0), ended, removed_at=ended)
        for copy in run.result.get("copies", ())
        if copy.get("state") == "verified"
    ]
    return Taken(str(run.backup_id), at, "", copies, only_ledger=True)


def _failed(run: Run) -> FailedRun:
    message = (run.error or {}).get("message") or "no reason is recorded"
    return FailedRun(run.id, _moment(run.scheduled_for or run.created_at), run.state, str(message))


def _policies(settings: Settings, database: Configured) -> str:
    """One for all destinations, or each with its own."""
    found = {alias: policy(settings.retention(database.alias, alias)) for alias in database.destinations}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"in {alias} {text}" for alias, text in found.items())


def policy(retention: Retention) -> str:
    """In words, without the rules that keep nothing."""
    rules = (
        ("daily for {} days", retention.daily_days),
        ("weekly for {} weeks", retention.weekly_weeks),
        ("monthly for {} months", retention.monthly_months),
        ("yearly for {} years", retention.yearly_years),
        ("the newest {}", retention.keep_last),
        ("all of the last {} days", retention.keep_within_days),
        ("never fewer than {}", retention.minimum),
    )
    return ", ".join(text.format(number) for text, number in rules if number)


def _keys(adapters: Adapters, database: Configured, seen: Trail, now: datetime) -> Iterator[Json]:
    """The keys that backups are encrypted to; from the newest manifest where the public keys are not here."""
    base: Json = {
        "database": database.alias, "fingerprint": "", "user_id": "", "expires": None, "days_left": None,
        "algorithm": "", "problem": "",
    }  # fmt: skip
    if not database.recipients:
        yield base | {"problem": "nobody is configured to encrypt to."}
        return
    try:
        for key in adapters.gpg.resolve(database.recipients):
            yield base | {
                "fingerprint": key.fingerprint,
                "user_id": key.user_id,
                "expires": key.expires.date().isoformat() if key.expires else None,
                "days_left": (key.expires - now).days if key.expires else None,
                "algorithm": f"{key.algorithm} {key.bits}".strip(),
            }
    except PgfleetError as error:
        yield base | {
            "fingerprint": ", ".join(_last_recipients(seen, database.alias)),
            "problem": f"they cannot be looked at on this host: {error.message}",
        }


def _last_recipients(seen: Trail, database: str) -> tuple[str, ...]:
    for item in seen.listed:  # newest first
        for copy in item.copies.values():
            if item.database == database and copy.manifest is not None:
                return copy.manifest.recipients
    return ()


def _access(seen: Trail, span: Span) -> Json:
    inside = [entry for entry in seen.entries if span.has(entry.at)]
    shown = [entry for entry in inside if entry.action != "remove"]
    return {
        "counts": dict(Counter(entry.action for entry in inside)),
        "signed": sum(entry.trust == "signed" for entry in inside),
        "records": sum(entry.trust not in ("evidence", "ledger") for entry in inside),
        "tampered": sum(entry.trust in TAMPERED for entry in inside),
        "omitted": max(0, len(shown) - _ACCESS),
        "list": [
            {
                "at": entry.at.isoformat(),
                "by": entry.who,
                "action": entry.action,
                "about": entry.backup_id or ("" if entry.database == ANY else entry.database),
                "where": entry.where,
                "result": entry.result,
                "changed": [str(one.get("name")) for one in entry.detail.get("changed") or ()],
                "signature": entry.trust,
            }
            for entry in shown[:_ACCESS]
        ],
    }


def _destination(adapters: Adapters, alias: str, unread: str | None) -> Json:
    destination = adapters.destination(alias)
    return {
        "destination": alias,
        "kind": destination.kind,
        "object_lock": destination.object_lock,
        "object_lock_days": destination.object_lock_days,
        "unread": unread,
    }


def _notes(seen: Trail, span: Span, ledger: str) -> Iterator[str]:
    """What this report cannot know."""
    if ledger:
        yield (
            f"The ledger could not be read ({ledger}). Backups, drills and removals are counted from the destinations; "
            "why a backup failed, and runs that left nothing there, cannot be known."
        )
    if seen.first_at is None or seen.first_at > span.begin:
        begin = f"begin on {seen.first_at:%Y-%m-%d}" if seen.first_at else "have not begun"
        yield (
            f"The audit records at the destinations {begin}: backups that were removed before that are counted only "
            "as far as the ledger remembers them, and who asked for what before that is known from evidence alone."
        )
    yield "Copies, their state and the keys are as they were when this report was made; all else is of its time."


def _moment(at: float | None) -> datetime:
    return datetime.fromtimestamp(at or 0.0, UTC)
