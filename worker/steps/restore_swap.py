"""Give the finished database its name; take that back (`undo`), or drop the old one (`finish`)."""

from __future__ import annotations

from typing import Any

from worker.config.model import Target
from worker.core.requests import RestoreRequest
from worker.core.restore_plan import before_name, undone_name
from worker.errors import RestoreFailed
from worker.ledger.model import Step
from worker.postgres import replace, targets
from worker.steps.context import Context, Outcome
from worker.steps.restore_choose import check_allowed, notes_so_far, restore_request, target_of
from worker.steps.restore_load import Plan, target_of_plan


def swap(context: Context) -> Outcome:
    """Rename it into its place. Killed at any line, the next attempt finds out by the names what is left to do."""
    plan: Plan = context.step.data["plan"]
    target = target_of_plan(context, plan)
    if plan["mode"] == "in_place":
        return Outcome({"plan": plan, "kept": None})
    if context.step.data.get("swapped") is None:
        done = replace.swap(
            target,
            live=plan["name"],
            new=plan["load"],
            before=plan["before"] or before_name(plan["name"], context.run.id),
            displace=plan["mode"] != "new",
            loaded=plan.get("loaded", {}).get("oid"),
        )
        context.note(swapped={"seconds": round(done.seconds, 3), "sessions": done.ended, "kept": done.kept})
        swapped: dict[str, Any] = {
            "seconds": round(done.seconds, 3),
            "sessions": done.ended,
            "kept": done.kept,
        }
    else:
        swapped = dict(context.step.data["swapped"])
    kept = plan["before"] if swapped["kept"] else None
    if kept and plan["mode"] == "empty":
        if _holds_something(target, kept):
            note = f"{plan['name']} was not empty any more: what came into it meanwhile is kept as {kept}."
            plan = plan | {"notes": [*plan["notes"], note]}
        else:
            targets.drop(target, kept)
            kept = None
    elif kept and restore_request(context.run).drop_old:
        targets.drop(target, kept)
        kept = None
    return Outcome(
        {
            "plan": plan,
            "kept": kept,
            "swap_seconds": swapped["seconds"],
            "sessions_ended": swapped["sessions"],
        }
    )


def _holds_something(target: Target, name: str) -> bool:
    """Asked again, hours after `prepare`; an earlier attempt may have dropped it."""
    with targets.maintenance(target) as connection:
        there = targets.find(connection, name) is not None
    return there and bool(targets.contents(target, name))


def conclude(context: Context) -> Outcome:
    """The run's result: what was restored from where to where, how long each phase took, what was checked."""
    steps = [step for step in context.ledger.steps(context.run.id) if step.state == "done"]
    last = {step.name: step.result for step in steps}
    plan, finish, chosen = last["restore.swap"]["plan"], last["restore.finish"], last["restore.choose"]
    check = last["restore.check"]
    fetched = [step for step in steps if step.name == "restore.fetch_part"]
    wrong = sorted({problem for step in fetched for problem in step.result["wrong"]})
    started = context.run.started_at or context.run.created_at
    ended = max((step.ended_at or started) for step in steps)
    result = {
        "backup_id": chosen["backup_id"],
        "managed": chosen["managed"],
        "sources": sorted({step.result["source"] for step in fetched if step.result["source"]}),
        "damaged_parts": wrong[:20],
        "fetched_bytes": chosen["fetched_bytes"],
        "target": plan["target"],
        "restored_as": plan["name"],
        "kept_as": last["restore.swap"]["kept"],
        "restored_bytes": finish["restored_bytes"],
        "tables": finish["tables"],
        "left_out": check["left_out"],
        "checks": finish["checks"],
        "notes": [*notes_so_far(context), *plan["notes"]],
        "source_server": plan["source_server"],
        "target_server": plan["target_server"],
        "swap_seconds": last["restore.swap"].get("swap_seconds"),
        "sessions_ended": last["restore.swap"].get("sessions_ended"),
        "roles_created": last.get("restore.globals", {}).get("created", []),
        "phases": phases(steps),
        "seconds": round(ended - started, 3),
    }
    return Outcome({"restored_as": plan["name"]}, end="succeeded", run_result=result)


def phases(steps: list[Step]) -> dict[str, float]:
    """Seconds from the beginning of the first to the end of the last step of each name."""
    spans: dict[str, tuple[float, float]] = {}
    for step in steps:
        if step.started_at is None or step.ended_at is None:
            continue
        began, ended = spans.get(step.name, (step.started_at, step.ended_at))
        spans[step.name] = (min(began, step.started_at), max(ended, step.ended_at))
    return {name.partition(".")[2]: round(ended - began, 3) for name, (began, ended) in spans.items()}


def undo(context: Context) -> Outcome:
    """Put back the database that a replace kept; the restored one is kept in turn."""
    target, live, run_id = _of_replace(context)
    kept, undone = before_name(live, run_id), undone_name(live, run_id)
    with targets.maintenance(target) as connection:
        found = targets.find(connection, kept)
        if found is None:
            if targets.find(connection, undone) is None:
                raise _gone(target, kept)
        else:
            replace.check_replace(connection, target, found, kept)
    done = replace.swap(target, live=live, new=kept, before=undone)
    result = {
        "undone": run_id, "target": target.alias, "restored_as": live, "kept_as": undone,
        "swap_seconds": round(done.seconds, 3), "sessions_ended": done.ended,
    }  # fmt: skip
    return Outcome(result, end="succeeded", run_result=result)


def drop_old(context: Context) -> Outcome:
    """Drop for good the database that a replace has kept, or the one that an undo has."""
    target, live, run_id = _of_replace(context)
    kept = before_name(live, run_id)
    with targets.maintenance(target) as connection:
        if targets.find(connection, live) is None:
            raise RestoreFailed(
                f"There is no {live} on {target.alias}: {kept} may be all that is left of it, and is not dropped.",
                f"Give it back its name (ALTER DATABASE … RENAME TO …), or restore {live} first.",
            )
    if not targets.drop(target, kept):
        kept = undone_name(live, run_id)
        if not targets.drop(target, kept) and context.step.attempts == 1:
            raise _gone(target, before_name(live, run_id))
    result = {"finished": run_id, "target": target.alias, "dropped": kept}
    return Outcome(result, end="succeeded", run_result=result)


def _of_replace(context: Context) -> tuple[Target, str, str]:
    """(target, live database, the run that replaced it), as `worker.submit` found them."""
    request = context.run.request
    target = target_of(context.adapters, request["target"], context.run.database)
    check_allowed(RestoreRequest(replace=True, force=True), target)
    return target, str(request["name"]), str(request.get("undo") or request.get("finish"))


def _gone(target: Target, name: str) -> RestoreFailed:
    return RestoreFailed(
        f"There is no database {name} on {target.alias}: nothing was kept, or it was dropped.",
        "`pgfleet run show RUN` says what a restore has kept (kept_as).",
    )
