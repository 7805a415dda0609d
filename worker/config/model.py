"""The shape of the settings. Values only; where they come from is in `worker.config.load`.

The text under a field is its description in `pgfleet config` and in docs/reference/settings.md.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from worker.config.values import (
    AbsolutePath,
    Alias,
    Compression,
    Cron,
    Digest,
    Endpoint,
    Folders,
    GatewayUrl,
    Names,
    PingUrl,
    Seconds,
    SecretUrls,
    Size,
    WholeSeconds,
)
from worker.core.backup import BackupType
from worker.core.parts import MAX_PART, MIN_PART

DEFAULT_BACKUP_SCHEDULE = "0 2 * * *"
DEFAULT_CLEANUP_SCHEDULE = "0 3 * * 0"
DEFAULT_DRILL_SCHEDULE = "0 4 2 * *"
DEFAULT_SCRUB_SCHEDULE = "30 5 * * *"
DEFAULT_REPORT_SCHEDULE = "0 6 1 * *"


class Strict(BaseModel):
    """A misspelt key is an error: it is most likely a protection that somebody believes to be on."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Retention(Strict):
    """The seed's policy by default. Zero means that the rule keeps nothing."""

    daily_days: int = Field(7, ge=0)
    """How many days a daily backup is kept."""
    weekly_weeks: int = Field(4, ge=0)
    """How many weeks a weekly backup (taken on a Sunday) is kept."""
    monthly_months: int = Field(6, ge=0)
    """How many months a monthly backup (taken on the 1st) is kept."""
    yearly_years: int = Field(0, ge=0)
    """How many years the first backup of a year is kept."""
    keep_last: int = Field(0, ge=0)
    """How many of the newest backups are kept whatever their age."""
    keep_within_days: int = Field(0, ge=0)
    """Every backup younger than this many days is kept."""
    minimum: int = Field(1, ge=1)
    """Cleanup never leaves fewer backups than this."""


class RetentionHere(Strict):
    """What a destination keeps otherwise than the databases do. None: as the database."""

    daily_days: int | None = Field(None, ge=0)
    """How many days a daily backup is kept here."""
    weekly_weeks: int | None = Field(None, ge=0)
    """How many weeks a weekly backup is kept here."""
    monthly_months: int | None = Field(None, ge=0)
    """How many months a monthly backup is kept here."""
    yearly_years: int | None = Field(None, ge=0)
    """How many years the first backup of a year is kept here."""
    keep_last: int | None = Field(None, ge=0)
    """How many of the newest backups are kept here whatever their age."""
    keep_within_days: int | None = Field(None, ge=0)
    """Every backup younger than this many days is kept here."""
    minimum: int | None = Field(None, ge=1)
    """Cleanup never leaves fewer backups than this here."""


class Server(Strict):
    """How to reach a PostgreSQL server."""

    host: str = "localhost"
    """Host name, address, or the directory of a Unix socket."""
    port: int = Field(5432, ge=1, le=65535)
    """Port of the server."""
    user: str = "goimg"
    """Role to connect as."""
    password: SecretStr | None = None
    """Password; unset for peer or trust authentication, or when ~/.pgpass has it."""
    sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    """TLS towards the server, as in libpq."""
    sslrootcert: AbsolutePath | None = None
    """CA certificates that the server's must be signed by."""
    connect_timeout: WholeSeconds = Field(10, ge=1)
    """Longest wait for a connection."""


