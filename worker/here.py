"""A whole run in this process: no broker, no workers. For one machine, for cron, and for the day of the disaster."""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from worker import notify, runner
from worker.ledger.model import OPEN_STATES, Run
from worker.owner import is_dead, me
from worker.steps.context import Adapters

_Busy = set[Future[object]]
_RECORDS = 50


def work(adapters: Adapters, run_id: str, *, threads: int = 4) -> Run:
    """Do the steps of a run that was made for this process until nothing of it is left, and return it.

    Cancelling the run ends it early, its cleaning up included.
    """
    ledger = adapters.ledger
    here = ledger.run(run_id).here
    busy: _Busy = set()
    with ThreadPoolExecutor(threads, thread_name_prefix="step") as pool:
        while True:
            busy = _unfinished(busy)
            ledger.expired_exhausted()
            busy |= _start_due(adapters, run_id, here, pool, threads - len(busy))
            if busy:
                wait(busy, timeout=0.5, return_when=FIRST_COMPLETED)
                continue
            due_in = ledger.next_due_at(run_id=run_id, here=here)
            if due_in is None:
                _clean_up_after_the_dead(adapters)
                _deliver(adapters)
                notify.tell(ledger, adapters.settings)  # where there is no fleet nobody else does
                return ledger.run(run_id)
            time.sleep(min(max(due_in, 0.05), 1.0))


def _clean_up_after_the_dead(adapters: Adapters) -> None:
    """What a killed `--here` of this machine has left: a spool with plain archives, a database that was half loaded.

    Where there is a fleet, its `reconcile` has that run go on. Here it has failed, for nobody waits for it any more: a
    replace must not happen a day later. What cannot be cleaned up now is left for the next command.
    """
    ledger = adapters.ledger
    if ledger.workers(alive_within=adapters.settings.spool_gone_seconds):
        return
    ledger.break_dead_leases(is_dead)
    me_now = me()
    for run_id in ledger.inherit(is_dead, me_now):
        while hints := ledger.take_due(run_id=run_id, here=me_now, resend_after=0):
            for hint in hints:
                runner.perform(adapters, run_id, hint.step_id)


def _deliver(adapters: Adapters) -> None:
    """What is to be put on record, and waits in the ledger for a worker."""
    for run in adapters.ledger.runs(kind="audit", states=OPEN_STATES, limit=_RECORDS):
        for hint in adapters.ledger.take_due(run_id=run.id, limit=1):
            runner.perform(adapters, run.id, hint.step_id)


def _start_due(adapters: Adapters, run_id: str, here: str, pool: ThreadPoolExecutor, room: int) -> _Busy:
    if room <= 0:
        return set()
    hints = adapters.ledger.take_due(limit=room, run_id=run_id, here=here, resend_after=0)
    return {pool.submit(runner.perform, adapters, run_id, hint.step_id) for hint in hints}


def _unfinished(busy: _Busy) -> _Busy:
    for future in busy:
        if future.done():
            future.result()
    return {future for future in busy if not future.done()}
