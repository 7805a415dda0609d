"""Every error a user can meet, with what to do about it and what it means for the exit code.

PgfleetError
├── ConfigError             3  a setting is wrong: refused before any work
│   └── LedgerTooNew        3  a newer pgfleet has migrated the ledger
├── MissingDependency       2  a program or a client version is not there
├── DatabaseUnavailable     4  the source does not answer (retried)
├── DumpFailed              4
│   └── SpoolFull           4  not enough room to stage the backup
├── EncryptionFailed        5
├── DecryptionFailed        5
├── StorageError            6  a destination refused
│   ├── StorageUnavailable  6  it does not answer, or is busy (retried)
│   ├── AccessDenied        6
│   ├── BucketMissing       6
│   ├── ObjectMissing       6
│   ├── ObjectExists        6
│   ├── ObjectArchived      6  in cold storage: thaw it first
│   ├── ObjectLocked        6  the bucket forbids to delete it until a date
│   └── UploadGone          6  the multipart upload is no longer there
├── CopyDamaged             6  stored bytes differ from the manifest
├── DownloadFailed          4
├── RestoreFailed           6
├── ValidationFailed        7
├── RtoExceeded             8
├── BackupNotFound          1
├── RunNotFound             1
├── LedgerUnavailable       1  (retried)
├── BrokerUnavailable       1  (retried)
├── Busy                    1  somebody else holds the lock (retried)
├── UpgradeBlocked          1  workers of an older version are still alive (retried)
├── Cancelled               1
└── LeaseLost               1  this step belongs to another worker now

Each docstring says what it means, then its cause, what to check and the cure: docs/reference/errors.md is made of that.
Arguments are positional, because an error crosses process boundaries by ``type(error)(*error.args)``.
``exit_code`` holds the seed scripts' numbers: 4, 5 and 6 mean dump, encryption and upload in a backup, and
download, decryption and restore in a restore.
"""

from __future__ import annotations


class PgfleetError(Exception):
    """Anything else, and the ancestor of all. `message` says in one sentence what is wrong, `hint` what to do.

    Cause: Something outside the other kinds: a part of the embedded stack, or a fault of pgfleet itself.
    Check: The log of the worker or of the part that the message names.
    Cure: Do what the hint says; report it when the message asks for that.
    """

    exit_code = 1
    retryable = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(PgfleetError):
    """A setting, an option or a request is wrong; it was refused before any work began.

    Cause: A name is misspelt or missing, two settings contradict each other, a login is refused, or a request
    asks for what is not allowed.
    Check: `pgfleet config` shows what is in force and where each value comes from; `pgfleet doctor` tries it.
    Cure: Correct what the message names. It is never tried again by itself.
    """

    exit_code = 3


class LedgerTooNew(ConfigError):
    """A newer pgfleet has migrated the ledger.

    Cause: Another host was upgraded first.
    Check: `pgfleet --version` here and there.
    Cure: Upgrade pgfleet on this host.
    """


class MissingDependency(PgfleetError):
    """A program is missing, or too old for this server or archive.

    Cause: PostgreSQL's client tools of the server's major, its server programs (drills), gpg, or an extra of
    pgfleet are not installed.
    Check: `pgfleet doctor` lists the tools that were found, with their versions.
    Cure: Install what the hint names, or name its directory in `PGFLEET_PG_BIN`.
    """

    exit_code = 2


class DatabaseUnavailable(PgfleetError):
    """The source database does not answer, or cut the connection.

    Cause: The server is down, starts, is full, or something between refuses the connection.
    Check: `pgfleet doctor`; `psql` with the same host, port and user from the worker's machine; the server's
    log.
    Cure: Start or free the server. The step is tried again with growing pauses until its attempts are used
    up.
    """

    exit_code = 4
    retryable = True


class DumpFailed(PgfleetError):
    """The database answers, and yet it cannot be dumped.

    Cause: The role may not read everything, data is damaged, the server lacks locks or disk, or the dump took
    too long.
    Check: `pgfleet doctor` checks the role's rights; the server's log has the statement that failed.
    Cure: Do what the hint says, then `pgfleet backup`. Earlier backups are untouched.
    """

    exit_code = 4


class SpoolFull(DumpFailed):
    """There is not enough room on the spool to stage this.

    Cause: The dump and its encrypted twin are larger than what is free above the reserve, or other runs hold
    the space.
    Check: `pgfleet doctor` (its line "spool"); `df` there; `pgfleet runs` for runs that are still open.
    Cure: Free some space, or set `PGFLEET_SPOOL` to a larger disk. `PGFLEET_SPOOL_RESERVE_BYTES` is what is always
    kept free.
    """