class Database(Server):
    """A source database; `alias` names it everywhere, `name` is what it is called on its server."""

    alias: Alias
    """Its name in pgfleet and in the names of its backups."""
    name: str = "goimg"
    """Its name on the server."""
    destinations: Names = ()
    """Where copies go; all destinations when empty."""
    # Of the three schedules, "" is what "off" becomes: never.
    schedule: Cron = DEFAULT_BACKUP_SCHEDULE
    """When to back up, UTC; off for only on demand."""
    cleanup_schedule: Cron = DEFAULT_CLEANUP_SCHEDULE
    """When to apply the retention, UTC."""
    drill_schedule: Cron = DEFAULT_DRILL_SCHEDULE
    """When to prove that a backup restores, UTC."""
    recipients: Names = ()
    """Whom to encrypt to: fingerprints, key ids or e-mail addresses of public keys."""
    allow_unencrypted: bool = False
    """Store backups unencrypted when there is no recipient."""
    use_docker: bool = False
    """Run the client tools with `docker exec` inside the database's container."""
    docker_container: str = "goimg-postgres"
    """That container."""
    compression: Compression = "auto"
    """Compression of the archive; auto is zstd:1 where client and server allow, else gzip:6."""
    exclude_schemas: Names = ()
    """Schemas left out of the backup (patterns as in pg_dump)."""
    exclude_tables: Names = ()
    """Tables left out of the backup (patterns as in pg_dump)."""
    jobs: int = Field(1, ge=1, le=64)
    """How many pg_dump processes a large database is dumped by."""
    split_bytes: Size = Field(10 * 1024**3, ge=0)
    """Several archives only above this size, and only with more than one job."""
    lock_timeout: WholeSeconds = Field(60, ge=1)
    """Longest wait for the tables' locks."""
    dump_timeout: WholeSeconds = Field(24 * 3600, ge=1)
    """Longest time that a dump may take."""
    fingerprint: Literal["full", "counts", "off"] = "full"
    """What a backup records to be compared with after a restore."""
    retention: Retention = Retention()
    rto_seconds: WholeSeconds = Field(1800, ge=1)
    """The recovery time that a drill must not exceed."""
    rpo_seconds: WholeSeconds = Field(0, ge=0)
    """How far apart verified backups may be in reports; 0: the schedule's longest interval and 6 hours."""
    require_copies: int = Field(0, ge=0)
    """How many copies make a backup a success; 0 is all of them."""
    allow_replace: bool = False
    """A restore may replace this live database."""
    drill_questions: AbsolutePath | None = None
    """Directory of .sql files with expected answers, asked in each drill."""
    ping_url: PingUrl | None = None
    """Dead man's switch (healthchecks.io and the like), told of each backup's start, success and failure."""


class Target(Server):
    """A server that restores may write to. A message can name the alias only."""

    alias: Alias
    """Its name in pgfleet."""
    maintenance_db: str = "postgres"
    """Database to connect to for creating and renaming others."""
    database: str | None = None
    """The live database that a replace is about."""
    allow_replace: bool = False
    """A restore may replace that database."""


class Destination(Strict):
    """Where copies are kept: an S3 bucket or a directory."""

    alias: Alias
    """Its name in pgfleet."""
    kind: Literal["s3", "directory"]
    """What it is."""
    path: AbsolutePath | None = None
    """Directory that copies are kept in (kind directory)."""
    profile: Literal["auto", "aws", "spaces", "b2", "r2", "minio", "seaweedfs", "generic"] = "auto"
    """The vendor, for its limits and habits; auto tells by the endpoint."""
    endpoint: Endpoint | None = None
    """S3 endpoint; unset for AWS."""
    region: str | None = None
    """Region of the bucket."""
    bucket: str | None = None
    """Bucket that copies are kept in (kind s3)."""
    prefix: str = ""
    """Folder within the bucket or directory."""
    access_key: str | None = None
    """Access key id. Without both keys, the standard AWS chain (profile, instance role…) is asked."""
    secret_key: SecretStr | None = None
    """Secret access key."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Bucket in the path or in the host name."""
    checksum: Literal["auto", "sha256", "md5", "none"] = "auto"
    """Checksum that the store is asked to check on each part."""
    storage_class: dict[BackupType, str] = Field(default_factory=dict)
    """Storage class by backup type."""
    object_lock: Literal["", "governance", "compliance"] = ""
    """Lock each object for `object_lock_days`; the bucket must have Object Lock on."""
    object_lock_days: int = Field(0, ge=0)
    """How many days objects are locked."""
    retention: RetentionHere = RetentionHere()
    ca_bundle: AbsolutePath | None = None
    """CA certificates that the endpoint's must be signed by."""
    connect_timeout: WholeSeconds = Field(10, ge=1)
    """Longest wait for a connection."""
    read_timeout: WholeSeconds = Field(60, ge=1)
    """Longest wait for an answer."""
    max_attempts: int = Field(5, ge=1)
    """How often the SDK tries a request."""


