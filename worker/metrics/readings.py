"""All parts as one process reads them; with less patience than a backup has, for somebody is waiting."""

from __future__ import annotations

from functools import partial
from typing import Any

from worker.config.model import Destination, Settings
from worker.gpg import Key
from worker.ledger import Ledger
from worker.metrics import activity, holdings, surroundings
from worker.metrics.activity import Activity
from worker.metrics.holdings import Holdings
from worker.metrics.reading import Reading, read_all
from worker.metrics.surroundings import Memory, Room
from worker.steps.context import Adapters

#: The ledger and what else is near is read at most this often; the destinations as the settings say.
NEAR_SECONDS = 15.0
#: Less than the exporter waits when it is asked once.
LISTING_SECONDS = 45.0


class Readings:
    """destinations, ledger, keys, spool, broker: each read by itself, so that one that hangs hides no other."""

    def __init__(
        self,
        settings: Settings,
        *,
        max_age: float,
        near_age: float = NEAR_SECONDS,
        patience: float = LISTING_SECONDS,
        ledger: Ledger | None = None,
    ) -> None:
        """`patience`: seconds that a destination has to be listed. `ledger`: one that is open already."""
        self.settings = settings
        self.adapters = Adapters(_hasty(settings), ledger)
        near, found = min(near_age, max_age), self.adapters
        listings = {alias: holdings.listing(found, alias, max_age) for alias in settings.destinations}
        read = partial(holdings.read, found, listings, patience)
        self.destinations: Reading[Holdings] = Reading("destinations", read, max_age)
        self.ledger: Reading[Activity] = Reading("ledger", partial(activity.read, found), near)
        self.keys: Reading[dict[str, list[Key]]] = Reading("keys", partial(surroundings.keys, found), max_age)
        self.spool: Reading[Room] = Reading("spool", partial(surroundings.spool, found), near)
        self.broker: Reading[Memory | None] = Reading("broker", partial(surroundings.broker, found), near)

    @property
    def parts(self) -> list[Reading[Any]]:
        return [self.destinations, self.ledger, self.keys, self.spool, self.broker]

    def read(self, patience: float) -> None:
        """Everything that is due; what is not read within `patience` seconds is told next time."""
        read_all(self.parts, patience)

    def close(self) -> None:
        self.adapters.ledger.close()


def _hasty(settings: Settings) -> Settings:
    def hurry(destination: Destination) -> Destination:
        update = {
            "max_attempts": 2,
            "connect_timeout": min(5, destination.connect_timeout),
            "read_timeout": min(15, destination.read_timeout),
        }
        return destination.model_copy(update=update)

    hasty = {alias: hurry(destination) for alias, destination in settings.destinations.items()}
    return settings.model_copy(update={"destinations": hasty})
