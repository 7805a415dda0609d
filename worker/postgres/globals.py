"""Roles, their memberships and settings, and tablespaces: what belongs to the server, and is in no database's dump."""

from __future__ import annotations

from pathlib import Path

from worker.config.model import Database
from worker.core.backup import Gap
from worker.durable import durable_rename
from worker.errors import DumpFailed
from worker.postgres.failures import dump_error
from worker.postgres.server import connect
from worker.postgres.tools import KEEPALIVES, Tools
from worker.process import Finished, run

_SECONDS = 600
_DENIED = "permission denied"


def dump_globals(tools: Tools, database: Database, path: Path, *, application_name: str) -> list[Gap]:
    """Write `pg_dumpall --globals-only` to `path` (SQL, mode 0600), and say what is not in it.

    Managed clouds show no passwords, some show no roles at all; then there is no file. Settings and grants of the
    database itself are in its archive (`pg_restore --create`). Raises DatabaseUnavailable, DumpFailed, SpoolFull.
    """
    finished = _dump(tools, database, path, application_name)
    missing: list[Gap] = []
    if finished.returncode and _DENIED in finished.stderr:
        missing.append(
            Gap(what="passwords of roles", why=f"the server does not show them to {database.user}")
        )
        finished = _dump(tools, database, path, application_name, "--no-role-passwords")
    if finished.returncode and _DENIED in finished.stderr:
        return [Gap(what="roles and tablespaces", why=f"the server does not show them to {database.user}")]
    if finished.killed:
        raise DumpFailed(f"pg_dumpall of {database.alias} was not done after {_SECONDS} s.", "Try again.")
    if finished.returncode:
        # pg_dumpall does not say why it could not connect.
        connect(database, database.name, application_name=application_name).close()
        raise dump_error("pg_dumpall", finished.returncode, finished.stderr, database, database.name)
    return missing


def _dump(tools: Tools, database: Database, path: Path, application_name: str, *more: str) -> Finished:
    """`path` appears only when it is complete."""
    env = tools.connection_env(database, database.name, application_name=f"{application_name} pg_dumpall")
    command = [*tools.command("pg_dumpall", env), "--globals-only", "--no-password", *more]
    command += [f"--database={database.name}", f"--dbname={KEEPALIVES}"]
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        with partial.open("xb", buffering=0) as file:
            partial.chmod(0o600)
            finished = run(command, env=env, inherit=tools.inherit, stdout=file, timeout=_SECONDS)
        if not finished.returncode:
            durable_rename(partial, path)
        return finished
    finally:
        partial.unlink(missing_ok=True)
