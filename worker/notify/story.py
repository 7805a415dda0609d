"""What a notice is about: its run, and what came before it."""

from __future__ import annotations

from dataclasses import dataclass

from worker.ledger import Ledger
from worker.ledger.model import Notice, Run

BAD = frozenset({"failed", "damaged", "refuted", "could_not_run"})
_EARLIER = 100


@dataclass(frozen=True, slots=True)
class Story:
    """bad_before: runs of this kind and database that ended badly just before this one, newest first.

    last_good: the newest one before those, if any. overtaken: a later one has ended, so this is no news any more.
    """

    run: Run
    bad_before: list[Run]
    last_good: Run | None
    overtaken: bool

    @property
    def good(self) -> bool:
        return self.run.state not in BAD and self.run.state != "cancelled"

    @property
    def too_slow(self) -> bool:
        """A drill that proved its backup, later than it should have."""
        return (self.run.error or {}).get("type") == "RtoExceeded"

    @property
    def recovered(self) -> bool:
        return self.good and not self.too_slow and bool(self.bad_before)

    @property
    def first_bad(self) -> Run:
        """The oldest of the bad ones in a row, this one included when it is bad."""
        return self.bad_before[-1] if self.bad_before else self.run


def story(ledger: Ledger, notice: Notice) -> Story:
    run = ledger.run(notice.run_id)
    ended = [
        other
        for other in ledger.runs(kind=run.kind, database=run.database, limit=_EARLIER)
        if not other.open and other.state != "cancelled" and other.id != run.id
    ]
    before = [other for other in ended if _order(other) < _order(run)]
    good = next((at for at, other in enumerate(before) if other.state not in BAD), len(before))
    return Story(run, before[:good], before[good] if good < len(before) else None, len(before) < len(ended))


def _order(run: Run) -> tuple[float, str]:
    return (run.ended_at or run.created_at, run.id)
