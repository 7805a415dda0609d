"""From readings to Prometheus' families. Every name comes from `names`; a metric nobody declared cannot be told."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from worker import __version__
from worker.config.model import Database, Settings
from worker.core import cron
from worker.gpg import Key
from worker.metrics.activity import BAD as BAD_ENDS
from worker.metrics.activity import QUEUES, RECENT_SECONDS, Activity
from worker.metrics.holdings import Holding, Holdings, newest_manifest
from worker.metrics.names import METRICS
from worker.metrics.readings import Readings
from worker.metrics.surroundings import Memory, Room

#: (name, labels' values, value)
Sample = tuple[str, tuple[str, ...], float]
_STATES = ("verified", "unverified", "unmanaged", "damaged", "incomplete")
_GRACE = timedelta(hours=6)
_DAILY = timedelta(days=1)
_DAY = 86_400.0


class Fleet(Collector):
    """What prometheus_client asks at each scrape. patience: seconds that a scrape waits for what is being read."""

    def __init__(self, readings: Readings, patience: float = 5.0) -> None:
        self._readings = readings
        self._patience = patience

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing is read when the collector is registered."""
        return [GaugeMetricFamily(metric.name, metric.help, labels=metric.labels) for metric in METRICS]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self._readings.read(self._patience)
        families = {
            metric.name: GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            for metric in METRICS
        }
        for name, labels, value in samples(self._readings):
            families[name].add_metric(labels, value)
        yield from (family for family in families.values() if family.samples)


def samples(readings: Readings) -> Iterator[Sample]:
    """Everything that is known now."""
    settings = readings.settings
    yield from _settings(settings)
    yield from _parts(readings)
    if readings.destinations.value is not None:
        yield from _destinations(settings, readings.destinations.value)
    if readings.ledger.value is not None:
        yield from _ledger(settings, readings.ledger.value)
    yield from _keys(readings.keys.value or {})
    yield from _room(readings.spool.value)
    yield from _memory(readings.broker.value)


def max_age(database: Database, now: datetime) -> timedelta:
    """How old the newest backup may get: the longest of the coming intervals of its schedule, and some hours.

    Without a schedule a daily backup is expected: somebody's cron is.
    """
    if not database.schedule:
        return _DAILY + _GRACE
    slots = [now]
    for _ in range(9):
        slots.append(cron.next_slot(database.schedule, slots[-1]))
    return max(later - earlier for earlier, later in pairwise(slots[1:])) + _GRACE


def _settings(settings: Settings) -> Iterator[Sample]:
    yield "pgfleet_build_info", (__version__,), 1
    yield "pgfleet_reread_target_seconds", (), settings.scrub_days * _DAY
    for alias, database in settings.databases.items():
        yield "pgfleet_rto_target_seconds", (alias,), database.rto_seconds
        yield (
            "pgfleet_backup_max_age_seconds",
            (alias,),
            max_age(database, datetime.now(UTC)).total_seconds(),
        )


def _parts(readings: Readings) -> Iterator[Sample]:
    for part in readings.parts:
        if part.at is None:
            yield "pgfleet_up", (part.name, ""), 0
            continue
        yield "pgfleet_read_timestamp_seconds", (part.name,), part.at
        yield "pgfleet_read_seconds", (part.name,), part.seconds
        if part is not readings.destinations or part.value is None:
            yield "pgfleet_up", (part.name, ""), part.error is None
    if (found := readings.destinations.value) is not None:
        for alias in readings.settings.destinations:
            yield "pgfleet_up", ("destination", alias), alias not in found.down
    for alias, database in readings.settings.databases.items():
        for destination in database.destinations:
            readable = found is not None and destination not in found.down
            yield "pgfleet_copies_readable", (alias, destination), readable


def _destinations(settings: Settings, found: Holdings) -> Iterator[Sample]:
    for alias, database in settings.databases.items():
        holding = found.databases[alias]
        for destination in database.destinations:
            if destination not in found.down:
                yield from _copies(holding, destination, settings.scrub_days)
        yield from _newest(holding)


def _copies(holding: Holding, destination: str, scrub_days: int) -> Iterator[Sample]:
    labels = (holding.database, destination)
    copies = holding.copies(destination)
    newest = holding.newest(destination, ("verified",))
    yield "postgres_backup_last_success_timestamp", labels, newest.at.timestamp() if newest else 0
    if newest is not None:
        yield "postgres_backup_size_bytes", labels, newest.size
    yield "postgres_backup_count", labels, len(holding.sound(destination))
    for state in _STATES:
        yield "pgfleet_copies", (*labels, state), sum(copy.state == state for copy in copies)
    yield "pgfleet_copies_bytes", labels, sum(copy.size for copy in copies)
    yield "pgfleet_copies_missing", labels, len(holding.missing.get(destination, ()))
    yield "pgfleet_copies_damaged", labels, sum(copy.state == "damaged" for copy in copies)
    yield "pgfleet_copies_refuted", labels, sum(copy.refuted_at is not None for copy in copies)
    yield "pgfleet_copies_held", labels, sum(copy.held for copy in copies)
    yield "pgfleet_last_verified_timestamp_seconds", labels, _latest(copy.verified_at for copy in copies)
    yield "pgfleet_last_proven_timestamp_seconds", labels, _latest(copy.proven_at for copy in copies)
    proof = holding.proofs.get(destination)
    if proof is not None and proof.seconds is not None:
        yield "pgfleet_rto_seconds", labels, proof.seconds
    share = holding.read_share(destination, scrub_days, datetime.now(UTC))
    if share is not None:
        yield "pgfleet_reread_ratio", labels, share
    for verdict in ("keep", "remove"):
        judged = [
            one
            for one in holding.judged
            if one.destination == destination and one.verdict.keep == (verdict == "keep")
        ]
        yield "pgfleet_retention_copies", (*labels, verdict), len(judged)
        if verdict == "remove":
            yield "pgfleet_retention_removable_bytes", labels, sum(one.entry.size for one in judged)


