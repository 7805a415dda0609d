"""Is a freshly loaded database whole? Statistics for the planner, and checks that need nothing but a manifest."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from psycopg.sql import SQL, Identifier

from worker.config.model import Target
from worker.core import human
from worker.core.backup import TableCount
from worker.core.toc import Toc
from worker.postgres.queries import query
from worker.postgres.server import Connection
from worker.postgres.targets import session

Item = TypeVar("Item")
_SHOWN = 20


class Checked(NamedTuple):
    """One check: what was looked at, whether it is as it must be, and what was found. note: worth a look."""

    name: str
    ok: bool
    detail: str
    note: bool = False


def analyze(target: Target, dbname: str, jobs: int, alive: Callable[[], None]) -> int:
    """ANALYZE every table, `jobs` at a time; how many. `alive` is called between two; what it raises ends it."""
    with session(target, dbname) as connection:
        tables = [(row[0], row[1]) for row in connection.execute(query("restored_analyze"))]
    _side_by_side(target, dbname, jobs, tables, _analyze_one, alive)
    return len(tables)


def _analyze_one(connection: Connection, table: tuple[str, str]) -> None:
    connection.execute(SQL("ANALYZE {}").format(Identifier(*table)))


def count(
    target: Target, dbname: str, jobs: int, expected: Iterable[TableCount], alive: Callable[[], None]
) -> Checked:
    """Exact rows of every table that is expected, against the manifest's.

    But for tables of extensions: those have rows of their own beside what a dump has, and older manifests name them.
    """
    with session(target, dbname) as connection:
        members = set(connection.execute(query("restored_members")).fetchall())
    wanted = [table for table in expected if (table.schema_name, table.name) not in members]
    wrong, rows = list[str](), [0]

    def count_one(connection: Connection, table: TableCount) -> None:
        name = Identifier(table.schema_name, table.name)
        found = connection.execute(SQL("SELECT count(*) FROM ONLY {}").format(name)).fetchone()
        assert found is not None
        rows[0] += found[0]
        if found[0] != table.rows:
            wrong.append(f"{table.schema_name}.{table.name} has {found[0]} rows instead of {table.rows}")

    largest = sorted(wanted, key=lambda table: -table.bytes)
    _side_by_side(target, dbname, jobs, largest, count_one, alive)
    detail = (
        _some(sorted(wrong))
        if wrong
        else f"{human.count(rows[0], 'row')} in {human.count(len(wanted), 'table')}, as in the manifest"
    )
    return Checked("rows", not wrong, detail)


def _side_by_side(
    target: Target,
    dbname: str,
    jobs: int,
    items: Sequence[Item],
    work: Callable[[Connection, Item], None],
    alive: Callable[[], None],
) -> None:
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)

    def worker() -> None:
        with session(target, dbname) as connection:
            while True:
                try:
                    item = waiting.get_nowait()
                except queue.Empty:
                    return
                alive()
                work(connection, item)

    with ThreadPoolExecutor(max(1, min(jobs, len(items))), thread_name_prefix="restored") as pool:
        for future in [pool.submit(worker) for _ in range(max(1, min(jobs, len(items))))]:
            future.result()


def inspect(target: Target, dbname: str, toc: Toc | None) -> list[Checked]:
    """Indexes, constraints, triggers, foreign keys and sequences. toc: of a whole archive, to count against."""
    with session(target, dbname) as connection:
        problems = connection.execute(query("restored_problems")).fetchall()
        checks = [_without("invalid index", problems), _without("foreign key that is off", problems)]
        checks += [
            Checked(what, True, _some(names), note=True)
            for what in ("constraint that is not validated", "trigger that is off")
            if (names := [str(name) for kind, name, _ in problems if kind == what])
        ]
        if toc is not None:
            checks.append(_counted(connection, toc))
        return [*checks, _sequences(connection)]


def _without(what: str, problems: Sequence[tuple[object, ...]]) -> Checked:
    fatal = [str(name) for kind, name, bad in problems if kind == what and bad]
    return Checked(what, not fatal, _some(fatal) if fatal else "none")


def _counted(connection: Connection, toc: Toc) -> Checked:
    row = connection.execute(query("restored_counts")).fetchone()
    assert row is not None
    kinds = ("TRIGGER", "FK CONSTRAINT", "POLICY")
    expected = tuple(len(toc.of(kind)) for kind in kinds)
    text = ", ".join(f"{found} {kind.lower()}" for kind, found in zip(kinds, row, strict=True))
    if tuple(row) != expected:
        text += f" instead of {', '.join(map(str, expected))}"
    return Checked("objects", tuple(row) == expected, text)


def _sequences(connection: Connection) -> Checked:
    behind, looked = [], 0
    for sequence, schema, table, column, ascending in connection.execute(
        query("restored_sequences")
    ).fetchall():
        looked += 1
        statement = SQL("SELECT (SELECT {}({}) FROM {}) {} (SELECT last_value FROM {})").format(
            SQL("max" if ascending else "min"),
            Identifier(column),
            Identifier(schema, table),
            SQL(">" if ascending else "<"),
            SQL(sequence),
        )
        if connection.execute(statement).fetchone() == (True,):
            behind.append(f"{sequence} is behind {schema}.{table}.{column}")
    # It may have been so at the source; an insert there would have failed as well.
    return Checked("sequences", True, _some(behind) if behind else f"{looked} looked at", note=bool(behind))


def _some(names: Sequence[str]) -> str:
    return "; ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