class EncryptionFailed(PgfleetError):
    """The backup could not be encrypted, so it was not stored.

    Cause: The public key of a recipient is missing, ambiguous, expired or revoked; or gpg itself failed.
    Check: `pgfleet doctor` (its line "encryption"); `gpg --list-keys` as the worker's user.
    Cure: Import or renew the public key (`PGFLEET_GPG_KEYS_DIR`, `GPG_RECIPIENT`), then start the backup
    again.
    """

    exit_code = 5


class DecryptionFailed(PgfleetError):
    """The stored backup could not be decrypted.

    Cause: The private key or its passphrase is not on this worker, or the stored bytes are not what was
    encrypted.
    Check: `gpg --list-secret-keys`; `pgfleet show ID` names the recipients; `pgfleet verify ID` reads the
    copy back.
    Cure: Put the key into `PGFLEET_GPG_PRIVATE_KEYS_DIR` (passphrase: `PGFLEET_GPG_PASSPHRASE_FILE`), or
    restore from another copy.
    """

    exit_code = 5


class StorageError(PgfleetError):
    """A destination refused, or holds what it should not.

    Cause: It is set up otherwise than configured, its disk is full, or what is stored there was changed.
    Check: `pgfleet doctor` puts, reads and deletes an object in each destination; `pgfleet list` shows the
    copies.
    Cure: Do what the hint says. The copies in other destinations are made all the same.
    """

    exit_code = 6


class StorageUnavailable(StorageError):
    """A destination does not answer, or is busy.

    Cause: A network fault, throttling, or trouble at the provider.
    Check: `pgfleet doctor`; the provider's status page.
    Cure: Wait: it is tried again by itself. A copy that is missing in the end is caught up by `pgfleet copy
    ID --to DESTINATION`.
    """

    retryable = True


class AccessDenied(StorageError):
    """A destination refuses the key, or this user.

    Cause: A wrong access key, an expired session token, a policy without the right, a wrong clock, or a
    directory of another user.
    Check: `pgfleet doctor` says which operation is refused; `docs/policies` has what each role needs.
    Cure: Correct the key or the policy, then start the run again.
    """


class BucketMissing(StorageError):
    """There is no such bucket or directory.

    Cause: Its name is misspelt, it was deleted, or a disk is not mounted.
    Check: `pgfleet config` shows bucket, endpoint and path.
    Cure: Correct the setting, create the bucket, or mount the disk.
    """


class ObjectMissing(StorageError):
    """A stored object is not there any more.

    Cause: It was deleted by somebody, by a lifecycle rule or by a cleanup that ran meanwhile.
    Check: `pgfleet show ID` shows the state of each copy.
    Cure: Use another copy; `pgfleet repair ID` makes this one again from it.
    """


class ObjectExists(StorageError):
    """An object of that name is there already; nothing is overwritten.

    Cause: Two fleets write the same database to the same place, or an earlier run did.
    Check: `pgfleet list`, and who else writes to this bucket.
    Cure: Give each fleet a `prefix` of its own, or remove what is in the way.
    """


class ObjectArchived(StorageError):
    """The object is in cold storage and cannot be read at once.

    Cause: It was stored in, or moved to, GLACIER or DEEP_ARCHIVE.
    Check: `pgfleet show ID` shows the storage class of each copy.
    Cure: A restore thaws it by itself and waits (`PGFLEET_RESTORE_THAW_TIER`); other commands skip it.
    """


class ObjectLocked(StorageError):
    """The bucket forbids to delete it: object lock or a legal hold.

    Cause: `object_lock` or `pgfleet hold` locked it; that is what they are for.
    Check: `pgfleet cleanup --dry-run` says until when.
    Cure: Nothing, until the lock ends; or `pgfleet release ID` for a hold.
    """


class UploadGone(StorageError):
    """The unfinished upload is not in the bucket any more.

    Cause: A lifecycle rule or a person aborted it, or it was completed before.
    Check: The bucket's lifecycle rules (`AbortIncompleteMultipartUpload`).
    Cure: Give such a rule several days, then start the backup again.
    """


