"""The ledger's tables, as `migrations` leaves them. All times are epoch seconds of the database's clock
(`clock.now`). What changes a table, a step's name or the meaning of its data gets a migration and a new VERSION.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    literal_column,
    text,
)

from worker.ledger.clock import now

VERSION = 2
#: The lowest VERSION whose programs can work on these tables, beside those of this one.
OLDEST = 2

metadata = MetaData()
_Id = BigInteger().with_variant(Integer, "sqlite")
_Json = JSON(none_as_null=True)

version = Table(
    "ledger_version",
    metadata,
    Column("version", Integer, nullable=False),
    Column("oldest", Integer, nullable=False, server_default=text("1")),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("database", Text, nullable=False),
    Column("state", Text, nullable=False, default="queued"),
    Column("request", _Json, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("idempotency_key", Text, unique=True),
    Column("job", Text),
    Column("scheduled_for", Double),
    Column("here", Text, nullable=False),
    Column("generation", Integer, nullable=False, default=1),
    Column("backup_id", Text),
    Column("spool_id", Text),
    Column("data", _Json, nullable=False, default=dict),
    Column("result", _Json, nullable=False, default=dict),
    Column("error", _Json),
    Column("created_at", Double, nullable=False, default=now()),
    Column("started_at", Double),
    Column("ended_at", Double),
    UniqueConstraint("job", "scheduled_for"),
    Index("runs_created", "created_at"),
    Index("runs_state", "state"),
)

steps = Table(
    "steps",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("queue", Text, nullable=False),
    Column("group_path", Text, nullable=False),
    Column("needs", Text, nullable=False),
    Column("branch", Text, nullable=False),
    Column("always", Boolean, nullable=False),
    Column("state", Text, nullable=False, default="due"),
    Column("fence", Integer, nullable=False, default=0),
    Column("attempts", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False),
    Column("owner", Text),
    # Set while somebody may be working on the step. A step that was skipped or voided under its worker keeps
    # the lease until the worker has let go: what cleans up after the run waits for that.
    Column("lease_until", Double),
    Column("next_attempt_at", Double),
    Column(
        "hint_at", Double, nullable=False, default=0.0
    ),  # no hint before; the index of the search for due steps
    Column("sends", Integer, nullable=False, default=0),  # hints since the step last became due
    Column("sent_at", Double),  # the first of them
    Column("bytes_done", BigInteger, nullable=False, default=0),
    Column("bytes_total", BigInteger, nullable=False, default=0),
    Column("data", _Json, nullable=False),
    Column("notes", _Json, nullable=False, default=dict),  # what attempts noted; a rewind starts without
    Column("result", _Json, nullable=False, default=dict),
    Column("error", _Json),
    Column("created_at", Double, nullable=False, default=now()),
    Column("started_at", Double),
    Column("ended_at", Double),
    UniqueConstraint("run_id", "generation", "name", "key"),
    sqlite_autoincrement=True,
)


def undone() -> ColumnElement[bool]:
    """Literals, not parameters: SQLite uses a partial index only where the query shows its condition."""
    return steps.c.state.in_([literal_column("'due'"), literal_column("'running'")])


def _partial(name: str, condition: ColumnElement[bool], *columns: Column[Any]) -> None:
    Index(name, *columns, sqlite_where=condition, postgresql_where=condition)


# The search for due steps, of the fleet and of one run, in the order of the index.
_partial("steps_hint", undone(), steps.c.hint_at, steps.c.id)
_partial("steps_hint_of_run", undone(), steps.c.run_id, steps.c.hint_at, steps.c.id)
# What others wait for.
_partial("steps_undone", undone(), steps.c.run_id, steps.c.generation, steps.c.group_path)
# Who works.
_partial("steps_leased", steps.c.lease_until.is_not(None), steps.c.run_id, steps.c.lease_until)
# Steps of a run, all or by name, a page at a time.
Index("steps_of_run", steps.c.run_id, steps.c.generation, steps.c.id)
Index("steps_by_name", steps.c.run_id, steps.c.generation, steps.c.name, steps.c.id)

jobs = Table(
    "jobs",
    metadata,
    Column("job", Text, primary_key=True),
    Column("cron", Text, nullable=False),
    Column("since", Double, nullable=False),  # slots up to here are settled
)

workers = Table(
    "workers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("queues", _Json, nullable=False),
    Column("spool_id", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("schema", Integer, nullable=False, server_default=text("1")),  # the VERSION that it knows
    Column("stopped_at", Double),  # it has said goodbye
)

notices = Table(
    "notices",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("run_id", Text, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("event", Text, nullable=False),
    Column("data", _Json, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_attempt_at", Double, nullable=False, default=0.0),  # while it is being sent: until when
    Column("created_at", Double, nullable=False, default=now()),
    Column("sent_at", Double),
    sqlite_autoincrement=True,
)
_partial("notices_unsent", notices.c.sent_at.is_(None), notices.c.next_attempt_at)
