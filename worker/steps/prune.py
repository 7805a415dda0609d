"""Decide which copies of one database may go, in every destination: read, judge, say why. Nothing is removed here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

from worker.catalog import Catalog, Entry
from worker.config.model import Settings
from worker.core import keys, plan_text
from worker.core.cost import early_delete_note
from worker.core.requests import CleanupRequest
from worker.core.retention import Candidate, Verdict, clock_reason, decide, owed, too_large
from worker.errors import ObjectMissing, PgfleetError, StorageUnavailable
from worker.steps import clock
from worker.steps.context import Adapters, Context, Outcome
from worker.steps.inventory import Listed, list_all
from worker.storage.guarded import UNTIL_RELEASED, GuardedStore

_THREADS = 8
PLAN_TOO_LARGE = "PlanTooLarge"
CLOCK_LOOKS_WRONG = "ClockLooksWrong"


@dataclass(frozen=True)
class Judged:
    """One copy and what is to become of it. `cost`: what deleting it now still pays for."""

    destination: str
    entry: Entry
    verdict: Verdict
    cost: str | None

    @property
    def row(self) -> dict[str, Any]:
        return plan_text.row(self.destination, self.verdict, self.cost)


@dataclass(frozen=True)
class Survey:
    """What there is and what may go; and the destinations that could not be listed.

    owed: destination → the backups that its retention keeps, wherever they are now.
    """

    copies: list[Judged]
    failures: dict[str, PgfleetError]
    owed: Mapping[str, frozenset[str]]

    def relied_on(self, destination: str, minimum: int) -> list[str]:
        """The backups whose staying lets others go there: the newest good ones, and the newest proven one."""
        staying = [
            copy.verdict.candidate
            for copy in self.copies
            if copy.destination == destination and copy.verdict.keep and copy.verdict.candidate.good
        ]
        proven = [copy for copy in staying if copy.proven_at is not None]
        return list(dict.fromkeys(copy.backup_id for copy in [*staying[: max(1, minimum)], *proven[:1]]))


def plan(context: Context) -> Outcome:
    """Judge every copy of the run's database. A dry run and a plan that is too large end here."""
    request = cast(CleanupRequest, context.request("cleanup"))
    settings, database = context.settings, context.database
    now = datetime.now(UTC)
    trouble = clock.trouble(context, now)
    found = survey(context.adapters, database.alias, now, clock_trouble=trouble, check=context.check)
    wanted = [copy for copy in found.copies if request.destination in (None, copy.destination)]
    failures = {
        alias: error for alias, error in found.failures.items() if request.destination in (None, alias)
    }
    if failures and not wanted:
        first = next(iter(failures.values()))
        raise PgfleetError(first.message, first.hint)
    rows = [copy.row for copy in wanted]
    reached = [
        alias
        for alias in settings.destinations
        if alias not in found.failures and request.destination in (None, alias)
    ]
    result: dict[str, Any] = {
        "plan": rows,
        "failures": {alias: [error.message, error.hint] for alias, error in failures.items()},
        "destinations": reached,
        "sweeping": reached,
        "locking": [alias for alias in reached if settings.destinations[alias].object_lock],
    }
    if request.dry_run:
        return _dry_run(result)
    every = [copy.verdict for copy in found.copies]
    alarms = [clock_reason(trouble)] if trouble else [one.reason for one in every if one.rule == "clock"]
    if alarms:
        told = plan_text.clock_message(database.alias, alarms[0])
        return _stopped(context, result, CLOCK_LOOKS_WRONG, told)
    if not request.force and (large := _too_large(found, settings.cleanup_max_fraction)):
        where, copies = large
        told = plan_text.too_large_message(
            [copy.row for copy in copies], database.alias + where, settings.cleanup_max_fraction
        )
        return _stopped(context, result, PLAN_TOO_LARGE, told)
    return Outcome(result | {"goes_on": True}, _removals(settings, database.alias, found, wanted))


def _too_large(found: Survey, fraction: float) -> tuple[str, list[Judged]] | None:
    """What of the plan is too large: all of it, or that in one destination, which others must not make up for."""
    groups = {"": found.copies}
    for copy in found.copies:
        groups.setdefault(f" in {copy.destination}", []).append(copy)
    large = (group for group in groups.items() if too_large([one.verdict for one in group[1]], fraction))
    return next(large, None)


