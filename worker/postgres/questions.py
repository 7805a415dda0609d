"""A user's own questions to a restored copy: a directory of .sql files, each with the answer that is expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

import psycopg

from worker.core.drill import Check, Question, answers, question
from worker.errors import ConfigError
from worker.postgres.server import Connection


def load(folder: Path) -> list[Question]:
    """Of every .sql file in it, by name. Raises ConfigError when one is not a question, or there is none."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".sql")
        found = [question(path.name, path.read_text()) for path in paths]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The drill's questions in {folder} cannot be read: {error}.", "Check drill_questions."
        ) from error
    if not found:
        raise ConfigError(
            f"There is no .sql file in {folder}.", "Write a question, or unset drill_questions."
        )
    return found


def ask(
    connection: Connection, asked: Iterable[Question], taken_at: datetime, alive: Callable[[], None]
) -> list[Check]:
    """Each in a read-only transaction that sees ``current_setting('pgfleet.snapshot_at')``: the backup's own now."""
    checks = []
    connection.execute("SELECT set_config('pgfleet.snapshot_at', %s, false)", [taken_at.isoformat()])
    for one in asked:
        alive()
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("SET TRANSACTION READ ONLY")
                rows = connection.execute(one.sql.encode()).fetchmany(2)
            ok, found = _judge(one, rows)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            ok, found = False, f"error: {str(error).splitlines()[0]}"
        checks.append(Check(kind="question", what=one.name, ok=ok, expected=one.expect, found=found))
    return checks


def _judge(one: Question, rows: list[tuple[object, ...]]) -> tuple[bool, str]:
    if len(rows) != 1 or len(rows[0]) != 1:
        return False, f"{len(rows) or 'no'} row(s) instead of one value"
    value = rows[0][0]
    return answers(one.expect, value), "NULL" if value is None else str(value)
