"""Who works: each worker's main process says so every few seconds."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from worker.ledger import rows
from worker.ledger.clock import now
from worker.ledger.model import WorkerInfo
from worker.ledger.schema import VERSION, workers

#: Not a worker, and it takes no queue: what `reconcile` signs with at the end of each tick.
RECONCILE = "reconcile"


def beat(conn: Connection, info: WorkerInfo) -> None:
    """`seen_at` is the database's, whatever `info` says."""
    values = asdict(info) | {
        "queues": list(info.queues),
        "seen_at": now(),
        "schema": VERSION,
        "stopped_at": None,
    }
    if not conn.execute(update(workers).where(workers.c.name == info.name).values(values)).rowcount:
        conn.execute(rows.insert_ignoring(conn, workers).values(values))


def stop(conn: Connection, name: str) -> None:
    """It has said goodbye: no upgrade waits for it. Its row stays, its spool may be back with its next start."""
    conn.execute(update(workers).where(workers.c.name == name).values(stopped_at=now()))


def alive(conn: Connection, within: float) -> list[WorkerInfo]:
    seen = select(workers).where(workers.c.seen_at > now() - within).order_by(workers.c.name)
    return [
        WorkerInfo(r.name, r.host, tuple(r.queues), r.spool_id, r.version, r.seen_at)
        for r in conn.execute(seen)
    ]


def forget(conn: Connection, older_than: float) -> int:
    return conn.execute(delete(workers).where(workers.c.seen_at <= now() - older_than)).rowcount
