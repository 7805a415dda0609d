"""What the dump step knows and the manifest will say, kept in the run's directory in between."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from worker.config.model import Destination
from worker.core.backup import Artifact

FACTS = "facts.json"


def recovery_commands(
    destination: Destination, facts: Mapping[str, Any], artifacts: Sequence[Artifact]
) -> tuple[str, ...]:
    """Shell commands that give the database back with gpg, pg_restore and psql alone."""
    artifacts = [artifact for artifact in artifacts if artifact.kind != "fingerprint"]
    commands = [_fetch(destination, artifact.name) for artifact in artifacts]
    if facts["encrypted"]:
        commands += [f"gpg --output {_plain(a.name)} --decrypt {a.name}" for a in artifacts]
    dump = [_plain(a.name) for a in artifacts if a.kind == "dump"]
    data = [_plain(a.name) for a in artifacts if a.kind == "data"]
    globals_ = [_plain(a.name) for a in artifacts if a.kind == "globals"]
    commands += [f"psql -d postgres -f {name}   # roles; 'already exists' is harmless" for name in globals_]
    target = shlex.quote(f"{facts['dbname']}_restored")
    commands.append(f"createdb --template=template0 --encoding={facts['server']['encoding']} {target}")
    restore = f"pg_restore --exit-on-error -d {target}"
    if not data:
        return (
            *commands,
            *(f"{restore} {name}" for name in dump),
            f"vacuumdb --analyze-only {target}",
        )
    # Several archives of one snapshot: tables first, then everybody's rows, then indexes and constraints.
    commands += [f"{restore} --section=pre-data {name}" for name in dump]
    commands += [f"{restore} --section=data {name}" for name in (*dump, *data)]
    commands += [f"{restore} --section=post-data {name}" for name in dump]
    return (*commands, f"vacuumdb --analyze-only {target}")


def _plain(name: str) -> str:
    return name.removesuffix(".gpg")


def _fetch(destination: Destination, name: str) -> str:
    if destination.kind == "directory":
        return (
            f"cp {shlex.quote(str(Path(destination.path or '.') / destination.prefix.strip('/') / name))} ."
        )
    endpoint = f" --endpoint-url {destination.endpoint}" if destination.endpoint else ""
    prefix = destination.prefix.strip("/")
    return f"aws s3 cp{endpoint} s3://{destination.bucket}/{prefix + '/' if prefix else ''}{name} ."
