"""``pgfleet validate``: the full cycle on a test database: seed, back up, lose, restore, compare."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import psycopg

from worker import __version__
from worker.cli import place
from worker.cli.follow import follow
from worker.core import human
from worker.core.compare import Comparison
from worker.core.drill import Check, Control, Phase, gates, rto, verdict_of
from worker.core.fingerprint import Fingerprint
from worker.durable import durable_write
from worker.errors import (
    ConfigError,
    MissingDependency,
    PgfleetError,
    RtoExceeded,
    ValidationFailed,
)
from worker.ledger import Ledger
from worker.ledger.model import Run
from worker.local.stack import ending
from worker.owner import me
from worker.report import render
from worker.steps import validate as steps
from worker.steps.context import Adapters
from worker.submit import submit

_SEED, _BACKUP, _RESTORE = 4, 5, 6  # exit codes of the seed's script
_KEPT = (MissingDependency.__name__, ConfigError.__name__)


@click.command()
@click.option("--database", help="Whose settings to validate; needed when several databases are configured.")
@click.option(
    "--rows", type=click.IntRange(10), default=5000, show_default=True, help="Rows of the largest tables."
)
@click.option(
    "--output-report",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the report here (.html or .md).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON object.")
def validate(database: str | None, rows: int, output_report: Path | None, as_json: bool) -> int:
    """Run the full cycle on a test database of the configured server, with the production settings.

    It is created, filled, fingerprinted, backed up, dropped, restored, and compared. Everything is cleaned up,
    also after ctrl-C.

    Exit codes: 0 all passed, 1 general, 2 missing dependency, 3 configuration, 4 seed data failed, 5 backup failed,
    6 restore failed, 7 validation failed, 8 recovery time exceeded.
    """
    loaded = place.settings()
    if output_report is not None:
        _check_place(output_report)
    settings = steps.settings_for(loaded, steps.production(loaded, database))
    ledger = Ledger("sqlite://", max_attempts=settings.max_attempts, lease_seconds=settings.lease_seconds)
    ledger.migrate()
    cycle = _Cycle(Adapters(settings, ledger), quiet=as_json)
    with ending():
        outcome = cycle.run(rows)
    error = outcome["error"]
    outcome["report"] = _write(
        outcome, output_report or settings.state_dir / "reports" / f"{cycle.name}.html"
    )
    if as_json:
        click.echo(json.dumps(_shown(outcome)))
    else:
        _say(outcome)
    return int(error["exit_code"]) if error else 0


class _Cycle:
    """Each phase with its time; what it comes to is the record that the report is made of."""

    def __init__(self, adapters: Adapters, *, quiet: bool) -> None:
        self._adapters = adapters
        self._quiet = quiet
        self._database = next(iter(adapters.settings.databases.values()))
        self._began = time.monotonic()
        self._phases: list[Phase] = []
        self.name = self._database.name

    def run(self, rows: int) -> dict[str, Any]:
        backup: Run | None = None
        compared: tuple[Comparison, list[Check], Control] | None = None
        error: PgfleetError | None = None
        expected: Fingerprint | None = None
        try:
            with steps.scratch_database(self._database):
                with self._phase("seed", _SEED):
                    steps.seed(self._database, rows)
                with self._phase("fingerprint", _SEED):
                    expected = steps.take_fingerprint(self._database)
                with self._phase("backup", _BACKUP):
                    backup = self._done("backup", {"databases": [self._database.alias]}, _BACKUP)
                with self._phase("disaster", 1):
                    steps.drop(self._database)
                with self._phase("restore", _RESTORE, recovery=True):
                    request = {"backup": backup.backup_id, "as_name": self.name}
                    self._done("restore", request, _RESTORE)
                with self._phase("compare", ValidationFailed.exit_code):
                    compared = steps.compare_restored(self._database, expected)
        except PgfleetError as failed:
            error = failed
        except psycopg.Error as refused:
            error = steps.as_unavailable(refused)
        finally:
            self._tell("clean up")
            steps.clean(self._adapters, lambda text: click.echo(f"Warning: {text}", err=True))
        return self._outcome(backup, compared, error)

    @contextmanager
    def _phase(self, name: str, exit_code: int, *, recovery: bool = False) -> Iterator[None]:
        self._tell(name)
        began = time.monotonic()
        try:
            yield
        except psycopg.Error as error:
            failed = steps.as_unavailable(error)
            failed.exit_code = exit_code
            raise failed from error
        finally:
            self._phases.append(
                Phase(
                    name=name,
                    recovery=recovery,
                    began=round(began - self._began, 3),
                    seconds=round(time.monotonic() - began, 3),
                )
            )

    def _tell(self, name: str) -> None:
        if not self._quiet:
            click.echo(f"· {name}")

    def _done(self, kind: str, payload: dict[str, Any], exit_code: int) -> Run:
        """The run, when it ended well. Raises PgfleetError with the phase's exit code."""
        (run,) = submit(self._adapters, kind, payload, requested_by=place.who(), here=me())
        ended = follow(self._adapters, run, here=True, quiet=True)
        if ended.error is None and ended.state in ("verified", "succeeded"):
            return ended
        said = ended.error or {
            "message": f"The {kind} ended as {ended.state}.",
            "hint": "",
            "type": "",
            "exit_code": 1,
        }
        failed = PgfleetError(str(said["message"]), str(said["hint"]))
        failed.exit_code = int(said["exit_code"]) if said["type"] in _KEPT else exit_code
        raise failed

    def _outcome(
        self,
        backup: Run | None,
        compared: tuple[Comparison, list[Check], Control] | None,
        error: PgfleetError | None,
    ) -> dict[str, Any]:
        settings, now = self._adapters.settings, datetime.now(UTC)
        comparison, checks, control = compared or (Comparison(), [], Control())
        bad = [check for check in checks if not check.ok]
        differences = [
            *(difference.model_dump() for difference in comparison.differences),
            *(
                {"kind": c.kind, "what": c.what, "expected": c.expected, "found": c.found, "reason": ""}
                for c in bad
            ),
        ]
        measured = rto(self._phases, self._database.rto_seconds)
        if error is None:
            error = _judged(comparison, differences, control, measured.seconds, self._database.rto_seconds)
        verdict = verdict_of(compared=compared is not None, differences=bool(differences), control=control.ok)
        encrypted = bool(self._database.recipients)
        copies = backup.result.get("copies", ()) if backup else ()
        taken = datetime.fromtimestamp(backup.started_at or 0, UTC) if backup else now
        return {
            "format": 1,
            "kind": "validate",
            "backup_id": (backup.backup_id if backup else None) or "",
            "at": now.isoformat(),
            "verdict": verdict,
            "ok": error is None,
            "error": _as_error(error) if error else None,
            "run_id": self.name,
            "requested_by": place.who(),
            "database": self.name,
            "dbname": self.name,
            "destination": ", ".join(self._database.destinations),
            "snapshot_at": taken.isoformat(),
            "age_seconds": 0.0,
            "backup_bytes": max((copy.get("bytes", 0) for copy in copies), default=0),
            "restored_bytes": 0,
            "recipients": list(self._database.recipients),
            "client": "pg_dump",
            "server": {"source": "", "drill": "", "kind": "the configured server"},
            "rto": measured.model_dump(),
            "mode": "full",
            "compared": comparison.compared.model_dump() if compared else None,
            "differences": differences,
            "differences_total": len(differences),
            "expected_changes": [change.model_dump() for change in comparison.expected_changes],
            "tables": [],
            "checks": {
                "foreign_keys": sum(check.kind == "foreign key" for check in checks),
                "amcheck": 0,
                "no_amcheck": "not part of a validation",
                "questions": [check.model_dump() for check in checks if check.kind != "foreign key"],
            },
            "control": control.model_dump(),
            "gates": [
                gate.model_dump() for gate in gates(verdict, encrypted, self._database.recipients, measured)
            ],
            "notes": [f"Spool: {settings.spool}. The test database and its backup were deleted afterwards."],
            "pgfleet": __version__,
            "signed_by": "",
        }