def _stopped(context: Context, result: dict[str, Any], kind: str, told: tuple[str, str]) -> Outcome:
    """The end of a run that removes nothing until somebody has looked."""
    message, hint = told
    error = {"type": kind, "message": message, "hint": hint, "exit_code": 1, "step": context.step.name}
    sums = {"destinations": plan_text.totals(result["plan"])}
    return Outcome(result, end="failed", run_result=sums, error=error)


def _dry_run(result: dict[str, Any]) -> Outcome:
    """The end of a run that only shows its plan; failed when it could not see every destination."""
    shown = {"dry_run": True, "destinations": plan_text.totals(result["plan"])}
    for message, hint in result["failures"].values():
        error = {"type": "CleanupFailed", "message": message, "hint": hint, "exit_code": 1}
        return Outcome(result, end="failed", run_result=shown, error=error)
    return Outcome(result, end="succeeded", run_result=shown)


def _removals(
    settings: Settings, database: str, found: Survey, wanted: Sequence[Judged]
) -> Iterator[dict[str, Any]]:
    relied = {
        alias: found.relied_on(alias, settings.retention(database, alias).minimum)
        for alias in dict.fromkeys(copy.destination for copy in wanted)
    }
    for copy in wanted:
        if not copy.verdict.keep:
            yield {
                "destination": copy.destination,
                "backup_id": copy.entry.backup_id,
                "bytes": copy.verdict.candidate.size,
                "rule": copy.verdict.rule,
                "reason": copy.verdict.reason,
                "relies_on": relied[copy.destination],
            }


def survey(
    adapters: Adapters,
    database: str,
    now: datetime,
    *,
    clock_trouble: str = "",
    check: Callable[[], None] = lambda: None,
    known: tuple[list[Listed], Mapping[str, PgfleetError]] | None = None,
) -> Survey:
    """Every copy of `database` and its verdict at `now`. `check` raises when the work has to end.

    `known`: what `list_all` has found of that database just now, so that nothing is listed twice.

    Raises ConfigError; a destination that does not answer is among the failures.
    """
    listed, failed = known or list_all(adapters, database=database)
    failures = dict(failed)
    configured = adapters.database(database)
    unseen = [alias for alias in configured.destinations if alias in failures]
    due = owed_by_destination(adapters.settings, database, listed, now)
    backups = {item.backup_id: item for item in listed}
    copies: list[Judged] = []
    for destination in adapters.settings.destinations:
        if destination in failures:
            continue
        entries = {item.backup_id: item.copies[destination] for item in listed if destination in item.copies}
        candidates = [
            _candidate(destination, item, unseen)
            for item in listed
            if item.backup_id in entries and _counts(entries[item.backup_id])
        ]
        check()
        policy = adapters.settings.retention(database, destination)
        verdicts = decide(candidates, policy, now, clock_trouble=clock_trouble)
        try:
            locks = _locks(
                adapters, destination, [entries[v.candidate.backup_id] for v in verdicts if not v.keep]
            )
        except StorageUnavailable as error:
            failures[destination] = error
            continue
        candidates = [
            replace(candidate, locked_until=locks.get(candidate.backup_id)) for candidate in candidates
        ]
        for verdict in decide(candidates, policy, now, clock_trouble=clock_trouble):
            entry = entries[verdict.candidate.backup_id]
            lacking = _lacking(backups[entry.backup_id], due)
            told = _explained(_awaited(verdict, lacking), unseen)
            copies.append(Judged(destination, entry, told, _cost(entry, now)))
    return Survey(copies, failures, due)


def owed_by_destination(
    settings: Settings, database: str, listed: Sequence[Listed], now: datetime
) -> dict[str, frozenset[str]]:
    """For each destination of the database, the backups that it is to have a copy of. `listed`: of that database."""
    backups = [
        Candidate(
            item.backup_id,
            0,
            good=any(is_good(copy) for copy in item.copies.values()),
            managed=any(copy.manifest is not None for copy in item.copies.values()),
        )
        for item in listed
        if any(_counts(copy) for copy in item.copies.values())
    ]
    return {
        alias: owed(backups, settings.retention(database, alias), now)
        for alias in settings.databases[database].destinations
    }


