"""The last step of a run that somebody answers for: what was asked, by whom, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from worker.core.audit import BY_ITSELF, Action
from worker.ledger.model import Run
from worker.steps import audit
from worker.steps.context import Context, Outcome
from worker.steps.restore_choose import OUTPUT

#: `worker.steps.validate` restores into databases of its own under such an alias.
_VALIDATION = "pgfleet-validate"
_REQUEST = (
    "replace",
    "drop_old",
    "force",
    "as_name",
    "tables",
    "schemas",
    "schema_only",
    "data_only",
    "before",
)
_OF_RESTORE = ("restored_as", "kept_as", "sources", "restored_bytes", "seconds", "swap_seconds")
_OF_DRILL = ("verdict", "rto_seconds", "rto_target_seconds", "differences_total", "evidence")


class Story(NamedTuple):
    action: Action
    where: str
    detail: dict[str, Any]


def record_run(context: Context) -> Outcome:
    """Nothing for a dry run, a drill by schedule, a scheduled cleanup that removed nothing, a validation's own data."""
    run = context.run
    told = _story(run)
    if told is None or run.request.get("dry_run") or run.database.startswith(_VALIDATION):
        return Outcome({"written": False})
    error = run.error or {}
    audit.note(
        context.adapters,
        told.action,
        by=run.requested_by,
        database=run.database,
        backup_id=run.backup_id,
        where=told.where,
        result=run.state,
        run_id=run.id,
        at=_moment(run.ended_at),
        same=f"run:{run.id}",
        detail={
            "asked_at": _moment(run.created_at).isoformat(),
            **told.detail,
            **({"error": error.get("message"), "exit_code": error.get("exit_code")} if error else {}),
        },
    )
    return Outcome({"written": True})


def _story(run: Run) -> Story | None:
    if run.kind == "restore":
        return _of_restore(run)
    if run.kind == "drill" and run.requested_by not in BY_ITSELF:
        return Story("drill", str(run.result.get("destination") or ""), _some(run.result, _OF_DRILL))
    if run.kind == "cleanup":
        return _of_cleanup(run)
    return None


def _of_restore(run: Run) -> Story:
    request, result = run.request, run.result
    target = str(result.get("target") or request.get("target") or run.database)
    if request.get("undo") or request.get("finish"):
        action: Action = "undo" if request.get("undo") else "finish"
        name = result.get("restored_as") or result.get("dropped") or request.get("name")
        return Story(
            action,
            f"{target}/{name}",
            {"of_run": request.get(action), **_some(result, ("restored_as", "kept_as", "dropped"))},
        )
    asked = _some(request, _REQUEST)
    if OUTPUT in request:
        return Story("fetch", str(request[OUTPUT]), {"request": asked, **_some(result, ("files", "seconds"))})
    name = result.get("restored_as") or run.data.get("restore", {}).get("name") or "?"
    return Story("restore", f"{target}/{name}", {"request": asked, **_some(result, _OF_RESTORE)})


def _of_cleanup(run: Run) -> Story | None:
    sums = run.result.get("destinations", {})
    did = any(one.get(what) for one in sums.values() for what in ("removed", "orphans", "aborted_uploads"))
    if run.requested_by in BY_ITSELF and not did:
        return None
    detail = {
        "force": bool(run.request.get("force")),
        "destinations": sums,
        "not_removed": run.result.get("not_removed", []),
    }
    return Story("cleanup", ", ".join(sums) or str(run.request.get("destination") or ""), detail)


def _some(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: values[name] for name in names if values.get(name) not in (None, "", [], (), False)}


def _moment(at: float | None) -> datetime:
    return datetime.fromtimestamp(at or 0.0, UTC)
