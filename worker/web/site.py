"""Which page an address means, and what becomes of one that cannot be shown."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote, urlsplit

from worker.errors import LedgerUnavailable, PgfleetError, RunNotFound
from worker.metrics.readings import Readings
from worker.web import icon, views
from worker.web.sources import Sources
from worker.web.views import Missing

log = logging.getLogger("pgfleet.web")
_PAGE = re.compile(r"/(?P<kind>database|backup|run)/(?P<name>[A-Za-z0-9_.-]{1,128})")
_ICON = re.compile(r"/icon-([0-3])\.svg")
_HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """fixed: it is the same for ever, so a browser may keep it."""

    code: int
    text: str
    type: str = _HTML
    fixed: bool = False


class Site:
    """Safe for threads."""

    def __init__(self, readings: Readings) -> None:
        self._sources = Sources(readings)

    def answer(self, target: str) -> Answer:
        """`target`: path and query as the client sent them. Whatever happens, this is a page."""
        now = datetime.now(UTC)
        try:
            address = urlsplit(target)
            if dot := _ICON.fullmatch(address.path):
                return Answer(200, icon.favicon(int(dot[1])), "image/svg+xml", fixed=True)
            self._sources.read()
            now = datetime.now(UTC)
            return Answer(200, self._page(unquote(address.path), _query(address.query), now))
        except (Missing, RunNotFound, ValueError) as missing:
            said = missing.message if isinstance(missing, PgfleetError) else str(missing)
            return self._trouble(404, now, "There is no such page", said, "")
        except LedgerUnavailable as error:
            return self._trouble(503, now, "The ledger does not answer", error.message, error.hint)
        except Exception as error:
            log.exception("a page cannot be shown", extra={"action": "web.bug"})
            return self._trouble(
                500,
                now,
                "This page cannot be shown",
                f"Something in pgfleet is wrong ({type(error).__name__}); its log says where.",
                "`pgfleet status` tells the same in a terminal. Please report this.",
            )

    def _page(self, path: str, query: Mapping[str, str], now: datetime) -> str:
        if path == "/":
            return views.overview(self._sources, now)
        if path == "/runs":
            return views.runs(self._sources, query, now)
        found = _PAGE.fullmatch(path)
        if found is None:
            raise Missing(f"Nothing is at {path[:100]}.")
        view = {"database": views.database, "backup": views.backup, "run": views.run}[found["kind"]]
        return view(self._sources, found["name"], now)

    def _trouble(self, code: int, now: datetime, title: str, what: str, hint: str) -> Answer:
        return Answer(code, views.trouble(self._sources, now, title, what, hint))


def _query(text: str) -> dict[str, str]:
    """Raises ValueError for more than anybody needs."""
    return dict(parse_qsl(text, max_num_fields=10))
