"""How a drill ends: a verdict, an evidence record beside the manifest, a report, and the state of the run."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from worker import __version__
from worker.core import human
from worker.core.backup import Manifest, backup_type, parse_id
from worker.core.drill import OLDER, Check, Control, Rto, Timed, gates, phases, rto, verdict_of
from worker.core.evidence import canonical, signed_text
from worker.durable import durable_write
from worker.errors import AccessDenied, BackupNotFound, PgfleetError, RtoExceeded, ValidationFailed
from worker.ledger.model import RunState, Step
from worker.report import render
from worker.report.pictures import Past
from worker.steps.context import Context, Outcome
from worker.steps.drill_server import THROWAWAY

log = logging.getLogger("pgfleet.drill")

_PAST = 23  # earlier drills in the trend
_SHOWN = 20  # differences in the run's result
_UNSIGNED = "This evidence is not signed: "

Record = dict[str, Any]


def conclude(context: Context) -> Outcome:
    """`proven`, `refuted` or `could_not_run`; evidence wherever the copy is, the report in the state directory.

    Where this worker's key may only read there, another one puts the evidence: `record`.
    """
    steps = list(context.ledger.steps(context.run.id))
    done = {step.name: step for step in steps if step.state == "done"}
    failure = next((step.error for step in steps if step.state == "failed" and step.error), None)
    if _nothing_older(context, failure):
        none = {"skipped": "There is no backup that old yet."}
        return Outcome(none, end="succeeded", run_result=none)
    record = _record(context, steps, done, failure)
    error = _error(record, failure)
    record["error"] = error
    key, unwritten = None, None
    try:
        key = _keep_evidence(context, record)
    except AccessDenied as denied:
        unwritten = record
        log.info(denied.message, extra={"action": "drill.hand_over", "hint": denied.hint})
    report = _write_report(context, record)
    result = {
        "verdict": record["verdict"],
        "backup_id": record["backup_id"],
        "destination": record["destination"],
        "rto_seconds": record["rto"]["seconds"] or None,
        "rto_target_seconds": record["rto"]["target_seconds"],
        "rto_exceeded": record["rto"]["seconds"] > record["rto"]["target_seconds"],
        "phases": record["rto"]["phases"],
        "differences": record["differences"][:_SHOWN],
        "differences_total": record["differences_total"],
        "compared": record["compared"],
        "control": record["control"],
        "report": report,
        "evidence": key,
        "unsigned": next((note for note in record["notes"] if note.startswith(_UNSIGNED)), ""),
        "at": record["at"],
    }
    state: RunState = record["verdict"]
    kept = {"verdict": state, "report": report, "unwritten": unwritten}
    return Outcome(kept, end=state, run_result=result, error=error)


def record(context: Context) -> Outcome:
    """Put the evidence that the drill's own worker may not put. Raises StorageError."""
    (concluded,) = context.ledger.steps(context.run.id, name="drill.conclude")
    unwritten: Record = concluded.result["unwritten"]
    catalog = context.adapters.catalog(unwritten["destination"])
    return Outcome({"evidence": catalog.evidence_put(unwritten["backup_id"], "drill", unwritten)})


def _nothing_older(context: Context, failure: Mapping[str, Any] | None) -> bool:
    """The schedule also wants an older backup drilled, and a young fleet has none."""
    scheduled = (context.run.job or "").startswith(OLDER)
    return scheduled and failure is not None and failure.get("type") == BackupNotFound.__name__


