"""docs/reference/evidence.schema.json and evidence.md. A drill's values are pydantic models; the rest is
described here, and a test holds real records against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from scripts.reference.json_schema import (
    COUNT,
    DRAFT,
    OK,
    TEXT,
    TIME,
    Schema,
    cleaned,
    fields,
    list_of,
    maybe,
    said,
)
from scripts.reference.markdown import joined, made_by
from worker.core.audit import ACTIONS
from worker.core.compare import Compared, Difference
from worker.core.drill import Check, Control, Gate, Phase, Rto
from worker.core.keys import EvidenceKind

_ERROR = {
    "type": "object",
    "properties": {
        "type": TEXT, "message": TEXT, "hint": TEXT, "exit_code": COUNT, "step": TEXT,
    },
    "required": ["message", "exit_code"],
}  # fmt: skip
_PROBLEMS = list_of(
    {
        "type": "object",
        "properties": {
            "object": TEXT,
            "number": said(COUNT, "of the part; absent for the whole"),
            "problem": TEXT,
        },
        "required": ["object", "problem"],
    }
)
_INTRO = f"""# Evidence

{made_by()} The schema: [evidence.schema.json](evidence.schema.json).

`{{backup_id}}.{{kind}}-{{time}}.json` beside the manifest: written once, never changed, deleted with the backup. The
newest `verify` or `scrub` decides whether a copy counts as verified or damaged, the newest `drill` with a verdict
whether it is proven. `pgfleet evidence list ID` shows them. Each record has these:
"""
_COMMON: Mapping[str, Schema] = {
    "format": {"const": 1},
    "kind": {"enum": list(get_args(EvidenceKind))},
    "backup_id": TEXT,
    "at": said(TIME, "when it was found or done; also in the object's name"),
}
_OF_A_RUN: Mapping[str, Schema] = {"destination": said(TEXT, "its alias"), "run_id": TEXT}
_READ = {"type": "array", "prefixItems": [COUNT, COUNT, TIME], "items": False}


def _model(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


_KINDS: Mapping[str, tuple[str, Mapping[str, Schema], tuple[str, ...]]] = {
    "verify": (
        "A copy was read back, every byte, and compared with its manifest.",
        {
            **_OF_A_RUN,
            "ok": said(OK, "false: the copy is damaged"),
            "bytes": COUNT,
            "parts": COUNT,
            "parts_archived": said(COUNT, "in cold storage: not read, the store had checked their checksum"),
            "problems": _PROBLEMS,
        },
        (),
    ),
    "scrub": (
        "A part of a stored copy was read again.",
        {
            **_OF_A_RUN,
            "ok": OK,
            "bytes": COUNT,
            "covered": said({"type": "number", "minimum": 0, "maximum": 1}, "share of the bytes that was read lately"),
            "problems": _PROBLEMS,
            "read": said(
                {"type": "object", "additionalProperties": list_of(_READ)},
                "object → [first part, last part, when] of what was read",
            ),
        },
        (),
    ),
    "restore": (
        "The copy was restored, or that was tried.",
        {
            **_OF_A_RUN,
            "ok": OK,
            "state": said(TEXT, "how the run ended: [ledger](ledger.md)"),
            "requested_by": TEXT,
            "request": said({"type": "object"}, "what was asked for, without the idempotency key"),
            "started_at": maybe(TIME),
            "ended_at": maybe(TIME),
            "target": said(maybe(TEXT), "alias of the server"),
            "restored_as": said(maybe(TEXT), "name of the database"),
            "phases": said({"type": "object", "additionalProperties": {"type": "number"}}, "phase → seconds"),
            "result": {"type": "object"},
            "error": maybe(_ERROR),
        },
        (),
    ),
    "hold": (
        "Somebody held or released the copy. The newest record counts.",
        {
            "held": said(OK, "false: released"),
            "reason": TEXT,
            "until": said(maybe(TIME), "null: until it is released"),
            "by": TEXT,
        },
        (),
    ),
    "drill": (
        "The copy was restored into a throwaway server and compared with its source.",
        {
            **_OF_A_RUN,
            "verdict": {"enum": ["proven", "refuted", "could_not_run"]},
            "ok": said(OK, "whether it is proven"),
            "requested_by": TEXT,
            "database": said(TEXT, "its alias"),
            "dbname": TEXT,
            "snapshot_at": said(TIME, "when the backup was taken"),
            "age_seconds": {"type": "number"},
            "backup_bytes": COUNT,
            "restored_bytes": COUNT,
            "recipients": list_of(TEXT),
            "client": said(TEXT, "version of pg_dump"),
            "server": {
                "type": "object",
                "properties": {"source": TEXT, "drill": TEXT, "kind": TEXT},
                "required": ["source", "drill", "kind"],
            },
            "rto": _model("Rto"),
            "mode": said({"enum": ["full", "counts", ""]}, "of the fingerprint; empty: nothing was compared"),
            "compared": maybe(_model("Compared")),
            "differences": said(list_of(_model("Difference")), "some of them"),
            "differences_total": COUNT,
            "expected_changes": said(list_of(_model("Difference")), "differences with their reason"),
            "tables": said(
                list_of(
                    {
                        "type": "object",
                        "properties": {
                            "table": TEXT, "kind": TEXT, "rows": COUNT, "found": maybe(COUNT),
                            "checksum": maybe(TEXT), "found_checksum": maybe(TEXT),
                        },
                        "required": ["table", "rows", "found"],
                    }
                ),
                "the largest, side by side",
            ),
            "checks": {
                "type": "object",
                "properties": {
                    "foreign_keys": COUNT,
                    "amcheck": said(COUNT, "indexes and tables that were looked at"),
                    "no_amcheck": said(TEXT, "why there was none"),
                    "questions": list_of(_model("Check")),
                },
                "required": ["foreign_keys", "amcheck", "no_amcheck", "questions"],
            },
            "control": _model("Control"),
            "gates": list_of(_model("Gate")),
            "notes": list_of(TEXT),
            "pgfleet": said(TEXT, "version"),
            "error": maybe(_ERROR),
            "signed_by": said(TEXT, "the signing key; empty without one"),
            "signature": said(TEXT, "detached and armored, over the record less this field; absent without one"),
        },
        ("signature",),
    ),
}  # fmt: skip


_AUDIT = (
    "Somebody asked for something. These lie in the destination as `pgfleet-audit-{time}Z-{action}-{id}.json`, beside "
    "no backup, and no cleanup removes them."
)
_AUDITED: Mapping[str, Schema] = {
    "format": {"const": 1},
    "kind": {"const": "audit"},
    "id": said(TEXT, "32 hex digits"),
    "at": TIME,
    "action": {"enum": list(ACTIONS)},
    "by": said(TEXT, "`user@host`, an application's name, or the schedule"),
    "host": said(TEXT, "that wrote the record"),
    "database": said(TEXT, "its alias; `*`: the fleet's settings"),
    "backup_id": maybe(TEXT),
    "where": said(TEXT, "a target or a destination"),
    "result": TEXT,
    "run_id": maybe(TEXT),
    "detail": said({"type": "object"}, "what was asked for, or what has changed"),
    "pgfleet": said(TEXT, "version"),
    "signed_by": said(TEXT, "the signing key; empty without one"),
    "signature": said(TEXT, "detached and armored, over the record less this field; absent without one"),
}


def schema() -> Schema:
    models: tuple[type[BaseModel], ...] = (Rto, Phase, Compared, Difference, Check, Control, Gate)
    _, found = models_json_schema([(model, "validation") for model in models])
    kinds = []
    for kind, (about, own, optional) in _KINDS.items():
        properties = {**_COMMON, **own, "kind": {"const": kind}}
        required = [name for name in properties if name not in optional]
        kinds.append(
            {
                "title": kind,
                "description": about,
                "type": "object",
                "properties": properties,
                "required": required,
            }
        )
    kinds.append(
        {
            "title": "audit",
            "description": _AUDIT,
            "type": "object",
            "properties": _AUDITED,
            "required": [name for name in _AUDITED if name != "signature"],
        }
    )
    return {
        "$schema": DRAFT,
        "title": "pgfleet evidence",
        "description": "{backup_id}.{kind}-{time}.json: written once, beside the manifest, and never changed.",
        "type": "object",
        "required": ["kind"],
        "oneOf": kinds,
        "$defs": cleaned(found["$defs"]),
    }


def render() -> str:
    made = schema()
    kinds = (
        joined(f"## {kind['title']}", kind["description"], fields(kind, without=_COMMON))
        for kind in made["oneOf"]
    )
    shared = (
        joined(f"## {name}", value.get("description", ""), fields(value))
        for name, value in made["$defs"].items()
    )
    return joined(_INTRO, fields({"properties": _COMMON}), *kinds, *shared)
