"""Every metric: its name, labels and unit, declared once. The reference page and the tests read them from here.

Names end in their unit (Prometheus, "Metric and label naming"); the first three are the seed's, as they are.
All are gauges: each is read anew from where the truth is, so nothing is lost when the exporter restarts.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Part = Literal["destinations", "ledger", "keys", "spool", "broker", "settings", "exporter"]


class Metric(NamedTuple):
    name: str
    labels: tuple[str, ...]
    part: Part
    help: str


_COPY = ("database", "destination")
_DATABASE = ("database",)

METRICS: tuple[Metric, ...] = (
    # --- destinations: manifests and evidence ---
    Metric(
        "postgres_backup_last_success_timestamp",
        _COPY,
        "destinations",
        "When the newest verified backup that no drill has refuted was taken (Unix seconds of its snapshot); 0: none.",
    ),
    Metric("postgres_backup_size_bytes", _COPY, "destinations", "Stored bytes of that backup."),
    Metric(
        "postgres_backup_count",
        _COPY,
        "destinations",
        "Backups that can be restored as far as is known: verified, not yet verified, or unmanaged; not refuted.",
    ),
    Metric(
        "pgfleet_copies", (*_COPY, "state"), "destinations", "Copies by state, as `pgfleet list` shows it."
    ),
    Metric("pgfleet_copies_bytes", _COPY, "destinations", "Stored bytes of all copies."),
    Metric(
        "pgfleet_copies_missing",
        _COPY,
        "destinations",
        "Backups that another destination has, that this one's retention keeps, and that it lacks.",
    ),
    Metric("pgfleet_copies_damaged", _COPY, "destinations", "Copies that are known to be damaged."),
    Metric(
        "pgfleet_copies_refuted", _COPY, "destinations", "Copies whose newest drill found them to differ."
    ),
    Metric("pgfleet_copies_held", _COPY, "destinations", "Copies that somebody has put on hold."),
    Metric(
        "pgfleet_last_verified_timestamp_seconds",
        _COPY,
        "destinations",
        "When a whole copy was last verified: read back and found good; 0 for never.",
    ),
    Metric(
        "pgfleet_last_proven_timestamp_seconds",
        _COPY,
        "destinations",
        "When a drill last proved a copy that is still there restorable; 0 for never.",
    ),
    Metric(
        "pgfleet_reread_ratio",
        _COPY,
        "destinations",
        "Share of the stored bytes that was read back within the target: 1 is all of them; absent without copies.",
    ),
    Metric(
        "pgfleet_rto_seconds",
        _COPY,
        "destinations",
        "Recovery time that the newest proof from there measured.",
    ),
    Metric(
        "pgfleet_backup_source_bytes",
        _DATABASE,
        "destinations",
        "Bytes of the tables on the source's disk, at the newest verified backup.",
    ),
    Metric(
        "pgfleet_backup_archive_bytes",
        _DATABASE,
        "destinations",
        "Bytes of that backup's archives before encryption.",
    ),
    Metric(
        "pgfleet_backup_compression_ratio",
        _DATABASE,
        "destinations",
        "Bytes on the source's disk for each stored byte of that backup.",
    ),
    Metric(
        "pgfleet_retention_copies",
        (*_COPY, "verdict"),
        "destinations",
        "Copies that the next cleanup would keep, or remove.",
    ),
    Metric(
        "pgfleet_retention_removable_bytes", _COPY, "destinations", "Bytes that the next cleanup would free."
    ),
    # --- ledger: runs, steps, workers ---
    Metric("pgfleet_runs", ("kind", "state"), "ledger", "Runs that the ledger remembers."),
    Metric(
        "pgfleet_run_last_failed",
        ("kind", "database"),
        "ledger",
        "1 when the newest run of its kind that has ended (other than cancelled) ended badly, else 0.",
    ),
    Metric("pgfleet_run_last_end_timestamp_seconds", ("kind", "database"), "ledger", "When that run ended."),
    Metric(
        "pgfleet_run_last_duration_seconds",
        ("kind", "database"),
        "ledger",
        "How long that run took, from its first step's begin.",
    ),
    Metric(
        "pgfleet_backup_step_seconds",
        (*_COPY, "step"),
        "ledger",
        "How long each step of the newest finished backup took, all its parts together; "
        "no destination for steps that all copies share.",
    ),
    Metric(
        "pgfleet_backup_uploaded_bytes",
        _COPY,
        "ledger",
        "Bytes that the newest finished backup has uploaded.",
    ),
    Metric(
        "pgfleet_runs_failed",
        ("kind", "database", "error"),
        "ledger",
        "Runs of the last 7 days that ended badly, by the type of their error.",
    ),
    Metric(
        "pgfleet_steps_retried",
        ("kind", "step"),
        "ledger",
        "Attempts beyond the first, in the runs of the last 7 days.",
    ),
    Metric(
        "pgfleet_steps_taken_over",
        ("kind", "step"),
        "ledger",
        "How often steps of the runs of the last 7 days were taken from a worker whose lease had run out.",
    ),
    Metric(
        "pgfleet_runs_restarted",
        ("kind",),
        "ledger",
        "How often runs of the last 7 days were started again because their spool was gone.",
    ),
    Metric(
        "pgfleet_steps_resent",
        (),
        "ledger",
        "Undone steps whose message was sent more than once: it got lost, or nobody takes the queue.",
    ),
    Metric("pgfleet_queue_steps", ("queue",), "ledger", "Steps that could run now and wait for a worker."),
    Metric(
        "pgfleet_queue_oldest_seconds", ("queue",), "ledger", "How long the first of them has been waiting."
    ),
    Metric("pgfleet_workers", ("queue",), "ledger", "Workers that take the queue and were seen within 60 s."),
    Metric(
        "pgfleet_reconcile_last_timestamp_seconds",
        (),
        "ledger",
        "When reconcile last ran to its end: beat, the broker and a worker of queue control are alive.",
    ),
    Metric("pgfleet_notices_pending", (), "ledger", "Notifications that are still to be sent."),
    Metric(
        "pgfleet_restores_replaced",
        _DATABASE,
        "ledger",
        "Restores of the last 7 days that replaced a live database.",
    ),
    Metric(
        "pgfleet_restore_swap_seconds",
        _DATABASE,
        "ledger",
        "How long connections were refused at the newest replace.",
    ),
    # --- what is around ---
    Metric(
        "pgfleet_key_expiry_timestamp_seconds",
        ("database", "key"),
        "keys",
        "When a recipient's key ends; absent for one that never does.",
    ),
    Metric("pgfleet_spool_size_bytes", (), "spool", "Size of the spool's file system."),
    Metric(
        "pgfleet_spool_free_bytes", (), "spool", "Room on the spool, less the reserve that is never filled."
    ),
    Metric("pgfleet_broker_memory_bytes", (), "broker", "Memory that the broker's data takes."),
    Metric(
        "pgfleet_broker_memory_limit_bytes", (), "broker", "The broker's maxmemory; 0 is the whole machine."
    ),
    # --- what should be ---
    Metric(
        "pgfleet_rto_target_seconds", _DATABASE, "settings", "Recovery time that a drill must not exceed."
    ),
    Metric(
        "pgfleet_backup_max_age_seconds",
        _DATABASE,
        "settings",
        "Age that the newest backup may reach: one interval of its schedule and 6 hours (30 h for a daily one).",
    ),
    Metric(
        "pgfleet_reread_target_seconds", (), "settings", "Every stored byte is to be read again within this."
    ),
    # --- the exporter itself ---
    Metric("pgfleet_build_info", ("version",), "exporter", "Always 1."),
    Metric(
        "pgfleet_up",
        ("part", "name"),
        "exporter",
        "1 when this part could be read. 0: its other metrics are absent, not zero.",
    ),
    Metric(
        "pgfleet_copies_readable",
        _COPY,
        "exporter",
        "1 when the database's copies there could be listed. 0: how many and which they are is unknown.",
    ),
    Metric("pgfleet_read_timestamp_seconds", ("part",), "exporter", "When this part was last asked."),
    Metric("pgfleet_read_seconds", ("part",), "exporter", "How long that took."),
)
BY_NAME = {metric.name: metric for metric in METRICS}