def _judged(
    comparison: Comparison, differences: list[dict[str, Any]], control: Control, seconds: float, allowed: int
) -> PgfleetError | None:
    if comparison.incomparable:
        return ValidationFailed(comparison.incomparable[0], "Please report this.")
    if differences:
        first = differences[0]
        return ValidationFailed(
            f"The restored database is not what was backed up: {first['kind']} {first['what']}: "
            f"{first['expected']} before, {first['found']} after ({len(differences)} differences).",
            "The report lists each; please report this.",
        )
    if not control.ok:
        return ValidationFailed("The comparison did not notice a changed row.", "Please report this.")
    if seconds > allowed:
        return RtoExceeded(f"The restore took {seconds:.1f} s of the {allowed} s that are allowed.", "")
    return None


def _as_error(error: PgfleetError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def _check_place(path: Path) -> None:
    """Before anything is done for a report that could not be kept. Raises ConfigError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise ConfigError(
            f"The report cannot be written to {path}: {error.strerror}.",
            "Name a file in a directory that you may write to.",
        ) from error


def _write(outcome: dict[str, Any], path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    report = render(outcome)
    durable_write(path, (report.markdown if path.suffix == ".md" else report.html).encode())
    return str(path)


def _shown(outcome: dict[str, Any]) -> dict[str, Any]:
    kept = ("verdict", "ok", "backup_id", "differences", "compared", "control", "error", "report")
    return {name: outcome[name] for name in kept} | {
        "rto_seconds": outcome["rto"]["seconds"],
        "rto_target_seconds": outcome["rto"]["target_seconds"],
        "phases": outcome["rto"]["phases"],
        "exit_code": outcome["error"]["exit_code"] if outcome["error"] else 0,
    }


def _say(outcome: dict[str, Any]) -> None:
    for phase in outcome["rto"]["phases"]:
        click.echo(f"  {phase['name']:<12} {human.duration(phase['seconds'])}")
    if outcome["error"]:
        click.secho(f"Error: {outcome['error']['message']}", fg="red", err=True)
        if outcome["error"]["hint"]:
            click.secho(f"Hint:  {outcome['error']['hint']}", fg="yellow", err=True)
    else:
        compared, seconds = outcome["compared"], human.duration(outcome["rto"]["seconds"])
        rows, tables = human.count(compared["rows"], "row"), human.count(compared["tables"], "table")
        click.secho(
            f"✓ Restored in {seconds}: {rows} in {tables} and {human.count(compared['objects'], 'schema object')}"
            " are the same as before.",
            fg="green",
        )
    click.echo(f"  report: {outcome['report']}")
