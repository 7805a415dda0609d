"""Roles, on request: those that are missing are created, those that are there are left alone and told."""

from __future__ import annotations

import psycopg

from worker.core.statements import identifier, statements
from worker.postgres import targets
from worker.steps.context import Context, Outcome
from worker.steps.restore_check import archives
from worker.steps.restore_load import target_of_plan


def restore_globals(context: Context) -> Outcome:
    """Go through `pg_dumpall --globals-only`: what concerns a role that was there before is not executed."""
    plan = context.step.data["plan"]
    target = target_of_plan(context, plan)
    (path,) = archives(context, "globals")
    created, kept, notes = list[str](), list[str](), list[str]()
    noted = context.step.data.get("before")
    with targets.maintenance(target) as connection:
        there = set(noted if noted is not None else targets.facts(connection).roles)
        if noted is None:  # a second attempt must not take the first one's roles for the server's
            context.note(before=sorted(there))
        for tokens in statements(path.read_text()):
            role = _role(tokens)
            if role is None:
                continue
            if role in there:
                kept.append(role)
                continue
            try:
                connection.execute(" ".join(tokens).encode())
            except psycopg.errors.DuplicateObject:
                pass
            except psycopg.errors.Error as error:
                if connection.closed:
                    raise
                notes.append(f"Role {role}: {(error.diag.message_primary or 'refused').rstrip('.')}.")
                continue
            if tokens[0].upper() == "CREATE":
                created.append(role)
    skipped = sorted(set(kept))
    told = [f"Roles left as they are: {', '.join(skipped)}."] if skipped else []
    plan = plan | {"notes": [*plan["notes"], *told, *notes]}
    return Outcome({"plan": plan, "created": created, "kept": skipped})


def _role(tokens: tuple[str, ...]) -> str | None:
    """The role that a statement of pg_dumpall is about: CREATE or ALTER ROLE x, COMMENT ON ROLE x, GRANT … TO x.

    None for a tablespace and grants on it: these are not made here.
    """
    upper = [token.upper() for token in tokens]
    if upper[:2] in (["CREATE", "ROLE"], ["ALTER", "ROLE"]):
        return identifier(tokens[2])
    if upper[:3] == ["COMMENT", "ON", "ROLE"]:
        return identifier(tokens[3])
    if upper[0] == "GRANT" and "TO" in upper and "TABLESPACE" not in upper:
        return identifier(tokens[upper.index("TO") + 1])
    return None
