"""Events to be told. A notice is taken by one sender at a time, and stays until it has been sent."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.engine import Connection

from worker.ledger.clock import now
from worker.ledger.model import Notice
from worker.ledger.schema import notices

SENDING_SECONDS = 120.0  # for so long a notice that was taken is nobody else's
RETRY_CAP_SECONDS = 3600.0


def take(conn: Connection, limit: int) -> list[Notice]:
    """The oldest unsent notices whose time has come, taken."""
    due = select(notices).where(notices.c.sent_at.is_(None), notices.c.next_attempt_at <= now())
    found = conn.execute(due.order_by(notices.c.id).limit(limit).with_for_update(skip_locked=True)).all()
    if found:
        taken = update(notices).where(notices.c.id.in_([row.id for row in found]))
        conn.execute(taken.values(attempts=notices.c.attempts + 1, next_attempt_at=now() + SENDING_SECONDS))
    return [_notice(row) for row in found]


def sent(conn: Connection, notice_id: int) -> None:
    conn.execute(update(notices).where(notices.c.id == notice_id).values(sent_at=now()))


def failed(conn: Connection, notice_id: int, retry_in: float, told: Collection[str] = ()) -> None:
    """Try again in `retry_in` seconds, doubled for each attempt before this one, an hour at most.

    `told`: who has taken it, to be passed over then (`Notice.told`).
    """
    mine = notices.c.id == notice_id
    found = conn.execute(
        select(notices.c.attempts, notices.c.data).where(mine).with_for_update()
    ).one_or_none()
    if found is not None:
        delay = min(retry_in * 2.0 ** min(max(found.attempts - 1, 0), 20), RETRY_CAP_SECONDS)
        data = found.data | {"told": sorted({*found.data.get("told", ()), *told})}
        conn.execute(update(notices).where(mine).values(next_attempt_at=now() + delay, data=data))


def pending(conn: Connection) -> tuple[int, float | None]:
    """How many there are, and when the oldest was recorded."""
    asked = select(func.count(), func.min(notices.c.created_at)).where(notices.c.sent_at.is_(None))
    count, since = conn.execute(asked).one()
    return count, since


def _notice(row: Row[Any]) -> Notice:
    return Notice(row.id, row.run_id, row.event, row.data, row.created_at)
