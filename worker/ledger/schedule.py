"""Runs that the schedule owes: the newest passed slot of each job, once, however many beats ask and miss."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from worker.ledger import clock, rows, runs
from worker.ledger.model import Run
from worker.ledger.outcomes import JobDue
from worker.ledger.schema import jobs


def insert_due(conn: Connection, due: JobDue, *, max_attempts: int) -> Run | None:
    """The run, when this call made it. A job begins when it is first seen, and anew with another cron line;
    slots before that are nobody's.
    """
    at = clock.read(conn)
    conn.execute(rows.insert_ignoring(conn, jobs).values(job=due.job, cron=due.cron, since=at))
    known = conn.execute(select(jobs).where(jobs.c.job == due.job).with_for_update()).one()
    if known.cron != due.cron:
        conn.execute(update(jobs).where(jobs.c.job == due.job).values(cron=due.cron, since=at))
        return None
    if due.slot <= known.since:
        return None
    conn.execute(update(jobs).where(jobs.c.job == due.job).values(since=due.slot))
    run, created = runs.create(conn, due.run, due.steps, max_attempts=max_attempts)
    return run if created else None
