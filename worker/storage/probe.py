"""Try a destination for real: an object and a multipart upload, put, read back and deleted."""

from __future__ import annotations

import hashlib
import io
import secrets

from worker.errors import AccessDenied, ObjectLocked, StorageError
from worker.storage import ObjectStore

PROBE_PREFIX = "pgfleet-probe-"
_CONTENT = b"pgfleet was here; this object may be deleted.\n"


def try_store(store: ObjectStore) -> dict[str, str]:
    """``{"multipart": "yes", "delete": "yes"}``; delete is "no" where the key may not delete or the bucket locks.

    Raises StorageError and its kinds for everything else that does not work. What could not be deleted stays
    under PROBE_PREFIX.
    """
    name, sha256, size = (
        PROBE_PREFIX + secrets.token_hex(8),
        hashlib.sha256(_CONTENT).hexdigest(),
        len(_CONTENT),
    )
    store.put(name, _CONTENT, size=size, sha256=sha256)
    _read_back(store, name)
    deleted = _delete(store, name)

    joined = f"{name}-parts"
    upload = store.begin(joined)
    try:
        part = store.put_part(joined, upload, 1, io.BytesIO(_CONTENT), size=size, sha256=sha256)
        store.complete(joined, upload, [part])
    except StorageError:
        store.abort(joined, upload)
        raise
    _read_back(store, joined)
    return {"multipart": "yes", "delete": "yes" if _delete(store, joined) and deleted else "no"}


def _read_back(store: ObjectStore, name: str) -> None:
    with store.read(name) as stream:
        if stream.read() != _CONTENT:
            raise StorageError(
                f"Destination {store.name} gave back other bytes than were put.",
                "Do not use it: look for a proxy or a gateway in between that changes what passes.",
            )


def _delete(store: ObjectStore, name: str) -> bool:
    try:
        store.delete(name)
    except (AccessDenied, ObjectLocked):
        return False
    return True
