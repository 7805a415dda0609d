"""Read back who did what: from the audit records of every destination, older evidence, and what the ledger adds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from worker.catalog.reader import load, moment
from worker.core import audit, keys
from worker.core.audit import ANY, BY_ITSELF, Entry, Name, Record, Trust
from worker.core.evidence import signed_text
from worker.errors import ConfigError, ObjectArchived, ObjectMissing, PgfleetError
from worker.ledger.model import OPEN_STATES, Run
from worker.steps.context import Adapters
from worker.steps.inventory import Listed, list_all
from worker.steps.signatures import Trusted, check, trusted

_THREADS = 8
_RUNS = 1000
_EVIDENCE = ("restore", "hold", "drill")
Wanted = Callable[[Name], bool]


@dataclass
class Trail:
    """entries: oldest first. failures: destinations that could not be read. first_at: of the oldest record there.

    ledger: why it could not be asked, or "".
    """

    entries: list[Entry] = field(default_factory=list)
    failures: dict[str, PgfleetError] = field(default_factory=dict)
    first_at: datetime | None = None
    ledger: str = ""
    listed: list[Listed] = field(default_factory=list)

    @property
    def tampered(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.trust in audit.TAMPERED]


@dataclass
class _Found:
    """One record and where it lies. texts: what each destination says."""

    name: Name
    texts: dict[str, bytes | None] = field(default_factory=dict)


def trail(
    adapters: Adapters,
    since: datetime | None = None,
    until: datetime | None = None,
    database: str | None = None,
    signers: Sequence[str] = (),
) -> Trail:
    """Every action in that time (aware; `until` excluded), of one database with what concerns the whole fleet.

    signers: whose signatures count; none: PGFLEET_SIGNING_KEY's. Raises ConfigError for one that is not known here.
    """

    def wanted(name: Name) -> bool:
        return (since is None or name.at >= since) and (until is None or name.at < until)

    found = Trail()
    records, first_at = records_of(adapters, wanted, found.failures, signers)
    found.first_at = first_at
    found.listed, failures = list_all(adapters, database=database)
    found.failures |= failures
    entries = [*records, *_evidence(adapters, found.listed, wanted, records)]
    entries += _of_ledger(adapters, found, entries, wanted)
    still = {(item.backup_id, alias) for item in found.listed for alias in item.copies}
    shown = (entry for entry in entries if database in (None, entry.database) or entry.database == ANY)
    found.entries = sorted(
        (_removed(entry, still, found.failures) for entry in shown),
        key=lambda entry: (entry.at, entry.action, entry.where),
    )
    return found


def records_of(
    adapters: Adapters, wanted: Wanted, failures: dict[str, PgfleetError], signers: Sequence[str] = ()
) -> tuple[list[Entry], datetime | None]:
    """The audit records whose names are wanted, and the time of the oldest of all. signers: see `trusted`."""
    counting = _counting(adapters, signers)
    found: dict[str, _Found] = {}
    first_at: datetime | None = None
    places: list[tuple[str, str]] = []
    for alias in adapters.settings.destinations:
        try:
            for info in adapters.store(alias).list(audit.PREFIX):
                name = audit.parse(info.key)
                if name is None:
                    continue
                first_at = min(first_at or name.at, name.at)
                if wanted(name):
                    found.setdefault(info.key, _Found(name))
                    places.append((alias, info.key))
        except PgfleetError as error:
            failures[alias] = error
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="audit") as pool:
        for (alias, key), text in zip(
            places, pool.map(lambda place: _load(adapters, place[0], place[1], failures), places), strict=True
        ):
            found[key].texts[alias] = text
        return list(pool.map(lambda one: _judged(adapters, one, counting), found.values())), first_at


def _load(adapters: Adapters, alias: str, key: str, failures: dict[str, PgfleetError]) -> bytes | None:
    try:
        return load(adapters.store(alias), key)
    except (ObjectMissing, ObjectArchived):
        return None
    except PgfleetError as error:
        failures[alias] = error
        return None


def _judged(adapters: Adapters, found: _Found, counting: Trusted) -> Entry:
    """What destinations say about one action, and how far that can be trusted."""
    texts = {alias: text for alias, text in found.texts.items() if text is not None}
    read = [(text, _parsed(text, found.name)) for text in dict.fromkeys(texts.values())]
    judged = [(record, *_trust(adapters, record, counting)) for _, record in read if record is not None]
    good = next((one for one in judged if one[1] == "signed"), judged[0] if judged else None)
    places = tuple(texts)
    if good is None:
        nothing: Record = {"at": found.name.at.isoformat(), "action": found.name.action}
        return audit.entry(nothing, "unreadable", places)
    record, trust, key = good
    if len(read) > 1 and trust != "bad signature":
        trust, key = "copies differ", ""
    return audit.entry(record, trust, places, key)


def _parsed(text: bytes, name: Name) -> Record | None:
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) and audit.says_what_it_is(record, name) else None


def _trust(adapters: Adapters, record: Mapping[str, Any], counting: Trusted) -> tuple[Trust, str]:
    """How far it can be trusted, and the key that signed it or ""."""
    signature = record.get("signature")
    if not signature:
        # Somebody who takes the signature away leaves the name of the key, unless they take that too: then the
        # record is as good as one that was never signed.
        return "bad signature" if record.get("signed_by") else "unsigned", ""
    found = check(adapters, signed_text(record), str(signature).encode(), counting)
    return found.trust, found.key


def _counting(adapters: Adapters, signers: Sequence[str]) -> Trusted:
    """Raises ConfigError for one of `signers` that is not here. Nothing counts where the configured key is not."""
    try:
        return trusted(adapters, signers)
    except ConfigError:
        if signers:
            raise
        return frozenset()


def _evidence(
    adapters: Adapters, listed: list[Listed], wanted: Wanted, records: list[Entry]
) -> Iterator[Entry]:
    """Restores, holds and drills of before there were audit records, from the evidence beside their backups."""
    runs = {entry.run_id for entry in records if entry.run_id}
    holds = {str(entry.detail.get("evidence_at")) for entry in records if entry.action in ("hold", "release")}
    seen: set[tuple[Any, ...]] = set()
    for item in listed:
        for alias, copy in item.copies.items():
            for info in copy.objects:
                name = keys.parse(info.key)
                at = keys.evidence_time(info.key)
                if name is None or at is None or name.evidence not in _EVIDENCE:
                    continue
                if not wanted(Name(at, name.evidence, "")):
                    continue
                text = _load(adapters, alias, info.key, {})
                told = _of_evidence(text, item, alias)
                if told is None or told.run_id in runs or str(told.detail.get("evidence_at")) in holds:
                    continue
                what = (told.action, told.backup_id, told.run_id or told.detail.get("evidence_at"))
                if what not in seen:
                    seen.add(what)
                    yield told


def _of_evidence(text: bytes | None, item: Listed, alias: str) -> Entry | None:
    try:
        record = json.loads(text or b"")
    except ValueError:
        return None
    at = moment(record.get("at")) if isinstance(record, dict) else None
    if at is None:
        return None
    kind, by = record.get("kind"), str(record.get("by") or record.get("requested_by") or "unknown")
    if kind == "drill" and by in BY_ITSELF:
        return None
    detail: dict[str, Any] = {}
    where, result, action = alias, str(record.get("state") or record.get("verdict") or ""), str(kind)
    if kind == "hold":
        action, result = ("hold", "held") if record.get("held") else ("release", "released")
        detail = {"reason": record.get("reason"), "until": record.get("until"), "evidence_at": at.isoformat()}
    if kind == "restore":
        action = "fetch" if record.get("request", {}).get("output") else "restore"
        where = f"{record.get('target') or '?'}/{record.get('restored_as') or '?'}"
    run_id = str(record["run_id"]) if record.get("run_id") else None
    return Entry(
        at, by, action, item.database, item.backup_id, where, result, run_id, "evidence", (alias,), detail
    )


def _of_ledger(adapters: Adapters, found: Trail, known: list[Entry], wanted: Wanted) -> list[Entry]:
    """Records on their way, and actions that are not done yet."""
    try:
        waiting = adapters.ledger.runs(kind="audit", limit=_RUNS)
        open_ = [
            run
            for kind in ("restore", "cleanup", "drill")
            for run in adapters.ledger.runs(kind=kind, states=OPEN_STATES, limit=_RUNS)
        ]
    except PgfleetError as error:
        found.ledger = error.message
        return []
    have = {(entry.at, entry.action, entry.run_id, entry.backup_id) for entry in known}
    records = [
        run.request["record"] for run in waiting if run.state != "succeeded" and "record" in run.request
    ]
    entries = [audit.entry(record, "ledger", ()) for record in records]
    entries += [_at_work(run) for run in open_ if run.requested_by not in BY_ITSELF]
    return [
        entry
        for entry in entries
        if (entry.at, entry.action, entry.run_id, entry.backup_id) not in have
        and wanted(Name(entry.at, entry.action, ""))
    ]


def _at_work(run: Run) -> Entry:
    at = datetime.fromtimestamp(run.created_at, UTC)
    where = str(run.request.get("target") or run.request.get("destination") or "")
    return Entry(
        at,
        run.requested_by,
        run.kind,
        run.database,
        run.backup_id,
        where,
        run.state,
        run.id,
        "ledger",
        (),
        {},
    )


def _removed(entry: Entry, still: set[tuple[str, str]], failures: Mapping[str, PgfleetError]) -> Entry:
    """A removal is recorded before it begins: what came of it is seen by what is left."""
    if entry.action != "remove" or entry.where in failures:
        return entry
    return entry._replace(
        result="not removed" if (entry.backup_id or "", entry.where) in still else "removed"
    )


def newest_settings(adapters: Adapters, identity: str, role: str) -> tuple[dict[str, Any] | None, list[str]]:
    """The `detail` of the newest settings of that process, else of its role; and the destinations that answered."""
    failures: dict[str, PgfleetError] = {}
    records, _ = records_of(adapters, lambda name: name.action == "settings", failures)
    newest = sorted(
        (one for one in records if one.trust not in audit.TAMPERED), key=lambda one: one.at, reverse=True
    )
    mine = next((one for one in newest if one.detail.get("identity") == identity), None)
    alike = next((one for one in newest if one.detail.get("role") == role), None)
    chosen = mine or alike
    reached = [alias for alias in adapters.settings.destinations if alias not in failures]
    return (dict(chosen.detail) if chosen else None), reached
