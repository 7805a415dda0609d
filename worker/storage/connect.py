"""From a configured destination to its store."""

from __future__ import annotations

from worker.config.model import Destination
from worker.storage.directory import DirectoryStore
from worker.storage.guarded import GuardedStore
from worker.storage.s3 import S3Store


def open_store(destination: Destination) -> GuardedStore:
    """The store of `destination`; nothing is asked of it yet. Not to be used across a fork.

    Raises ConfigError, StorageError.
    """
    return S3Store(destination) if destination.kind == "s3" else DirectoryStore(destination)