class Settings(Strict):
    """Everything, decided. Made by `worker.config.load` only."""

    databases: dict[str, Database]
    destinations: dict[str, Destination]
    targets: dict[str, Target] = Field(default_factory=dict)
    broker_url: SecretStr = SecretStr("redis://localhost:6379/0")
    """Redis or Valkey that carries the messages."""
    ledger_url: SecretStr
    """SQL database that knows how far runs have come: sqlite:///… on one host, postgresql://… for a fleet."""
    state_dir: AbsolutePath
    """Directory for what pgfleet keeps on this host."""
    spool: AbsolutePath
    """Staging directory for backups on their way."""
    spool_reserve_bytes: Size = Field(256 * 1024**2, ge=0)
    """Space on the spool's file system that is never filled."""
    pg_bin: Folders = ()
    """Directories with PostgreSQL client tools, looked at first."""
    gpg_home: AbsolutePath
    """GnuPG home directory."""
    gpg_keys_dir: AbsolutePath | None = None
    """Directory of public keys that are imported at start."""
    gpg_private_keys_dir: AbsolutePath | None = None
    """Directory of private keys; on restore workers only."""
    gpg_passphrase_file: AbsolutePath | None = None
    """File with the private key's passphrase; unset for none, or gpg-agent."""
    signing_key: str | None = None
    """Key that signs evidence of drills, audit records and reports."""
    part_size: Size = Field(64 * 1024**2, ge=MIN_PART, le=MAX_PART)
    """The unit of upload, fetch and re-read; it grows when 10,000 parts would not suffice."""
    lease_seconds: Seconds = Field(90, gt=0)
    """How long a step is its worker's without a heartbeat (one is sent every quarter of it)."""
    reconcile_seconds: Seconds = Field(30, gt=0)
    """How often what is due is looked for."""
    spool_gone_seconds: Seconds = Field(900, gt=0)
    """After this silence of a spool's workers its runs start over elsewhere."""
    max_attempts: int = Field(5, ge=1)
    """How often a step is tried."""
    retry_base_seconds: Seconds = Field(5, gt=0)
    """Wait before the first retry; doubled for each further one."""
    retry_max_seconds: Seconds = Field(600, gt=0)
    """Longest wait before a retry."""
    run_deadline_seconds: Seconds = Field(48 * 3600, gt=0)
    """A run that takes longer fails."""
    restore_jobs: int = Field(4, ge=1)
    """Parallel jobs of pg_restore."""
    restore_thaw_tier: Literal["Expedited", "Standard", "Bulk"] = "Standard"
    """How fast, and at which price, archived objects are thawed."""
    thaw_days: int = Field(7, ge=1)
    """How many days thawed objects stay readable."""
    drill_server: str | None = None
    """Target on which drills restore; unset: a throwaway server."""
    scrub_days: int = Field(30, ge=1)
    """Every stored byte is read again within this many days."""
    scrub_schedule: Cron = DEFAULT_SCRUB_SCHEDULE
    """When each day's share of the stored bytes is read again, UTC."""
    scrub_bytes_per_second: Size = Field(0, ge=0)
    """How fast one worker process reads while it scrubs; 0 is as fast as it can."""
    scrub_repair: bool = False
    """Replace a copy that is found damaged by a good one, without being asked."""
    cleanup_max_fraction: float = Field(0.5, gt=0, le=1)
    """Cleanup asks before it removes more than this share of all backups."""
    orphan_grace_hours: float = Field(24, gt=0)
    """Unfinished uploads and objects that no manifest names are left alone for this many hours."""
    foreign_grace_days: float = Field(7, gt=0)
    """Those that the ledger knows nothing of are left alone for this many days: they may be another fleet's."""
    log_format: Literal["text", "json"] = "text"
    """One line per event, for people or for machines."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least important events that are logged."""
    notify_urls: SecretUrls = ()
    """Whom to tell about failures (Apprise URLs)."""
    digest: Digest = ""
    """When to send them a few lines on each database, UTC; daily and weekly (Mondays): at 07:00. Off by default."""
    report_schedule: Cron = DEFAULT_REPORT_SCHEDULE
    """When to write the report of the month before, UTC; off for only on demand."""
    metrics_seconds: Seconds = Field(300, gt=0)
    """How old what the exporter tells of the destinations may be: it lists them that often, if it is asked."""
    pushgateway_url: GatewayUrl | None = None
    """Pushgateway that a command with --here tells its metrics to when it ends; it may have a user and a password."""
    web_user: str = "pgfleet"
    """User of the web page."""
    web_password: SecretStr | None = None
    """Its password; without one the page is for this host alone."""
    flower_url: Endpoint | None = None
    """Where a browser finds Flower; the web page then links to it."""
    flower_user: str = "pgfleet"
    """User of the Flower page."""
    flower_password: SecretStr | None = None
    """Its password."""

    def retention(self, database: str, destination: str) -> Retention:
        """What is kept of that database in that destination: what the destination says goes before the database."""
        here = self.destinations[destination].retention.model_dump(exclude_none=True)
        return self.databases[database].retention.model_copy(update=here)
