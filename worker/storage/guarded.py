"""What cold storage and object lock add to a store. A directory has neither and says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Protocol

from worker.storage import ObjectStore

ThawTier = Literal["Expedited", "Standard", "Bulk"]
#: none: in cold storage, and nobody has asked for it. thawing: asked for. ready: it can be read now.
ThawState = Literal["none", "thawing", "ready"]
#: The lock of a legal hold: it lasts until somebody takes it off.
UNTIL_RELEASED = datetime.max.replace(tzinfo=UTC)


class GuardedStore(ObjectStore, Protocol):
    """Every method may raise StorageError and its kinds, ObjectMissing among them."""

    def thaw(self, key: str, days: int, tier: ThawTier) -> None:
        """Ask for a readable copy for `days`. Idempotent; nothing happens to what is readable already."""

    def thaw_state(self, key: str) -> ThawState: ...

    def lock_until(self, key: str) -> datetime | None:
        """Until when the store refuses to delete the object; UNTIL_RELEASED under a legal hold; None: it does not."""

    def extend_lock(self, key: str, until: datetime) -> bool:
        """Lock it at least until then; a lock is never shortened. False: this store has no locks."""

    def set_legal_hold(self, key: str, on: bool) -> bool:
        """False: this store has no legal holds."""