class CopyDamaged(PgfleetError):
    """What is stored is not what its manifest says.

    Cause: Bytes rotted, were cut off or replaced in the destination.
    Check: `pgfleet show ID` lists what is wrong with which copy; `pgfleet verify ID` reads it again.
    Cure: `pgfleet repair ID` from another copy; without a good one, `pgfleet backup` now. Find out why: other
    objects may be hit.
    """

    exit_code = 6


class DownloadFailed(PgfleetError):
    """The backup could not be fetched.

    Cause: No copy has the part right, the file is not there, or there is no room for it.
    Check: `pgfleet verify ID`; `pgfleet doctor` for the destinations.
    Cure: Take another copy (`--destination`) or backup, or free some space.
    """

    exit_code = 4


class RestoreFailed(PgfleetError):
    """The restore did not succeed. What was there before is unchanged.

    Cause: The target is too old, lacks an extension, role, right or room, or what was loaded did not pass its
    checks.
    Check: `pgfleet run show RUN` for the step that failed; `pgfleet restore --dry-run` checks all of it
    without writing.
    Cure: Do what the hint says, then restore again.
    """

    exit_code = 6


class ValidationFailed(PgfleetError):
    """What was restored or signed is not what it should be, or that could not be decided.

    Cause: The copy differs from its source, there is no fingerprint to compare with, or a signature does not
    fit.
    Check: The drill's report lists each difference; `pgfleet evidence list ID` has the record.
    Cure: Do not rely on this copy: drill another one, take a new backup, and find the reason.
    """

    exit_code = 7


class RtoExceeded(PgfleetError):
    """The backup is proven, but its recovery took longer than allowed.

    Cause: The database has grown, the drill host is slow, or the target (`PGFLEET_RTO_SECONDS`) is too short.
    Check: The report says which phase took how long.
    Cure: More `jobs`, a nearer copy, a faster host; or a target that the business agrees to.
    """

    exit_code = 8


class BackupNotFound(PgfleetError):
    """There is no such backup, or none that can be used.

    Cause: Its id is misspelt, it was removed by the retention, or a destination that holds it is not
    configured here.
    Check: `pgfleet list`.
    Cure: Name one that is listed, or `latest`.
    """


class RunNotFound(PgfleetError):
    """There is no such run in the ledger.

    Cause: Its id is misspelt, the beginning of it fits several, the run was forgotten after its time, or
    another ledger is configured.
    Check: `pgfleet runs`; `pgfleet config` shows the ledger.
    Cure: Name one that is listed.
    """


class LedgerUnavailable(PgfleetError):
    """The ledger does not answer.

    Cause: Its database is down, its disk is full, or this user may not write to it.
    Check: `pgfleet doctor` (its line "ledger").
    Cure: Bring its database back: runs go on where they were. On the day of a disaster, `restore --here`
    works without it.
    """

    retryable = True


class BrokerUnavailable(PgfleetError):
    """The broker does not answer, so workers are not told.

    Cause: Redis or Valkey is down, or its address or password is wrong.
    Check: `pgfleet doctor` (its line "broker").
    Cure: Bring it back: what was asked for is in the ledger and starts by itself. Or do it with `--here`.
    """

    retryable = True


class Busy(PgfleetError):
    """Somebody else holds the lock.

    Cause: Another backup of the same database is at work, or a session holds a table.
    Check: `pgfleet runs`; `pg_locks` and `pg_stat_activity` on the source.
    Cure: Wait: it is tried again by itself. End the session that the message names if it is a leftover.
    """

    retryable = True


class UpgradeBlocked(PgfleetError):
    """The ledger waits to be migrated until older workers have ended.

    Cause: Workers of a version that could not read the new tables are still alive.
    Check: `pgfleet status` and `pgfleet runs`; the message names the workers.
    Cure: Stop them, then start the new ones. It is tried again by itself.
    """

    retryable = True


class Cancelled(PgfleetError):
    """The work was stopped on request.

    Cause: `pgfleet cancel`, ctrl-C, or another step of the same run failed.
    Check: `pgfleet run show RUN` says who cancelled it.
    Cure: Start it again when it is wanted; what it left is swept.
    """


class LeaseLost(PgfleetError):
    """The step belongs to another worker now; this one stops its work.

    Cause: The worker was frozen, cut off from the ledger, or slower than its lease; or the run was cancelled.
    Check: `pgfleet run show RUN`: the step goes on elsewhere.
    Cure: Nothing. If it repeats, look at the load of the host, or raise `PGFLEET_LEASE_SECONDS`.
    """
