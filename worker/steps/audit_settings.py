"""Put on record with which settings somebody works, when they differ from the last that were recorded.

A process looks at a file of its own first, so that nothing is asked of anybody while nothing changes. What has changed
waits in the ledger; a worker compares it with the last record at the destinations, which survive both.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import re
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from worker.config.snapshot import snapshot
from worker.core import audit
from worker.core.audit import ANY
from worker.durable import durable_write
from worker.errors import PgfleetError
from worker.ledger.model import NewRun
from worker.steps.audit import first, note
from worker.steps.audit_trail import newest_settings
from worker.steps.context import Adapters, Context, Later, Outcome

log = logging.getLogger("pgfleet.audit")

_AGAIN_SECONDS = 60.0
_FOLDER = "settings"
_NOT_A_NAME = re.compile(r"[^A-Za-z0-9_.@-]")


def requester() -> str:
    """user@host, for the record of who asked."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def notice_settings(adapters: Adapters, role: str, name: str = "") -> None:
    """Record this process's settings when they are not those that it had before. Fails nothing.

    role: worker, beat or command; name: of the worker.
    """
    try:
        _notice(adapters, role, f"{role} {name or requester()}")
    except (PgfleetError, OSError) as error:
        log.warning(
            f"The settings were not compared with the last on record: {error}",
            extra={"action": "audit.settings"},
        )


def _notice(adapters: Adapters, role: str, identity: str) -> None:
    values = snapshot(adapters.settings) | keys_of(adapters)
    path = adapters.settings.state_dir / _FOLDER / f"{_NOT_A_NAME.sub('-', identity)}.json"
    text = json.dumps(values, indent=1, sort_keys=True)
    if not adapters.ledger_lasts or _known(path) == text:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    request = {
        "settings": values,
        "identity": identity,
        "role": role,
        "host": socket.gethostname(),
        "seen_at": datetime.now(UTC).isoformat(),
    }
    who = requester()
    digest = hashlib.sha256(f"{identity} {request['seen_at']} {text}".encode()).hexdigest()
    adapters.ledger.create_run(NewRun("audit", ANY, request, who, f"settings:{digest}"), first(request))
    durable_write(path, text.encode())


def _known(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def keys_of(adapters: Adapters) -> dict[str, str]:
    """The fingerprints that the recipients mean on this host: another key under the same address is a change."""
    found = {}
    for database in adapters.settings.databases.values():
        if database.recipients:
            try:
                keys = adapters.gpg.resolve(database.recipients)
                found[f"keys.{database.alias}"] = ", ".join(key.fingerprint for key in keys)
            except PgfleetError as error:
                found[f"keys.{database.alias}"] = f"not usable here ({type(error).__name__})"
    return found


def compare(context: Context) -> Outcome:
    """Write what differs from the last record of the same process, or of another of its role when it is new."""
    request, adapters = context.run.request, context.adapters
    last, reached = newest_settings(adapters, request["identity"], request["role"])
    if not reached:
        raise Later("No destination answers to compare the settings with.", _AGAIN_SECONDS)
    old = last.get("settings") if last else None
    new: Mapping[str, str] = request["settings"]
    changed = audit.changes(old, new) if isinstance(old, dict) else []
    if isinstance(old, dict) and not changed:
        return Outcome({"written": False}, end="succeeded")
    detail: dict[str, Any] = {
        "identity": request["identity"],
        "role": request["role"],
        "host": request["host"],
        "changed": changed,
        "settings": dict(new),
    }
    note(
        adapters,
        "settings",
        by=context.run.requested_by,
        database=ANY,
        where=request["identity"],
        result="changed" if isinstance(old, dict) else "first seen",
        at=datetime.fromisoformat(request["seen_at"]),
        same=f"settings:{context.run.id}",
        detail=detail,
    )
    return Outcome({"written": True, "changed": len(changed)}, end="succeeded")