def _record(
    context: Context, steps: list[Step], done: Mapping[str, Step], failure: Mapping[str, Any] | None
) -> Record:
    """What is known of the drill, whatever it came to. JSON values only."""
    run, now = context.run, datetime.now(UTC)
    chosen = done["restore.choose"].result if "restore.choose" in done else {}
    compared = done["drill.compare"].result if "drill.compare" in done else {}
    examined = done["drill.examine"].result if "drill.examine" in done else {}
    loaded = done["drill.load"].result if "drill.load" in done else {}
    control = done["drill.control"].result["control"] if "drill.control" in done else Control().model_dump()
    checks = [Check.model_validate(check) for check in examined.get("checks", ())]
    bad = [check for check in checks if not check.ok]
    differences = [*compared.get("differences", ()), *(_difference(check) for check in bad)]
    verdict = verdict_of(
        compared=bool(compared) and not failure, differences=bool(differences), control=bool(control["ok"])
    )
    backup = run.backup_id or str(run.request.get("backup", ""))
    manifest = _manifest(context, chosen)
    measured = _rto(context, steps, backup)
    server = dict(run.data.get("drill", {}).get("server", {}))
    snapshot = manifest.snapshot_at if manifest else _time_of(backup) or now
    return {
        "format": 1,
        "kind": "drill",
        "backup_id": backup,
        "at": now.isoformat(),
        "verdict": verdict,
        "ok": verdict == "proven",
        "run_id": run.id,
        "requested_by": run.requested_by,
        "database": run.database,
        "dbname": manifest.dbname if manifest else "",
        "destination": chosen.get("destination") or "",
        "snapshot_at": snapshot.isoformat(),
        "age_seconds": round((now - snapshot).total_seconds(), 1),
        "backup_bytes": manifest.size if manifest else 0,
        "restored_bytes": loaded.get("bytes", 0),
        "recipients": list(manifest.recipients) if manifest else [],
        "client": manifest.client if manifest else "",
        "server": {
            "source": manifest.server.version if manifest else "",
            "drill": server.get("version", ""),
            "kind": _server_kind(server.get("alias", THROWAWAY)),
        },
        "rto": measured.model_dump(),
        "mode": compared.get("mode", ""),
        "compared": compared.get("compared"),
        "differences": differences,
        "differences_total": compared.get("differences_total", 0) + len(bad),
        "expected_changes": compared.get("expected_changes", []),
        "tables": compared.get("tables", [])[:100],
        "checks": {
            "foreign_keys": examined.get("foreign_keys", 0),
            "amcheck": examined.get("indexes", 0),
            "no_amcheck": examined.get("no_index_check", ""),
            "questions": [check.model_dump() for check in checks if check.kind == "question"],
        },
        "control": control,
        "gates": [
            gate.model_dump()
            for gate in gates(
                verdict,
                manifest.encrypted if manifest else None,
                manifest.recipients if manifest else (),
                measured,
            )
        ],
        "notes": _notes(loaded, compared, manifest),
        "pgfleet": __version__,
        "signed_by": "",
    }


def _server_kind(alias: str) -> str:
    return "a throwaway server" if alias == THROWAWAY else f"target {alias}"


def _difference(check: Check) -> Record:
    return {
        "kind": check.kind,
        "what": check.what,
        "expected": check.expected,
        "found": check.found,
        "reason": "",
    }


def _manifest(context: Context, chosen: Mapping[str, Any]) -> Manifest | None:
    """Of the copy that was drilled; None when it has none, or cannot be read any more."""
    if not chosen.get("managed") or not chosen.get("destination"):
        return None
    try:
        return context.adapters.catalog(chosen["destination"]).manifest(chosen["backup_id"])
    except PgfleetError as error:
        log.warning(error.message, extra={"action": "drill.manifest", "hint": error.hint})
        return None


def _time_of(backup: str) -> datetime | None:
    try:
        return parse_id(backup)[1]
    except ValueError:
        return None


def _rto(context: Context, steps: list[Step], backup: str) -> Rto:
    timed = [
        Timed(step.name, step.started_at, step.ended_at, step.bytes_done)
        for step in steps
        if step.state == "done" and step.started_at is not None and step.ended_at is not None
    ]
    began = min((step.began for step in timed), default=0.0)
    cold = _cold_class(context, backup)
    settings = context.settings
    measured = rto(phases(timed, began), context.database.rto_seconds, cold, settings.restore_thaw_tier)
    if any(step.name == "drill.load" for step in timed):
        return measured
    return measured.model_copy(update={"seconds": 0.0, "cold_seconds": None})  # there is no database to time


def _cold_class(context: Context, backup: str) -> str:
    """The coldest storage class that a copy of this backup has by configuration."""
    at = _time_of(backup)
    if at is None:
        return ""
    type_ = backup_type(at.date())
    classes = {
        context.settings.destinations[alias].storage_class.get(type_, "")
        for alias in context.database.destinations
        if alias in context.settings.destinations
    }
    return next((cold for cold in ("DEEP_ARCHIVE", "GLACIER") if cold in classes), "")


