"""``pgfleet evidence``: what was recorded of a backup's drills and verifications, and whether its signatures hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from worker.cli import place
from worker.core.evidence import signed_text
from worker.core.keys import EvidenceKind
from worker.core.requests import VerifyRequest
from worker.errors import BackupNotFound, ConfigError, ValidationFailed
from worker.steps.context import Adapters
from worker.steps.inventory import choose
from worker.steps.report_month import SIGNATURE
from worker.steps.signatures import Trusted, check, trusted

KINDS = ("verify", "drill", "scrub", "restore", "hold")
signer_option = click.option(
    "--signer",
    "signers",
    multiple=True,
    metavar="KEY",
    help="Whose signature counts: fingerprint, key id or address; repeatable. Without: PGFLEET_SIGNING_KEY's, "
    "or anybody's in the keyring where that is not set.",
)


@click.group()
def evidence() -> None:
    """Records beside the backups: verifications, drills, restores."""


@evidence.command("list")
@click.argument("backup_id")
@click.option("--kind", type=click.Choice(KINDS), help="Only records of this kind.")
@click.option("--destination", help="Only the copy in this destination.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole records, as one JSON array.")
def list_evidence(backup_id: str, kind: EvidenceKind | None, destination: str | None, as_json: bool) -> int:
    """List what was recorded of BACKUP_ID, oldest first."""
    found = _records(place.adapters(), backup_id, destination, kind)
    if as_json:
        click.echo(json.dumps([{"destination": alias, **record} for alias, record in found]))
        return 0
    for alias, record in found:
        said = record.get("verdict") or ("ok" if record.get("ok") else "not ok")
        signed = f", signed by {record['signed_by']}" if record.get("signature") else ""
        click.echo(f"{record['at']}  {alias}  {record['kind']}: {said}{signed}")
    return 0


@evidence.command("verify")
@click.argument("what", metavar="BACKUP_ID|FILE")
@click.option("--destination", help="Only the copy in this destination.")
@signer_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of what was checked.")
def verify_evidence(what: str, destination: str | None, signers: tuple[str, ...], as_json: bool) -> int:
    """Check the signature of each drill record of BACKUP_ID, or of a FILE: a report with its FILE.asc, or a record.

    Exit codes: 0 all are signed and good, 1 no such backup, 7 one is not signed, was changed, or has no drill.
    """
    found = place.adapters()
    counting = trusted(found, signers)
    if "/" in what or Path(what).is_file():
        return _verify_file(found, Path(what), counting, as_json)
    backup_id = what
    checked = [
        _checked(found, alias, record, counting)
        for alias, record in _records(found, backup_id, destination, "drill")
    ]
    if not checked:
        raise ValidationFailed(f"No drill of {backup_id} is recorded.", f"Run one: pgfleet drill {backup_id}")
    if as_json:
        click.echo(json.dumps(checked))
    for one in checked if not as_json else ():
        what = f"{one['at']}  {one['destination']}  drill, {one['verdict']}"
        if one["ok"]:
            click.secho(f"✓ {what}: signed by {one['signed_by']}", fg="green")
        else:
            click.secho(f"✗ {what}: {one['problem']}", fg="red", err=True)
    return 0 if all(one["ok"] for one in checked) else ValidationFailed.exit_code


def _verify_file(adapters: Adapters, path: Path, counting: Trusted, as_json: bool) -> int:
    """Raises ConfigError for a file that cannot be read."""
    signature = path.with_name(path.name + SIGNATURE)
    try:
        content = path.read_bytes()
        detached = signature.read_bytes() if signature.is_file() else None
    except OSError as error:
        raise ConfigError(
            f"{error.filename} cannot be read: {error.strerror}.", "Name a report, or a record of evidence."
        ) from error
    if detached is None:  # then by the signature that the record itself holds
        record = _record_of(content)
        detached = str(record.get("signature") or "").encode()
        content = signed_text(record)
    problem = f"it is not signed: there is no {signature}"
    checked = _judged(adapters, content, detached, counting, problem)
    if as_json:
        click.echo(json.dumps([{"file": str(path), **checked}]))
    elif checked["ok"]:
        click.secho(f"✓ {path}: signed by {checked['signed_by']}", fg="green")
    else:
        click.secho(f"✗ {path}: {checked['problem']}", fg="red", err=True)
    return 0 if checked["ok"] else ValidationFailed.exit_code


def _record_of(content: bytes) -> dict[str, Any]:
    """Empty for a file that is no record."""
    try:
        record = json.loads(content)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _judged(
    adapters: Adapters, content: bytes, signature: bytes, counting: Trusted, unsigned: str
) -> dict[str, Any]:
    """Is it signed, by somebody who counts? unsigned: what to say when it is not."""
    if not signature:
        return {"ok": False, "signed_by": None, "problem": unsigned}
    found = check(adapters, content, signature, counting)
    return {"ok": found.trust == "signed", "signed_by": found.key or None, "problem": found.problem or None}


def _records(
    adapters: Adapters, backup_id: str, destination: str | None, kind: EvidenceKind | None
) -> list[tuple[str, dict[str, Any]]]:
    """(destination, record) over all copies, oldest first. Raises BackupNotFound."""
    wanted = VerifyRequest.from_payload({"backup": backup_id})
    choice = choose(adapters, wanted, destination=destination, usable=False)
    if not choice.copies:
        raise BackupNotFound(f"There is no backup {backup_id}.", "`pgfleet list` shows what there is.")
    records = [
        (alias, record)
        for alias in choice.copies
        for record in adapters.catalog(alias).evidence(choice.backup_id, kind)
    ]
    return sorted(records, key=lambda pair: str(pair[1].get("at")))


def _checked(adapters: Adapters, alias: str, record: dict[str, Any], counting: Trusted) -> dict[str, Any]:
    said = {"destination": alias, "at": record.get("at"), "verdict": record.get("verdict")}
    signature = str(record.get("signature") or "").encode()
    unsigned = "it is not signed (PGFLEET_SIGNING_KEY)"
    judged = _judged(adapters, signed_text(record), signature, counting, unsigned)
    of = record.get("destination")
    if judged["ok"] and of != alias:
        judged |= {"ok": False, "problem": f"it is about the copy in {of}"}
    return said | judged