def _latest(times: Iterable[datetime | None]) -> float:
    return max((at.timestamp() for at in times if at is not None), default=0.0)


def _newest(holding: Holding) -> Iterator[Sample]:
    """What one backup tells, wherever its copies are."""
    labels = (holding.database,)
    manifest = newest_manifest(holding)
    if manifest is None:
        return
    source = sum(table.bytes for table in manifest.tables)
    yield "pgfleet_backup_source_bytes", labels, source
    yield "pgfleet_backup_archive_bytes", labels, sum(one.plain_size for one in manifest.artifacts)
    if manifest.size and source:
        yield "pgfleet_backup_compression_ratio", labels, source / manifest.size


def _ledger(settings: Settings, found: Activity) -> Iterator[Sample]:
    for count in found.stats.runs:
        yield "pgfleet_runs", (count.kind, count.state), count.count
    yield from _last_runs(found)
    for kind, number in found.tallies.restarts.items():
        yield "pgfleet_runs_restarted", (kind,), number
    for failure, number in found.failures().items():
        yield "pgfleet_runs_failed", failure, number
    for retried, number in found.tallies.retries.items():
        yield "pgfleet_steps_retried", retried, number
    for taken, number in found.tallies.takeovers.items():
        yield "pgfleet_steps_taken_over", taken, number
    yield "pgfleet_steps_resent", (), found.tallies.resent
    yield from _queues(found)
    if found.reconciled_at is not None:
        yield "pgfleet_reconcile_last_timestamp_seconds", (), found.reconciled_at
    yield "pgfleet_notices_pending", (), found.stats.pending_notices
    yield from _replaces(settings, found)


def _last_runs(found: Activity) -> Iterator[Sample]:
    for (kind, database), run in found.last.items():
        yield "pgfleet_run_last_failed", (kind, database), run.state in BAD_ENDS
        if run.ended_at is not None:
            yield "pgfleet_run_last_end_timestamp_seconds", (kind, database), run.ended_at
            if run.started_at is not None:
                seconds = run.ended_at - run.started_at
                yield "pgfleet_run_last_duration_seconds", (kind, database), seconds
    for database, rows in found.backups.items():
        for row in rows:
            step, destination = row["name"].removeprefix("backup."), row["branch"]
            if row["started_at"] is not None and row["ended_at"] is not None:
                seconds = max(0.0, row["ended_at"] - row["started_at"])
                yield "pgfleet_backup_step_seconds", (database, destination, step), seconds
        # What is small is sent by the step that would open a multipart upload.
        sent = [row for row in rows if row["name"] in ("backup.upload", "backup.upload_part")]
        for destination in sorted({row["branch"] for row in sent}):
            size = sum(row["bytes_done"] for row in sent if row["branch"] == destination)
            yield "pgfleet_backup_uploaded_bytes", (database, destination), size


def _queues(found: Activity) -> Iterator[Sample]:
    depths = {depth.queue: depth for depth in found.stats.queues}
    taken = {queue for worker in found.workers for queue in worker.queues}
    for queue in sorted({*QUEUES, *depths, *taken}):
        depth = depths.get(queue)
        yield "pgfleet_queue_steps", (queue,), depth.due if depth else 0
        yield "pgfleet_queue_oldest_seconds", (queue,), depth.oldest_seconds if depth else 0
        yield "pgfleet_workers", (queue,), found.workers_of(queue)


def _replaces(settings: Settings, found: Activity) -> Iterator[Sample]:
    since = time.time() - RECENT_SECONDS
    for alias in settings.databases:
        replaced = [
            run
            for run in found.recent
            if run.kind == "restore" and run.database == alias and run.result.get("swap_seconds") is not None
        ]
        yield "pgfleet_restores_replaced", (alias,), sum((run.ended_at or 0) >= since for run in replaced)
        if replaced:
            yield "pgfleet_restore_swap_seconds", (alias,), float(replaced[0].result["swap_seconds"])


def _keys(found: dict[str, list[Key]]) -> Iterator[Sample]:
    for database, keys in found.items():
        for key in keys:
            if key.expires is not None:
                labels = (database, key.fingerprint[-16:])
                yield "pgfleet_key_expiry_timestamp_seconds", labels, key.expires.timestamp()


def _room(found: Room | None) -> Iterator[Sample]:
    if found is not None:
        yield "pgfleet_spool_size_bytes", (), found.size
        yield "pgfleet_spool_free_bytes", (), found.free


def _memory(found: Memory | None) -> Iterator[Sample]:
    if found is not None:
        yield "pgfleet_broker_memory_bytes", (), found.used
        yield "pgfleet_broker_memory_limit_bytes", (), found.limit
