"""Take a backup of one database: dump it under one snapshot, encrypt what came out, and say how the run ended."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from worker.postgres import dump as pg_dump
from worker.postgres import globals as pg_globals
from worker.postgres import snapshot as pg_snapshot
from worker.postgres import tables as pg_tables
from worker.postgres import tools as pg_tools
from worker.steps.context import Context, Outcome
from worker.steps.keys import recipients


def dump(context: Context) -> Outcome:
    """Dump everything under one snapshot into the run's directory. A second attempt is a new backup with a new id."""
    database = context.database
    for destination in database.destinations:
        context.adapters.destination(destination)
    encrypt_to = recipients(context.adapters, database)
    with pg_snapshot.held_snapshot(database, context.run.id) as snapshot:
        tools = pg_tools.for_server(context.settings.pg_bin, database, snapshot.facts)
        name = _claim_name(context, snapshot.taken_at)
        directory = _fresh(context.run_dir)
        expected = _expected_bytes(context, snapshot.facts.size_bytes)
        context.adapters.spool.need(expected * 2, f"the backup of {database.alias}")
        context.progress(0, expected)
        with ThreadPoolExecutor(1, thread_name_prefix="count") as pool:
            counting = pool.submit(pg_tables.count_rows, snapshot, context.check)
            archives = pg_dump.dump_archives(
                tools, database, snapshot, directory, stem=name, stop=context.stop, progress=context.progress
            )
            tables, gaps = counting.result()
    roles = pg_globals.dump_globals(tools, database, directory / f"{name}.globals.sql", stop=context.stop)
    return Outcome(_describe(context, archives))
