"""How a step runs, whoever asks for it: claim the row, work under a heartbeat, commit by the fence.

The Celery tasks and `--here` both come through here. What happens when the process is killed:

* before the claim: nothing was done; the hint is sent again by `reconcile`
* during the work: the lease runs out (or the dead owner is noticed), the step is due again
* after the work, before the commit: the same; the work is idempotent by name
* after the commit, before the hints: the next steps are rows already; `reconcile` sends them
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from worker import flows, log
from worker.config.model import Settings
from worker.errors import Busy, LeaseLost, LedgerUnavailable, PgfleetError
from worker.ledger import Ledger, RunEnd
from worker.ledger.model import Claim
from worker.notify import ping
from worker.owner import me
from worker.steps import (
    audit,
    audit_run,
    audit_settings,
    conclude,
    copy,
    digest,
    drill_examine,
    drill_fingerprint,
    drill_report,
    drill_server,
    dump,
    encrypt,
    patience,
    prune,
    prune_lock,
    prune_remove,
    prune_sweep,
    report_month,
    restore_check,
    restore_choose,
    restore_end,
    restore_fetch,
    restore_globals,
    restore_load,
    restore_prepare,
    restore_swap,
    scrub,
    sweep,
    upload,
    verify,
)
from worker.steps.context import Adapters, Context, Later, Outcome

logger = logging.getLogger("pgfleet.runner")

#: How often, and how long, a step waits for somebody else's lock before that counts as a failure.
MAX_WAITS = 60
WAIT_SECONDS = 15.0
COMMIT_AGAIN_SECONDS = 2.0

STEPS: Mapping[str, Callable[[Context], Outcome]] = {
    "backup.dump": dump.dump,
    "backup.encrypt": encrypt.encrypt,
    "backup.upload": upload.upload,
    "backup.upload_part": upload.upload_part,
    "backup.seal": upload.seal,
    "backup.verify": verify.verify,
    "backup.verify_part": verify.verify_part,
    "backup.attest": verify.attest,
    "backup.conclude": conclude.conclude,
    "backup.sweep": sweep.sweep_run,
    "copy.plan": copy.plan,
    "copy.open": copy.open_artifact,
    "copy.part": copy.copy_part,
    "copy.seal": copy.seal,
    "scrub.plan": scrub.plan,
    "scrub.part": scrub.read_part,
    "scrub.attest": scrub.attest,
    "scrub.conclude": scrub.conclude,
    "cleanup.plan": prune.plan,
    "cleanup.remove": prune_remove.remove,
    "cleanup.tidy": prune_sweep.tidy,
    "cleanup.sweep": prune_sweep.sweep,
    "cleanup.lock": prune_lock.extend,
    "cleanup.conclude": prune_remove.conclude,
    "restore.choose": restore_choose.choose,
    "restore.thaw": restore_fetch.thaw,
    "restore.fetch_part": restore_fetch.fetch_part,
    "restore.decrypt": restore_fetch.decrypt,
    "restore.check": restore_check.check,
    "restore.deliver": restore_check.deliver,
    "restore.prepare": restore_prepare.prepare,
    "restore.globals": restore_globals.restore_globals,
    "restore.load": restore_load.load_archives,
    "restore.finish": restore_load.finish,
    "restore.swap": restore_swap.swap,
    "restore.conclude": restore_swap.conclude,
    "restore.undo": restore_swap.undo,
    "restore.drop_old": restore_swap.drop_old,
    "restore.record": restore_end.record,
    "restore.sweep": restore_end.sweep,
    "drill.provision": drill_server.provision,
    "drill.roles": drill_server.roles,
    "drill.load": drill_server.load,
    "drill.fingerprint": drill_fingerprint.plan_reading,
    "drill.fingerprint_chunk": drill_fingerprint.read,
    "drill.examine": drill_examine.examine,
    "drill.compare": drill_fingerprint.compare_copy,
    "drill.control": drill_fingerprint.control,
    "drill.conclude": drill_report.conclude,
    "drill.record": drill_report.record,
    "drill.sweep": drill_server.sweep,
    "audit.record": audit_run.record_run,
    "audit.deliver": audit.deliver,
    "audit.settings": audit_settings.compare,
    "report.make": report_month.make,
    "digest.send": digest.send,
}


class Watch:
    """Told how an attempt at a step goes, by whoever wants to show it; this one shows nothing."""

    def during(self, context: Context) -> AbstractContextManager[object]:
        """Entered around the work."""
        return nullcontext()

    def done(self, claim: Claim, outcome: Outcome, seconds: float) -> None:
        """Committed, after so many seconds."""

    def again(self, claim: Claim, error: PgfleetError, seconds: float, *, counts: bool) -> None:
        """Due again in so many seconds; an attempt that `counts` was one of a few."""

    def failed(self, claim: Claim, error: PgfleetError) -> None:
        """For good."""

    def lost(self, claim: Claim) -> None:
        """Cancelled or taken over: what it did does not count."""


_UNSEEN = Watch()


def perform(adapters: Adapters, run_id: str, step_id: int, watch: Watch = _UNSEEN) -> PgfleetError | None:
    """Do one step if it is ours to do. Returns its error, already recorded.

    Raises LedgerUnavailable when not even the claim could be made.
    """
    claim = adapters.ledger.claim(run_id, step_id, owner=me())
    if claim is None:
        return None
    with log.context(run=run_id, step=claim.step.name, key=claim.step.key, database=claim.run.database):
        return _perform(adapters, claim, watch)


def _perform(adapters: Adapters, claim: Claim, watch: Watch) -> PgfleetError | None:
    ledger, context, began = adapters.ledger, Context(adapters, claim), time.monotonic()
    logger.info("begin", extra={"action": "begin", "attempt": claim.step.attempts})
    try:
        if claim.step.name == "backup.dump" and claim.step.attempts == 1 and "waits" not in claim.step.data:
            ping.started(context.database, claim.run)
        with Heartbeat(context), watch.during(context):
            outcome = STEPS[claim.step.name](context)
            context.check()
        _commit(ledger, claim, outcome)
    except Later as later:
        ledger.postpone(claim, later.seconds, later.data)
        watch.again(claim, later, later.seconds, counts=False)
        logger.info(later.message, extra={"action": "postpone", "seconds": later.seconds})
    except LeaseLost:
        _let_go(ledger, claim, watch)
    except Exception as error:  # noqa: BLE001 - whatever went wrong belongs in the ledger
        if not context.stop.is_set():
            return _failed(adapters, claim, error, watch)
        _let_go(ledger, claim, watch)
    except BaseException:
        ledger.release(claim)
        raise
    else:
        seconds = time.monotonic() - began
        _log_end(claim, outcome, seconds)
        watch.done(claim, outcome, seconds)
    return None


def _commit(ledger: Ledger, claim: Claim, outcome: Outcome) -> None:
    """Hours of dumping are not done again because the ledger is just being restarted.

    A fan-out can be read once only; such a step has begun something rather than done it, and is soon done again.
    """
    until = time.monotonic() + claim.lease_seconds
    while True:
        following = flows.follow(claim.step, outcome.result, outcome.fan_out)
        try:
            return ledger.commit(claim, outcome.result, following, end=_end(outcome))
        except LedgerUnavailable as error:
            if not isinstance(outcome.fan_out, Collection) or time.monotonic() > until:
                raise
            logger.warning(error.message, extra={"action": "commit", "retry_in": COMMIT_AGAIN_SECONDS})
            time.sleep(COMMIT_AGAIN_SECONDS)


def _let_go(ledger: Ledger, claim: Claim, watch: Watch) -> None:
    """Cancelled or taken over: whoever waits for this worker to be done need not wait for its lease."""
    logger.warning("the step was cancelled or taken over", extra={"action": "lost"})
    ledger.release(claim)
    watch.lost(claim)


def _end(outcome: Outcome) -> RunEnd | None:
    return RunEnd(outcome.end, outcome.run_result, outcome.error) if outcome.end is not None else None


def _log_end(claim: Claim, outcome: Outcome, seconds: float) -> None:
    size = outcome.result.get("bytes")
    extra: dict[str, Any] = {"action": "done", "seconds": round(seconds, 3)}
    if isinstance(size, int) and size:
        extra |= {"bytes": size, "bytes_per_second": int(size / max(seconds, 1e-6))}
    if outcome.end is not None:
        extra |= {"state": outcome.end}
    logger.info("done", extra=extra)


def _failed(adapters: Adapters, claim: Claim, error: Exception, watch: Watch) -> PgfleetError:
    """Record a failure: due again later when a retry may cure it, else for good."""
    waits = int(claim.step.data.get("waits", 0)) + 1
    if isinstance(error, Busy) and waits <= MAX_WAITS:
        adapters.ledger.postpone(claim, WAIT_SECONDS, {"waits": waits, "waiting_for": error.message})
        logger.info(error.message, extra={"action": "postpone", "seconds": WAIT_SECONDS})
        watch.again(claim, error, WAIT_SECONDS, counts=False)
        return error
    known = error if isinstance(error, PgfleetError) else _unexpected(error)
    if patience.waits(adapters.ledger, claim, error):
        adapters.ledger.postpone(claim, patience.ASK_AGAIN, {"waiting_for": known.message})
        logger.warning(known.message, extra={"action": "postpone", "seconds": patience.ASK_AGAIN})
        return known
    retryable = not isinstance(error, PgfleetError) or error.retryable
    retry_in = backoff(adapters.settings, claim.step.attempts) if retryable else None
    outcome = adapters.ledger.fail(claim, record(known, claim.step.name), retry_in=retry_in)
    logger.log(
        logging.WARNING if outcome == "retry" else logging.ERROR,
        known.message,
        extra={"action": outcome, "hint": known.hint, "kind": type(error).__name__, "retry_in": retry_in},
        exc_info=error if not isinstance(error, PgfleetError) else None,
    )
    if outcome == "retry" and retry_in is not None:
        watch.again(claim, known, retry_in, counts=True)
    elif outcome == "ignored":
        watch.lost(claim)
    else:
        watch.failed(claim, known)
    return known


def _unexpected(error: Exception) -> PgfleetError:
    text = " ".join(str(error).split()) or "no message"
    return PgfleetError(
        f"Something that pgfleet does not expect went wrong: {type(error).__name__}: {text[:500]}.",
        "The worker's log has the details; please report it.",
    )


def record(error: PgfleetError, step: str) -> dict[str, Any]:
    """An error as the ledger keeps it and `--json` shows it."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "step": step,
    }


def backoff(settings: Settings, attempt: int) -> float:
    """Seconds until the next attempt: exponential, with full jitter in its upper half."""
    top = min(settings.retry_max_seconds, settings.retry_base_seconds * 2.0 ** max(0, attempt - 1))
    return top * (0.5 + random.random() / 2)  # noqa: S311 - jitter is no secret


class Heartbeat:
    """Extends the lease while the step works, and stops the work when the lease is lost."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        context, lease = self._context, self._context.claim.lease_seconds
        valid_until = time.monotonic() + lease
        while not self._ended.wait(min(lease / 4, 2.0)):  # often: it carries the progress
            asked = time.monotonic()
            try:
                ours = context.ledger.heartbeat(
                    context.claim, bytes_done=context.bytes_done, bytes_total=context.bytes_total
                )
                valid_until = asked + lease
            except Exception:
                logger.warning("no heartbeat", exc_info=True, extra={"action": "heartbeat"})
                ours = time.monotonic() < valid_until  # somebody else may have it after that
            if not ours:
                context.stop.set()
                return
