"""What the restored copy contains, read by all workers that reach it; the comparison; and the control of that."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from worker.core.compare import Comparison, Difference, compare
from worker.core.drill import Control
from worker.core.expected import Restored
from worker.core.fingerprint import NOTHING, ChunkSum, Fingerprint
from worker.durable import durable_write
from worker.errors import ValidationFailed
from worker.postgres.control import change_one_row, pick
from worker.postgres.inspect import CHUNK_PAGES, finish, header, pin
from worker.postgres.inspect_tables import Chunk, Plan, plan, read_chunk
from worker.postgres.server import Connection
from worker.postgres.soundness import unhindered, without_triggers
from worker.postgres.targets import enter, restoring
from worker.steps.context import Context, Outcome
from worker.steps.drill_server import drill_target
from worker.steps.restore_check import archives

_PLAN, _HEADER, _FOUND = "drill-plan.json", "drill-header.json", "drill-found.json"
_SHOWN = 500  # differences that are recorded one by one


def expected_fingerprint(context: Context) -> Fingerprint:
    """As the backup recorded it."""
    return Fingerprint.from_json(archives(context, "fingerprint")[0].read_bytes())


def _connect(context: Context) -> Connection:
    target, name = drill_target(context)
    with restoring(target, name):
        connection = enter(target, name, application_name=f"pgfleet drill {context.run.id}")
        unhindered(connection)
        return connection


def plan_reading(context: Context) -> Outcome:
    """Schema, sequences, and what there is to read: a step a chunk."""
    mode = expected_fingerprint(context).mode
    with closing(_connect(context)) as connection:
        head = header(connection, mode)
        work = plan(connection, mode, CHUNK_PAGES, NOTHING)
    durable_write(context.run_dir / _HEADER, head.to_json())
    durable_write(context.run_dir / _PLAN, work.model_dump_json().encode())
    chunks = ({"number": number, "chunk": chunk.model_dump()} for number, chunk in enumerate(work.chunks))
    return Outcome({"chunks": len(work.chunks), "to_read": work.bytes}, chunks)


def _plan(context: Context) -> Plan:
    return Plan.model_validate_json((context.run_dir / _PLAN).read_bytes())


def read(context: Context) -> Outcome:
    """One chunk: rows and the sum of their hashes."""
    chunk = Chunk.model_validate(context.step.data["chunk"])
    context.progress(0, chunk.bytes)
    with closing(_connect(context)) as connection:
        pin(connection)
        found = read_chunk(connection, _plan(context), chunk)
    return Outcome({"sum": found.model_dump(mode="json"), "bytes": chunk.bytes})


def compare_copy(context: Context) -> Outcome:
    """The copy against the source. Raises ValidationFailed when the two cannot be compared at all."""
    work, expected = _plan(context), expected_fingerprint(context)
    began = time.monotonic()
    sums = [
        (Chunk.model_validate(step.data["chunk"]), ChunkSum.model_validate(step.result["sum"]))
        for step in context.ledger.steps(context.run.id, name="drill.fingerprint_chunk")
    ]
    head = Fingerprint.from_json((context.run_dir / _HEADER).read_bytes())
    found = finish(head, work, sums, time.monotonic() - began)
    durable_write(context.run_dir / _FOUND, found.to_json())
    comparison = compare(expected, found, _restored(context))
    if comparison.incomparable:
        raise ValidationFailed(comparison.incomparable[0], "Drill on a server like the source's.")
    return Outcome(
        {
            "matches": comparison.matches,
            "differences": _told(comparison.differences),
            "differences_total": len(comparison.differences),
            "expected_changes": _told(comparison.expected_changes),
            "compared": comparison.compared.model_dump(),
            "mode": expected.mode,
            "fingerprint_seconds": expected.seconds,
            "not_covered": [note.model_dump() for note in expected.notes],
            "source_major": expected.major,
            "tables": _tables(expected, found),
        }
    )


def _told(differences: tuple[Difference, ...]) -> list[dict[str, Any]]:
    return [difference.model_dump() for difference in differences[:_SHOWN]]


def _tables(expected: Fingerprint, found: Fingerprint) -> list[dict[str, Any]]:
    """The largest tables side by side, for the report."""
    there = {table.full_name: table for table in found.tables}
    rows = []
    for table in sorted(expected.tables, key=lambda table: -table.rows)[:_SHOWN]:
        other = there.get(table.full_name)
        rows.append(
            {
                "table": table.full_name,
                "kind": table.kind,
                "rows": table.rows,
                "found": other.rows if other else None,
                "checksum": table.checksum,
                "found_checksum": other.checksum if other else None,
            }
        )
    return rows


def _restored(context: Context) -> Restored:
    for step in context.ledger.steps(context.run.id, name="drill.load"):
        flags = step.result["flags"]
        return Restored(tablespaces="--no-tablespaces" not in flags)
    return Restored()


def control(context: Context) -> Outcome:
    """Change one row of the copy: the comparison must now fail, on that table and nowhere else.

    Raises ValidationFailed when it does not: then this drill has proven nothing.
    """
    (compared,) = context.ledger.steps(context.run.id, name="drill.compare")
    if not compared.result["matches"]:
        return Outcome(
            {"control": Control(skipped="The comparison has found differences already.").model_dump()}
        )
    work, expected = _plan(context), expected_fingerprint(context)
    found = Fingerprint.from_json((context.run_dir / _FOUND).read_bytes())
    number = pick(work, found.tables)
    with closing(_connect(context)) as connection:
        if number is None:
            done = _without_rows(connection, expected, found, _restored(context))
        else:
            changed = change_one_row(connection, work, number)
            tables = tuple(
                changed.table if table.full_name == changed.table.full_name else table
                for table in found.tables
            )
            after = compare(expected, found.model_copy(update={"tables": tables}), _restored(context))
            done = _judged(changed.table.full_name, changed.change, after)
    if not done.ok:
        raise ValidationFailed(
            f"The control failed: after a change of {done.table} ({done.change}) the comparison said: "
            f"{', '.join(done.found) or 'no difference'}. So its match proves nothing.",
            "Please report this: the drill's own check is broken.",
        )
    return Outcome({"control": done.model_dump()})


def _judged(table: str, change: str, after: Comparison) -> Control:
    named = tuple(sorted({difference.what for difference in after.differences}))
    return Control(table=table, change=change, ok=named == (table,), found=named)


def _without_rows(
    connection: Connection, expected: Fingerprint, found: Fingerprint, restored: Restored
) -> Control:
    """In a database without a single row, a schema that was not there must be noticed."""
    with connection.transaction(force_rollback=True):
        without_triggers(connection)
        connection.execute("CREATE SCHEMA pgfleet_control")
        head = header(connection, expected.mode)
    changed = found.model_copy(update={"objects": head.objects})
    after = compare(expected, changed, restored)
    named = tuple(sorted({difference.what for difference in after.differences}))
    ok = bool(named) and all("pgfleet_control" in name for name in named)
    return Control(table="pgfleet_control", change="a schema created", ok=ok, found=named)
