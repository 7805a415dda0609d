"""docs/reference/manifest.schema.json and manifest.md, from the models that read and write it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel

from scripts.reference.json_schema import DRAFT, Schema, cleaned, fields
from scripts.reference.markdown import doc, joined, made_by
from worker.core.backup import Artifact, Gap, Manifest, Part, Server, TableCount

#: What each field of a manifest means, by model.
MEANINGS: Mapping[str, Mapping[str, str]] = {
    "Manifest": {
        "format": "of this file",
        "backup_id": "`NAME-backup-YYYYMMDD-HHMMSS`, in UTC",
        "run_id": "the run that made it",
        "database": "alias of the source",
        "dbname": "its name on the server",
        "destination": "alias of the destination that this copy was made for",
        "type": "decides the retention and the storage class",
        "snapshot_at": "the instant that the backup shows",
        "sealed_at": "when the copy was complete",
        "pgfleet": "version that made it",
        "server": "the source",
        "client": "version of pg_dump",
        "compression": "of the archives, as pg_dump was told",
        "encrypted": "false only with `ALLOW_UNENCRYPTED`",
        "recipients": "fingerprints of the keys that it is encrypted to",
        "artifacts": "the stored objects",
        "tables": "exact rows and bytes, under the snapshot",
        "missing": "what is not in the backup, and why",
        "restore": "commands to restore it by hand",
    },
    "Artifact": {
        "name": "of the object, below the destination's prefix",
        "kind": "`dump` and further `data` archives, `globals` (roles), `fingerprint`",
        "size": "bytes that are stored",
        "sha256": "of what is stored",
        "plain_size": "bytes before the encryption",
        "plain_sha256": "of what was encrypted",
        "part_size": "bytes of each part but the last",
        "parts": "in order, without gaps",
    },
    "Part": {"number": "from 1", "size": "bytes", "sha256": "of these bytes"},
    "Server": {
        "version": "as the server writes it",
        "version_num": "such as 170010",
        "encoding": "of the database",
        "collate": "`LC_COLLATE`",
        "ctype": "`LC_CTYPE`",
        "locale_provider": "`c` libc, `i` ICU, `b` builtin",
        "locale": "of ICU or builtin",
        "extensions": "name → version",
        "preload": "libraries that a server must preload for its extensions",
        "tablespaces": "that objects are in, beside the default one",
    },
    "TableCount": {
        "schema_name": "of the table",
        "name": "of the table",
        "rows": "exact",
        "bytes": "on the source's disk",
    },
    "Gap": {"what": "is not in the backup", "why": "it is not"},
}


def schema() -> Schema:
    made = Manifest.model_json_schema(mode="validation")
    for name, meanings in MEANINGS.items():
        fields = (made if name == "Manifest" else made["$defs"][name])["properties"]
        for field, meaning in meanings.items():
            fields[field]["description"] = meaning
    return {
        "$schema": DRAFT,
        **cleaned(made),
        "title": "pgfleet manifest",
        "description": "{backup_id}.manifest.json: a backup exists in a destination exactly when this does.",
    }


def render() -> str:
    models = (Manifest, Artifact, Part, Server, TableCount, Gap)
    made = schema()
    definitions = {**made["$defs"], "Manifest": made}
    return joined(
        f"""# Manifest

{made_by()} The schema: [manifest.schema.json](manifest.schema.json).

`{{backup_id}}.manifest.json` lies beside the artifacts of each copy, is written after all of them and deleted before
any of them. Readers ignore fields that they do not know; every released `format` stays readable. `restore` has the
commands to restore by hand: [recovery without pgfleet](../recovery-without-pgfleet.md).""",
        *(
            joined(f"## {model.__name__}", _about(model), fields(definitions[model.__name__]))
            for model in models
        ),
    )


def _about(model: type[BaseModel]) -> str:
    return doc(model) if model.__dict__.get("__doc__") else ""