def _notes(loaded: Mapping[str, Any], compared: Mapping[str, Any], manifest: Manifest | None) -> list[str]:
    notes = list(loaded.get("notes", ()))
    if "--no-tablespaces" in loaded.get("flags", ()):
        notes.append("Everything was restored into one tablespace.")
    notes += [
        f"Not covered by the fingerprint: {gap['what']} ({gap['why']})."
        for gap in compared.get("not_covered", ())
    ]
    if manifest is not None:
        notes += [f"Not in the backup: {gap.what} ({gap.why})." for gap in manifest.missing]
    if compared.get("fingerprint_seconds"):
        notes.append(f"The fingerprint took {human.duration(compared['fingerprint_seconds'])} at the backup.")
    return notes


def _error(record: Record, failure: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What is wrong, as the run keeps it, with the exit code; None for a drill that proved all it was to prove."""
    if record["verdict"] == "could_not_run":
        return (
            dict(failure) if failure else _as_error(ValidationFailed("The drill did not run to its end.", ""))
        )
    if record["verdict"] == "refuted":
        first, count = record["differences"][0], record["differences_total"]
        more = f" (and {count - 1} more)" if count > 1 else ""
        return _as_error(
            ValidationFailed(
                f"{record['backup_id']} does not restore to what was backed up: {first['kind']} {first['what']}: "
                f"{first['expected']} at the backup, {first['found']} in the copy{more}.",
                "See the report for each difference; drill another copy, and take a new backup.",
            )
        )
    seconds, target = record["rto"]["seconds"], record["rto"]["target_seconds"]
    if seconds > target:
        return _as_error(
            RtoExceeded(
                f"{record['backup_id']} is proven, but its recovery took {human.duration(seconds)} of the "
                f"{human.duration(target)} that are allowed.",
                "The report says which phase took how long.",
            )
        )
    return None


def _as_error(error: PgfleetError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "step": "drill.conclude",
    }


def _keep_evidence(context: Context, record: Record) -> str | None:
    """A drill without a verdict may have nowhere to leave its evidence."""
    destination = record["destination"]
    if not destination:
        return None

    def sign(whole: Record) -> Record:
        record.update(canonical(whole))  # the report is to say the same
        return _signed(context, record)

    try:
        return context.adapters.catalog(destination).evidence_put(record["backup_id"], "drill", record, sign)
    except PgfleetError as error:
        if record["verdict"] != "could_not_run" or isinstance(error, AccessDenied):
            raise
        log.warning(error.message, extra={"action": "drill.evidence", "hint": error.hint})
        return None


def _signed(context: Context, record: Record) -> Record:
    """With its signature where there is a key for it. A key that does not sign takes no verdict away: that says so."""
    key = context.settings.signing_key
    if key is None:
        return record
    record["signed_by"] = key
    passphrase = context.settings.gpg_passphrase_file
    try:
        record["signature"] = context.adapters.gpg.sign(
            signed_text(record), key, passphrase_file=passphrase
        ).decode()
    except PgfleetError as error:
        record["signed_by"] = ""
        record["notes"].append(f"{_UNSIGNED}{error.message}")
        log.warning(error.message, extra={"action": "drill.sign", "hint": error.hint})
    return record


def _write_report(context: Context, record: Record) -> str:
    """The path of the HTML page; the Markdown is beside it."""
    folder = context.settings.state_dir / "reports"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    report = render(record, _past(context))
    path = folder / f"drill-{record['backup_id'] or record['database']}-{context.run.id}.html"
    durable_write(path.with_suffix(".md"), report.markdown.encode())
    durable_write(path.with_suffix(".json"), (json.dumps(record, indent=1) + "\n").encode())
    durable_write(path, report.html.encode())
    return str(path)


def _past(context: Context) -> list[Past]:
    """Earlier drills of the database that came to a verdict, oldest first."""
    ended = context.ledger.runs(
        kind="drill", database=context.run.database, states=("proven", "refuted"), limit=_PAST
    )
    return [
        Past(str(run.result["at"])[:10], float(run.result["rto_seconds"]), str(run.result["verdict"]))
        for run in reversed(ended)
    ]
