"""Every error a user can meet, with what to do about it and what it means for the exit code.

PgfleetError
├── ConfigError             3  a setting is wrong: refused before any work
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
├── Cancelled               1
└── LeaseLost               1  this step belongs to another worker now

Arguments are positional, because an error crosses process boundaries by ``type(error)(*error.args)``.
``exit_code`` holds the seed scripts' numbers: 4, 5 and 6 mean dump, encryption and upload in a backup, and
download, decryption and restore in a restore.
"""

from __future__ import annotations


class PgfleetError(Exception):
    """message: one sentence that says what is wrong. hint: one that says what to do."""

    exit_code = 1
    retryable = False

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(PgfleetError):
    exit_code = 3


class MissingDependency(PgfleetError):
    exit_code = 2


class DatabaseUnavailable(PgfleetError):
    exit_code = 4
    retryable = True


class DumpFailed(PgfleetError):
    exit_code = 4


class SpoolFull(DumpFailed):
    pass


class EncryptionFailed(PgfleetError):
    exit_code = 5


class DecryptionFailed(PgfleetError):
    exit_code = 5


class StorageError(PgfleetError):
    exit_code = 6


class StorageUnavailable(StorageError):
    retryable = True


class AccessDenied(StorageError):
    pass


class BucketMissing(StorageError):
    pass


class ObjectMissing(StorageError):
    pass


class ObjectExists(StorageError):
    pass


class ObjectArchived(StorageError):
    pass


class ObjectLocked(StorageError):
    pass


class UploadGone(StorageError):
    pass


class CopyDamaged(PgfleetError):
    exit_code = 6


class DownloadFailed(PgfleetError):
    exit_code = 4


class RestoreFailed(PgfleetError):
    exit_code = 6


class ValidationFailed(PgfleetError):
    exit_code = 7


class RtoExceeded(PgfleetError):
    exit_code = 8


class BackupNotFound(PgfleetError):
    pass


class RunNotFound(PgfleetError):
    pass


class LedgerUnavailable(PgfleetError):
    retryable = True


class BrokerUnavailable(PgfleetError):
    retryable = True


class Busy(PgfleetError):
    retryable = True


class Cancelled(PgfleetError):
    pass


class LeaseLost(PgfleetError):
    pass
