"""Put on record who did what: written once in every destination of the database, signed when there is a key for it.

What a destination does not take now waits in the ledger, as a run of kind ``audit`` that any worker finishes. To
record something never fails what is recorded: when it can be kept nowhere, the log has it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from worker import __version__
from worker.core import audit
from worker.core.audit import Action, Record
from worker.core.evidence import canonical, signed_text
from worker.errors import ObjectExists, PgfleetError
from worker.ledger.model import NewRun, NewStep, Run
from worker.steps.context import Adapters, Context, Later, Outcome

log = logging.getLogger("pgfleet.audit")

#: Any fixed one will do; this is uuid5(NAMESPACE_DNS, "audit.pgfleet").
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "audit.pgfleet")
_AGAIN_SECONDS = 300.0
_RECORDS = 1000
DELIVER = "audit.deliver"


def note(
    adapters: Adapters,
    action: Action,
    *,
    by: str,
    database: str,
    backup_id: str | None = None,
    where: str = "",
    result: str = "",
    run_id: str | None = None,
    detail: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    same: str = "",
    destinations: Iterable[str] | None = None,
    at_once: bool = True,
) -> str:
    """Record an action; the record's id.

    same: what makes this action this one, so that a second attempt writes no second record; it needs the same `at`.
    destinations: all of the database's, without it. at_once: False leaves the writing to the fleet.
    """
    written = audit.record(
        action,
        id_=uuid.uuid5(_NAMESPACE, same).hex if same else uuid.uuid4().hex,
        at=at or datetime.now(UTC),
        by=by,
        host=socket.gethostname(),
        database=database,
        backup_id=backup_id,
        where=where,
        result=result,
        run_id=run_id,
        detail=detail or {},
        pgfleet=__version__,
    )
    signed(adapters, written)
    wanted = list(destinations_of(adapters, database) if destinations is None else destinations)
    missed = put_all(adapters, written, wanted) if at_once else wanted
    if missed:
        _keep_for_later(adapters, written, missed)
    return str(written["id"])


def destinations_of(adapters: Adapters, database: str) -> Sequence[str]:
    known = adapters.settings.databases.get(database)
    return known.destinations if known is not None else list(adapters.settings.destinations)


def signed(adapters: Adapters, written: Record) -> None:
    """Sign it where the signing key is. A worker without the key records all the same, and the record says so."""
    settings = adapters.settings
    if not settings.signing_key:
        return
    written |= canonical(written)
    signature = sign(adapters, signed_text(written | {"signed_by": settings.signing_key}))
    if signature is not None:
        written |= {"signed_by": settings.signing_key, "signature": signature.decode()}


def sign(adapters: Adapters, content: bytes) -> bytes | None:
    """A detached signature; None where no key is set, or its private part is not on this host."""
    settings = adapters.settings
    if not settings.signing_key:
        return None
    try:
        return adapters.gpg.sign(content, settings.signing_key, passphrase_file=settings.gpg_passphrase_file)
    except PgfleetError as error:
        log.warning(error.message, extra={"action": "audit.sign", "hint": error.hint})
        return None


def put_all(adapters: Adapters, written: Record, destinations: Iterable[str]) -> list[str]:
    """Write it there; the destinations that did not take it."""
    missed = []
    for alias in destinations:
        try:
            put_once(adapters, alias, audit.key(written), (json.dumps(written, indent=1) + "\n").encode())
        except PgfleetError as error:
            log.warning(
                f"The record of this {written['action']} is not in {alias} yet: {error.message}",
                extra={"action": "audit.put", "hint": error.hint},
            )
            missed.append(alias)
    return missed


def put_once(adapters: Adapters, alias: str, key: str, body: bytes) -> None:
    """Create an object; one that is there already is from an earlier attempt, and stays. Raises StorageError."""
    try:
        adapters.store(alias).put(
            key, body, size=len(body), sha256=hashlib.sha256(body).hexdigest(), if_absent=True
        )
    except ObjectExists:
        log.debug("it was written before", extra={"action": "audit.put", "object": key})


def _keep_for_later(adapters: Adapters, written: Record, missed: list[str]) -> None:
    request = {"record": written, "destinations": missed}
    new = NewRun("audit", written["database"], request, written["by"], f"audit:{written['id']}")
    try:
        if adapters.ledger_lasts:
            adapters.ledger.create_run(new, first(request))
            return
        problem = "the ledger of this process ends with it"
    except PgfleetError as error:
        problem = error.message
    log.error(
        f"An audit record could not be kept ({problem}): {json.dumps(written)}",
        extra={"action": "audit.lost", "destinations": ", ".join(missed)},
    )


def take_up(adapters: Adapters) -> int:
    """Begin anew with records whose run was given up, once a day: none is forgotten while the ledger has it."""
    ended: dict[str, Run] = {}
    for run in adapters.ledger.runs(kind="audit", limit=_RECORDS):  # newest first
        ended.setdefault(str(run.request.get("record", {}).get("id") or run.id), run)
    made = 0
    for id_, run in ended.items():
        if run.state == "failed":
            key = f"audit:{id_}:{datetime.now(UTC):%Y%m%d}"
            new = NewRun("audit", run.database, run.request, run.requested_by, key)
            made += adapters.ledger.create_run(new, first(run.request))[1]
    return made


def first(request: Mapping[str, Any]) -> list[NewStep]:
    """The step of a run of kind ``audit``."""
    return [NewStep("audit.settings" if "settings" in request else DELIVER)]


def deliver(context: Context) -> Outcome:
    """Write what waits in the ledger. Comes back later for a destination that is away; a worker of another role
    may have the right that this one lacks.
    """
    request = context.run.request
    written = dict(request["record"])
    done = list(context.step.data.get("done", ()))
    known = context.settings.destinations
    wanted = [alias for alias in request["destinations"] if alias not in done and alias in known]
    missed = put_all(context.adapters, written, wanted)
    done += [alias for alias in wanted if alias not in missed]
    if missed:
        raise Later(f"An audit record waits for {', '.join(missed)}.", _AGAIN_SECONDS, {"done": done})
    return Outcome({"destinations": done}, end="succeeded", run_result={"destinations": done})
