"""The ledger: how far each run has come. What changes something does so in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from worker.ledger import claims, due, finish, history, mend, notices, runs, schedule, steps, tallies, workers
from worker.ledger.engine import Database
from worker.ledger.model import Claim, Hint, NewRun, NewStep, Notice, Run, Step, WorkerInfo
from worker.ledger.outcomes import FailOutcome, JobDue, RunEnd, Stats


class Ledger:
    """Runs and steps in SQLite (one host) or PostgreSQL (a fleet). Threads and forked children may share it.

    Every method may raise LedgerUnavailable (retryable), and ConfigError for tables of another version.
    """

    def __init__(self, url: str, *, max_attempts: int = 5, lease_seconds: float = 90.0) -> None:
        """`url`: ``sqlite:///path``, ``postgresql://…``, or ``sqlite://`` for one in this process.

        Raises ConfigError for any other.
        """
        self._database = Database(url)
        self._max_attempts = max_attempts
        self._lease_seconds = lease_seconds

    def migrate(self) -> None:
        """Create the database file (mode 0600) and the tables that are missing, bring old tables up to date;
        nothing to do is quick. Raises UpgradeBlocked while workers are alive that could not go on.
        """
        self._database.migrate()

    def ping(self) -> None:
        """Raises LedgerUnavailable when the database does not answer."""
        self._database.ping()

    def close(self) -> None:
        """Close this process's connections; the next call opens new ones. An in-memory ledger is gone."""
        self._database.close()

    # --- runs ---

    def create_run(self, new: NewRun, first: Iterable[NewStep]) -> tuple[Run, bool]:
        """(run, created): the existing run for an idempotency key, or job and slot, that is taken."""
        with self._database.write() as conn:
            return runs.create(conn, new, first, max_attempts=self._max_attempts)

    def run(self, run_id: str) -> Run:
        """By id or by an unambiguous beginning of one. Raises RunNotFound."""
        with self._database.read() as conn:
            return runs.get(conn, run_id)

    def runs(
        self,
        *,
        kind: str | None = None,
        database: str | None = None,
        states: Collection[str] | None = None,
        limit: int = 50,
        since: float | None = None,
    ) -> list[Run]:
        """Newest first. `since`: created at or after, epoch seconds."""
        with self._database.read() as conn:
            return runs.find(conn, kind=kind, database=database, states=states, limit=limit, since=since)

    def end_run(self, run_id: str, ending: RunEnd) -> bool:
        """End an open run, skip its undone steps, record the notice. False when it had ended already."""
        with self._database.write() as conn:
            return runs.end(conn, run_id, ending)

    def cancel(self, run_id: str, by: str) -> bool:
        """End an open run as cancelled; workers learn it by heartbeat. False when it had ended already."""
        with self._database.write() as conn:
            return runs.cancel(conn, run_id, by)

    def rewind(
        self,
        run_id: str,
        *,
        keep: Collection[str],
        why: str,
        max_rewinds: int = 3,
        generation: int | None = None,
    ) -> bool:
        """Start an open run again: a new generation with fresh rows of the steps called `keep`, all others
        void, no spool, no backup id. After `max_rewinds` the run fails. `generation`: only if it still
        is this. `why` is a clause ("no worker mounts spool X any more"). False: not started again.
        """
        with self._database.write() as conn:
            return mend.rewind(
                conn, run_id, keep=keep, max_rewinds=max_rewinds, why=why, generation=generation
            )

    # --- steps ---

    def steps(
        self,
        run_id: str,
        *,
        name: str | None = None,
        branch: str | None = None,
        generation: int | None = None,
        all_generations: bool = False,
    ) -> Iterator[Step]:
        """By id, a page at a time: no memory and no transaction is held. Default: the present generation."""
        with self._database.read() as conn:
            chosen = steps.chosen(
                conn, run_id, name=name, branch=branch, generation=generation, every=all_generations
            )
        after = 0
        while True:
            with self._database.read() as conn:
                page = steps.page(conn, chosen, after)
            if not page:
                return
            yield from page
            after = page[-1].id

    def waiting(self, run_id: str, limit: int = 3) -> list[Step]:
        """Steps that wait for their next attempt: `error`, or ``data["waiting_for"]``, says why."""
        with self._database.read() as conn:
            return steps.waiting(conn, run_id, limit)

    def progress(self, run_id: str) -> list[dict[str, Any]]:
        """{name, branch, total, done, running, failed, skipped, bytes_done, bytes_total, started_at,
        ended_at} for each name and branch of the present generation.
        """
        with self._database.read() as conn:
            return list(steps.progress(conn, run_id))

    def claim(self, run_id: str, step_id: int, *, owner: str) -> Claim | None:
        """The right to do a step, for one worker at a time; None when it is not due."""
        with self._database.write() as conn:
            return claims.claim(conn, run_id, step_id, owner=owner, lease_seconds=self._lease_seconds)

    def heartbeat(
        self, claim: Claim, *, bytes_done: int | None = None, bytes_total: int | None = None
    ) -> bool:
        """Extend the lease. False: stop working, the step was taken over, or its run or branch has ended."""
        with self._database.write() as conn:
            return claims.heartbeat(conn, claim, bytes_done=bytes_done, bytes_total=bytes_total)

    def note(self, claim: Claim, data: Mapping[str, Any]) -> None:
        """Merge into the step's data, durably, for the attempts to come. Raises LeaseLost."""
        with self._database.write() as conn:
            claims.note(conn, claim, data)

    def set_run(
        self,
        claim: Claim,
        *,
        backup_id: str | None = None,
        spool_id: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Set what is given on the claim's run; `data` is merged. Raises LeaseLost."""
        with self._database.write() as conn:
            claims.set_run(conn, claim, backup_id=backup_id, spool_id=spool_id, data=data)

    def commit(
        self,
        claim: Claim,
        result: Mapping[str, Any],
        next_steps: Iterable[NewStep] = (),
        *,
        end: RunEnd | None = None,
    ) -> None:
        """The step is done, what follows is inserted, `end` ends the run: all or nothing. Raises LeaseLost.

        `next_steps` is consumed inside the transaction: let it compute, not fetch. ``result["bytes"]``, where
        there is one, becomes the step's count of bytes.
        """
        with self._database.write() as conn:
            done = finish.commit(conn, claim, result, next_steps, end, max_attempts=self._max_attempts)
        if not done:
            raise claims.lost(claim)

    def fail(self, claim: Claim, error: Mapping[str, Any], *, retry_in: float | None) -> FailOutcome:
        """Try again in `retry_in` seconds while attempts are left; else (or with None) it fails for good,
        and with it its branch, or the run (once, with a notice). `error`: {type, message, hint, exit_code}.
        """
        with self._database.write() as conn:
            return finish.fail(conn, claim, error, retry_in)

    def postpone(self, claim: Claim, seconds: float, data: Mapping[str, Any] | None = None) -> None:
        """Due again in `seconds`; the attempt does not count; `data` is noted."""
        with self._database.write() as conn:
            claims.give_back(conn, claim, seconds, data or {})

    def release(self, claim: Claim) -> None:
        """The work has stopped: due at once, the attempt does not count. Harmless and useful after LeaseLost:
        what cleans up after a run waits until its workers have let go.
        """
        with self._database.write() as conn:
            claims.give_back(conn, claim, 0.0, {})

    # --- what is due ---

    def take_due(
        self, *, limit: int = 32, run_id: str | None = None, resend_after: float = 30.0, here: str = ""
    ) -> list[Hint]:
        """Hints to send now, marked as sent. One that nothing came of is due again after `resend_after`
        seconds, then after twice as long, and so on up to an hour; 0 sends whatever is due.
        """
        with self._database.write() as conn:
            return due.take(conn, limit=limit, run_id=run_id, resend_after=resend_after, here=here)

    def next_due_at(self, run_id: str | None = None, here: str = "") -> float | None:
        """Seconds from now until something may become due by itself; None: never."""
        with self._database.read() as conn:
            return due.next_due_in(conn, run_id=run_id, here=here)

    def schedule_due(self, jobs: Iterable[JobDue]) -> list[Run]:
        """Insert the runs that the schedule owes, each slot once, and return those that this call made."""
        made = []
        for job in jobs:
            with self._database.write() as conn:
                run = schedule.insert_due(conn, job, max_attempts=self._max_attempts)
            if run is not None:
                made.append(run)
        return made

    # --- mending ---

    def expired_exhausted(self) -> int:
        """Fail for good the steps whose last worker is gone and whose attempts are used up; how many."""
        with self._database.read() as conn:
            found = finish.exhausted(conn)
        return sum(self._each(finish.fail_exhausted, run_id, step_id) for run_id, step_id in found)

    def break_dead_leases(self, dead: Callable[[str], bool]) -> int:
        """Make due at once the steps whose owner is known to be dead (a process of this host); how many."""
        with self._database.read() as conn:
            owners = claims.owners(conn)
        gone = [owner for owner in owners if dead(owner)]
        return sum(self._each(claims.expire, owner) for owner in gone)

    def adopt_orphans(self, dead: Callable[[str], bool]) -> int:
        """Give the unfinished runs of dead `here` processes to the fleet; how many."""
        with self._database.read() as conn:
            found = mend.private(conn)
        gone = [(run_id, here) for run_id, here in found if dead(here)]
        return sum(self._each(mend.adopt, run_id, here) for run_id, here in gone)

    def inherit(self, dead: Callable[[str], bool], to: str) -> list[str]:
        """Fail the unfinished runs of dead `here` processes; the process `to` may clean up after them."""
        with self._database.read() as conn:
            found = mend.private(conn)
        return [
            run_id
            for run_id, here in found
            if here != to and dead(here) and self._each(mend.inherit, run_id, here, to)
        ]

    def unswept(self) -> list[tuple[str, int, str]]:
        """(run, step, spool) of each undone clean-up after a fleet's run that has ended and had a spool."""
        with self._database.read() as conn:
            return mend.unswept(conn)

    def fail_overdue(self, seconds: float) -> int:
        """Fail the runs that have been open for longer than `seconds`; how many."""
        with self._database.read() as conn:
            found = mend.overdue(conn, seconds)
        return sum(self._each(mend.fail_overdue, run_id, seconds) for run_id in found)

    def prune(self, older_than_days: float, *, keep: int = 20) -> int:
        """Forget runs that ended before then, but the newest `keep` of each kind and database; how many."""
        with self._database.read() as conn:
            found = mend.old(conn, older_than_days, keep)
        return sum(self._each(mend.forget, run_id) for run_id in found)

    def _each(self, change: Callable[..., int], *args: Any) -> int:
        """One small transaction, so that no lock is held for long or in a strange order."""
        with self._database.write() as conn:
            return change(conn, *args)

    # --- workers, notices, numbers ---

    def beat(self, info: WorkerInfo) -> None:
        """This worker is alive, by the database's clock."""
        with self._database.write() as conn:
            workers.beat(conn, info)

    def stopped(self, worker: str) -> None:
        """This worker ends now."""
        with self._database.write() as conn:
            workers.stop(conn, worker)

    def workers(self, *, alive_within: float) -> list[WorkerInfo]:
        """Those that beat within so many seconds, by name."""
        with self._database.read() as conn:
            return workers.alive(conn, alive_within)

    def forget_workers(self, older_than: float) -> int:
        with self._database.write() as conn:
            return workers.forget(conn, older_than)

    def pending_notices(self, limit: int = 50) -> list[Notice]:
        """Notices to send now, for two minutes nobody else's. Answer by `notice_sent` or `notice_failed`."""
        with self._database.write() as conn:
            return notices.take(conn, limit)

    def notice_sent(self, notice_id: int) -> None:
        with self._database.write() as conn:
            notices.sent(conn, notice_id)

    def notice_failed(self, notice_id: int, retry_in: float, told: Collection[str] = ()) -> None:
        """Again in `retry_in` seconds, doubled for each earlier attempt, an hour at most; not for `told`."""
        with self._database.write() as conn:
            notices.failed(conn, notice_id, retry_in, told)

    def told(self, run_id: str) -> list[history.Told]:
        """The events of a run, oldest first."""
        with self._database.read() as conn:
            return history.told(conn, run_id)

    def tallies(self, within: float) -> tallies.Tallies:
        """What was tried again, started again and sent again, over the runs of the last `within` seconds."""
        with self._database.read() as conn:
            return tallies.tally(conn, within)

    def stats(self) -> Stats:
        """Counts for the metrics."""
        with self._database.read() as conn:
            return Stats(tuple(runs.counts(conn)), tuple(due.depths(conn)), *notices.pending(conn))
