"""Who asked for what: one small record an action, written once under a name of its own, and how to read it.

Records lie beside the backups of every destination, flat as all objects of ours:
``pgfleet-audit-{time}Z-{action}-{id}.json``. No cleanup touches them: `core.keys` does not read such a name.
What is signed of a record is said in `core.evidence`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

Action = Literal[
    "restore", "fetch", "undo", "finish", "drill", "cleanup", "remove", "hold", "release", "cancel", "settings"
]  # fmt: skip
ACTIONS: tuple[Action, ...] = (
    "restore", "fetch", "undo", "finish", "drill", "cleanup", "remove", "hold", "release", "cancel", "settings",
)  # fmt: skip
#: signed: by a key whose signature counts. unsigned: no key was set. bad signature: record or signature were
#: changed. other key: one that is known here and does not count. unknown key: it cannot be checked here.
#: copies differ: another destination says something else under the same name. unreadable: no record any more.
#: evidence: an older record, beside the backup. ledger: stored nowhere yet.
Trust = Literal[
    "signed",
    "unsigned",
    "bad signature",
    "other key",
    "unknown key",
    "copies differ",
    "unreadable",
    "evidence",
    "ledger",
]
TAMPERED: tuple[Trust, ...] = ("bad signature", "copies differ", "unreadable")
#: Of whoever no person asked: not an action of anybody.
BY_ITSELF = frozenset({"", "schedule", "reconcile", "scrub"})
PREFIX = "pgfleet-audit-"
ANY = "*"  # instead of a database: the fleet's settings

Record = dict[str, Any]
_NAME = re.compile(
    rf"{PREFIX}(?P<at>[0-9]{{8}}T[0-9]{{12}})Z-(?P<action>{'|'.join(ACTIONS)})-(?P<id>[0-9a-f]{{32}})\.json"
)
_TIME = "%Y%m%dT%H%M%S%f"


class Name(NamedTuple):
    at: datetime
    action: str
    id: str


class Entry(NamedTuple):
    """An action, for people. who: user@host, an application's name, or the schedule. where: a target or a
    destination. database: an alias, or `ANY`. destinations: where the record lies. detail: as recorded.
    """

    at: datetime
    who: str
    action: str
    database: str
    backup_id: str | None
    where: str
    result: str
    run_id: str | None
    trust: Trust
    destinations: tuple[str, ...]
    detail: Mapping[str, Any]
    signed_by: str = ""


def record(
    action: Action,
    *,
    id_: str,
    at: datetime,
    by: str,
    host: str,
    database: str,
    backup_id: str | None,
    where: str,
    result: str,
    run_id: str | None,
    detail: Mapping[str, Any],
    pgfleet: str,
) -> Record:
    """JSON values. id_: 32 hex digits."""
    return {
        "format": 1,
        "kind": "audit",
        "id": id_,
        "at": at.astimezone(UTC).isoformat(),
        "action": action,
        "by": by,
        "host": host,
        "database": database,
        "backup_id": backup_id,
        "where": where,
        "result": result,
        "run_id": run_id,
        "detail": dict(detail),
        "pgfleet": pgfleet,
        "signed_by": "",
    }


def key(record: Mapping[str, Any]) -> str:
    at = datetime.fromisoformat(record["at"]).astimezone(UTC)
    return f"{PREFIX}{at:{_TIME}}Z-{record['action']}-{record['id']}.json"


def parse(name: str) -> Name | None:
    """None for a name that is no audit record's."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        at = datetime.strptime(match["at"], _TIME).replace(tzinfo=UTC)
    except ValueError:
        return None
    return Name(at, match["action"], match["id"])


def entry(
    record: Mapping[str, Any], trust: Trust, destinations: tuple[str, ...], signed_by: str = ""
) -> Entry:
    """Of a record as it was read: whoever can write there may have written anything, also who signed it."""
    detail = record.get("detail")
    return Entry(
        datetime.fromisoformat(str(record["at"])),
        str(record.get("by") or "unknown"),
        str(record.get("action") or "unknown"),
        str(record.get("database") or ""),
        str(record["backup_id"]) if record.get("backup_id") else None,
        str(record.get("where") or ""),
        str(record.get("result") or ""),
        str(record["run_id"]) if record.get("run_id") else None,
        trust,
        destinations,
        detail if isinstance(detail, dict) else {},
        signed_by,
    )


def says_what_it_is(record: Mapping[str, Any], name: Name) -> bool:
    """Whether a record belongs under its name: one that was renamed or rewritten does not."""
    try:
        at = datetime.fromisoformat(str(record["at"]))
    except (KeyError, ValueError):
        return False
    return (at, record.get("action"), record.get("id")) == (name.at, name.action, name.id)


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[dict[str, str | None]]:
    """``{"name", "old", "new"}`` of each setting that differs; null: it was, or is, not there."""
    return [
        {"name": name, "old": old.get(name), "new": new.get(name)}
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
