"""What is known of a copy that is about to be removed, kept in the audit record of its removal: its evidence goes with
it, and a report of the month in which it was taken still has to count it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from worker.catalog import Catalog, Entry, Record
from worker.errors import PgfleetError
from worker.steps import audit
from worker.steps.context import Context

_KEPT = {
    "verify": ("at", "ok", "bytes"),
    "scrub": ("at", "ok", "covered"),
    "drill": ("at", "verdict", "run_id", "requested_by", "signed_by"),
    "restore": ("at", "state", "run_id", "requested_by", "restored_as", "target"),
    "hold": ("at", "held", "reason", "until", "by"),
}
_MOST = 50  # of each kind, the newest


def record_removal(context: Context, catalog: Catalog, entry: Entry) -> None:
    """Before anything of it is gone. A second attempt writes no second record."""
    data, run = context.step.data, context.run
    begun = data.get("audit_at") or datetime.now(UTC).isoformat()
    if "audit_at" not in data:
        context.note(audit_at=begun)
    destination = data["destination"]
    audit.note(
        context.adapters,
        "remove",
        by=run.requested_by,
        database=run.database,
        backup_id=entry.backup_id,
        where=destination,
        result="begun",
        run_id=run.id,
        at=datetime.fromisoformat(begun),
        same=f"remove:{run.id}:{destination}:{entry.backup_id}",
        destinations=[destination],
        detail={
            "rule": data.get("rule", ""),
            "reason": data.get("reason", ""),
            "force": bool(run.request.get("force")),
            "copy": about(entry, _evidence(catalog, entry)),
        },
    )


def _evidence(catalog: Catalog, entry: Entry) -> list[Record]:
    try:
        return catalog.evidence(entry.backup_id)
    except PgfleetError:
        return []


def about(entry: Entry, records: list[Record]) -> dict[str, Any]:
    """A copy in short: what its manifest says, and each thing that was recorded of it."""
    manifest = entry.manifest
    found: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        kind = str(record.get("kind"))
        short = {name: record[name] for name in _KEPT.get(kind, ()) if record.get(name) is not None}
        if kind == "drill" and isinstance(record.get("rto"), dict):
            short |= {name: record["rto"].get(name) for name in ("seconds", "target_seconds")}
        if short:
            found[kind] = [*found.get(kind, ()), short][-_MOST:]
    return {
        "state": entry.state,
        "type": entry.type,
        "taken_at": (manifest.snapshot_at if manifest else entry.at).isoformat(),
        "bytes": entry.size,
        "encrypted": manifest.encrypted if manifest else None,
        "recipients": list(manifest.recipients) if manifest else [],
        "evidence": found,
    }
