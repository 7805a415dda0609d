"""Is loading through pgfleet at least as fast as `pg_restore -j` on the same file with the same jobs?

    python -m benchmarks.restore [--scale 10] [--jobs 4] [--rounds 3] [--sql SCRIPT]

A server of our own (with fsync), the sample database or that of an SQL script, one archive; both ways in turn, medians.
pgfleet's load has the settings that it loads with; "all of it" adds reading and checking the archive, ANALYZE, row
counts and the swap, which `pg_restore` leaves to whoever runs it: "by hand" is pg_restore and vacuumdb.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from worker import here
from worker.config.load import load
from worker.core import human
from worker.ledger import Ledger
from worker.ledger.model import Run
from worker.local.place import Place
from worker.local.postgres import Postgres
from worker.local.sample import load_sample
from worker.local.user import server_user
from worker.owner import me
from worker.process import run
from worker.steps.context import Adapters
from worker.submit import restore_locally


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=int, default=10, help="of the sample database, 30 MB each")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sql", type=Path, help="a script for psql that makes the database instead")
    options = parser.parse_args()
    place = Place(server_user())
    server = Postgres(place.path / "pg", 17)
    try:
        server.start()
        with tempfile.TemporaryDirectory(prefix="pgfleet-bench-") as directory:
            _measure(server, Path(directory), options)
    finally:
        server.stop()
        place.remove()


def _measure(server: Postgres, directory: Path, options: argparse.Namespace) -> None:
    server.createdb("source")
    if options.sql:
        _start(server, "psql", "-q", "-d", "source", "-v", "scale=0.2", "-f", str(options.sql))
    else:
        load_sample(server, "source", options.scale)
    archive = directory / "source.dump"
    _start(server, "pg_dump", "-Fc", "-d", "source", "-f", str(archive))
    adapters = _adapters(server, directory)
    by_hand: list[tuple[float, float]] = []
    ours: list[tuple[float, float]] = []
    for number in range(options.rounds):
        by_hand.append(_by_hand(server, archive, options.jobs))
        ours.append(_ours(adapters, archive, options.jobs, f"ours_{number}"))
        server.dropdb(f"ours_{number}")
    table = Table(title=f"{human.size(archive.stat().st_size)}, {options.jobs} jobs, {options.rounds} rounds")
    for heading in ("", "load", "all of it"):
        table.add_column(heading)
    for name, times in (("pg_restore, vacuumdb", by_hand), ("pgfleet restore --file", ours)):
        medians = [statistics.median(column) for column in zip(*times, strict=True)]
        table.add_row(name, *(f"{seconds:.2f} s" for seconds in medians))
    Console().print(table)


def _adapters(server: Postgres, directory: Path) -> Adapters:
    env = {
        "DB_HOST": server.host, "DB_PORT": str(server.port), "DB_NAME": "source", "DB_USER": server.user,
        "DB_PASSWORD": server.password, "BACKUP_DIR": str(directory / "backups"), "ALLOW_UNENCRYPTED": "true",
        "PGFLEET_STATE_DIR": str(directory / "state"), "PGFLEET_SPOOL": str(directory / "spool"),
        "PGFLEET_PG_BIN": str(server.bin_dir),
    }  # fmt: skip
    ledger = Ledger("sqlite://")
    ledger.migrate()
    return Adapters(load(env), ledger)


def _by_hand(server: Postgres, archive: Path, jobs: int) -> tuple[float, float]:
    server.createdb("by_hand", template="template0")
    began = time.monotonic()
    _start(server, "pg_restore", "--exit-on-error", f"--jobs={jobs}", "-d", "by_hand", str(archive))
    loaded = time.monotonic()
    _start(server, "vacuumdb", "--analyze-only", f"--jobs={jobs}", "-q", "by_hand")
    ended = time.monotonic()
    server.dropdb("by_hand")
    return loaded - began, ended - began


def _ours(adapters: Adapters, archive: Path, jobs: int, name: str) -> tuple[float, float]:
    payload = {"database": "source", "as_name": name, "jobs": jobs}
    run_: Run = restore_locally(adapters, payload, requested_by="benchmark", here=me(), file=str(archive))
    ended = here.work(adapters, run_.id)
    assert ended.state == "succeeded", ended.error
    loads = adapters.ledger.steps(ended.id, name="restore.load")
    return next(step.result["load_seconds"] for step in loads), float(ended.result["seconds"])


def _start(server: Postgres, program: str, *arguments: str) -> None:
    env = {
        "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": server.password,
    }  # fmt: skip
    done = run([str(server.bin_dir / program), *arguments], env=env)
    assert done.returncode == 0, done.stderr


if __name__ == "__main__":
    main()
