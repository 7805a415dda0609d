"""What a fingerprint cannot tell: do the foreign keys hold, are the indexes sound, and what does the user ask?"""

from __future__ import annotations

from contextlib import closing

from worker.core.backup import parse_id
from worker.core.drill import Check
from worker.postgres import questions, soundness
from worker.postgres.targets import enter, restoring
from worker.steps.context import Context, Outcome
from worker.steps.drill_server import drill_target


def examine(context: Context) -> Outcome:
    """Each check with its outcome; what is not as it must be, the conclusion counts as a difference."""
    target, name = drill_target(context)
    with (
        restoring(target, name),
        closing(enter(target, name, application_name=f"pgfleet drill {context.run.id}")) as connection,
    ):
        soundness.unhindered(connection)
        keys = soundness.foreign_keys(connection, context.check)
        indexes, why = soundness.indexes(connection, context.check)
        asked: list[Check] = []
        folder = context.database.drill_questions
        if folder is not None:
            _, taken_at = parse_id(str(context.run.backup_id))
            asked = questions.ask(connection, questions.load(folder), taken_at, context.check)
    checks = [*keys, *indexes, *asked]
    return Outcome(
        {
            "checks": [check.model_dump() for check in checks],
            "foreign_keys": len(keys),
            "indexes": len(indexes),
            "no_index_check": why,
            "questions": len(asked),
        }
    )