def _lacking(item: Listed, due: Mapping[str, frozenset[str]]) -> list[str]:
    """The destinations that are to have a copy of it and have no good one, as far as is known."""
    return [
        alias
        for alias, backups in due.items()
        if item.backup_id in backups and (alias not in item.copies or not is_good(item.copies[alias]))
    ]


def _awaited(verdict: Verdict, lacking: Sequence[str]) -> Verdict:
    """A short retention here does not take from a longer one elsewhere what never arrived there."""
    if verdict.keep or not verdict.candidate.good or not lacking:
        return verdict
    reason = f"It stays until {lacking[0]}, whose retention keeps it, has a good copy."
    return replace(verdict, keep=True, rule="only_good_copy", reason=reason)


def _counts(entry: Entry) -> bool:
    """Is it a backup, or the rest of one that was sealed once? What was never sealed is the sweep's."""
    return entry.state != "incomplete" or was_sealed(entry)


def was_sealed(entry: Entry) -> bool:
    """Only what had a manifest gets evidence of what is in it: its removal was begun, or its manifest was lost."""
    names = [keys.parse(info.key) for info in entry.objects]
    return any(name is not None and name.evidence in ("verify", "scrub") for name in names)


def is_good(entry: Entry) -> bool:
    return entry.state not in ("damaged", "incomplete") and entry.refuted_at is None


def _candidate(destination: str, item: Listed, unseen: Sequence[str]) -> Candidate:
    entry = item.copies[destination]
    others = [
        other for alias, other in item.copies.items() if alias != destination and other.state != "incomplete"
    ]
    return Candidate(
        backup_id=item.backup_id,
        size=sum(info.size for info in entry.objects),
        state=entry.state,
        good=is_good(entry),
        refuted=entry.refuted_at is not None and entry.state != "damaged",
        managed=entry.manifest is not None,
        proven_at=entry.proven_at,
        # A hold is the backup's: a copy that was made or came back after it has no record of it yet.
        held=next((copy.hold for copy in (entry, *item.copies.values()) if copy.hold is not None), None),
        other_copies=len(others) + len(unseen),
        other_good_copies=sum(is_good(other) for other in others),
    )


def _explained(verdict: Verdict, unseen: Sequence[str]) -> Verdict:
    if verdict.rule != "only_good_copy" or not unseen or verdict.candidate.other_good_copies:
        return verdict
    where = ", ".join(unseen)
    return replace(verdict, reason=f"It may be the only good copy: {where} cannot be listed now.")


def _locks(adapters: Adapters, destination: str, doomed: Sequence[Entry]) -> dict[str, datetime]:
    """backup id → until when its store keeps it. Only asked for what would go: it costs requests."""
    if not doomed:
        return {}
    store, catalog = adapters.store(destination), adapters.catalog(destination)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="locks") as pool:
        found = pool.map(lambda entry: lock_of(store, catalog, entry), doomed)
        return {entry.backup_id: lock for entry, lock in zip(doomed, found, strict=True) if lock is not None}


def lock_of(store: GuardedStore, catalog: Catalog, entry: Entry) -> datetime | None:
    """The lock of the copy itself; of its evidence only when nothing else is left.

    A legal hold that is still there when the hold of ours it came from has run out does not count: the removal
    takes it off.
    """
    named = [(keys.parse(info.key), info.key) for info in entry.objects]
    own = [key for name, key in named if name is not None and name.role != "evidence"]
    latest: datetime | None = None
    for key in own or [key for _, key in named]:
        try:
            lock = store.lock_until(key)
        except ObjectMissing:
            continue
        if lock == UNTIL_RELEASED and hold_ran_out(catalog, entry):
            continue
        latest = max((at for at in (latest, lock) if at is not None), default=None)
    return latest


def hold_ran_out(catalog: Catalog, entry: Entry) -> bool:
    """Whether the newest hold was given an end that has passed. (A release takes the legal hold off itself.)"""
    records = catalog.evidence(entry.backup_id, "hold")
    return not entry.held and bool(records) and records[-1].get("held") is True


def _cost(entry: Entry, now: datetime) -> str | None:
    notes = (early_delete_note(info.storage_class, info.modified, now) for info in entry.objects)
    return next((note for note in notes if note), None)
