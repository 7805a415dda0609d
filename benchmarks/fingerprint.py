"""What a fingerprint costs: beside the dump that it belongs to, and by one worker or two.

    python -m benchmarks.fingerprint [--scale 30] [--rounds 5]               # the sample; 30 is about 600 MB
    python -m benchmarks.fingerprint --script bench.sql --scale 1            # psql -v scale=1 -f bench.sql

On a server of its own (PostgreSQL 17, fsync off). Best wall seconds, and CPU seconds of the client and the
server's backends together: those hold on a busy machine too. "bound" is what two free cores would need at least,
from the CPU seconds and from the longest chain (pg_dump's own wall time, when the machine is idle).
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from worker.core import human
from worker.local.place import Place
from worker.local.postgres import Postgres
from worker.local.sample import load_sample
from worker.local.user import server_user
from worker.postgres import inspect

NAME = "bench"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--script", type=Path, default=None, help="for psql, instead of the sample")
    parser.add_argument("--scale", type=int, default=0, help="default: 30 for the sample, 1 for a script")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compress", default="zstd:1", help="pg_dump's --compress")
    arguments = parser.parse_args()
    place = Place(server_user())
    server = Postgres(place.path / "pg", 17, fsync=False)
    server.start()
    try:
        server.createdb(NAME)
        if arguments.script is None:
            load_sample(server, NAME, arguments.scale or 30)
        else:
            psql = [str(server.bin_dir / "psql"), "-q", "-d", server.dsn(NAME), "-f", str(arguments.script)]
            psql += ["-v", f"scale={arguments.scale or 1}"]
            subprocess.run(psql, check=True, stdout=subprocess.DEVNULL)
        with server.connect(NAME) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")
            connection.execute("ALTER SYSTEM SET autovacuum = off")
            connection.execute("SELECT pg_reload_conf()")
        Bench(server, place.path / "bench.dump", arguments.compress).run(arguments.rounds)
    finally:
        server.stop()
        place.remove()


class Bench:
    def __init__(self, server: Postgres, archive: Path, compress: str) -> None:
        self._server = server
        self._archive = archive
        self._compress = compress
        time.sleep(1)  # the backends of the preparations end
        self._standing = self._children()

    def run(self, rounds: int) -> None:
        variants: dict[str, Callable[[], object]] = {
            "dump alone": self._dump,
            "dump and fingerprint, 2 workers": lambda: self._both(2),
            "dump and fingerprint, 1 worker": lambda: self._both(1),
            "dump and counts only": lambda: self._both(2, "counts"),
            "fingerprint, 1 worker": lambda: inspect.fingerprint(self._reader(), workers=1),
            "fingerprint, 2 workers": lambda: inspect.fingerprint(self._reader(), workers=2),
            "counts only, 2 workers": lambda: inspect.fingerprint(self._reader(), workers=2, mode="counts"),
        }
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
        for variant in variants.values():
            variant()  # warms the caches
        for _ in range(rounds):
            for name, variant in variants.items():
                measured[name].append(self._timed(variant))
        self._print({name: _best(times) for name, times in measured.items()}, rounds)

    def _print(self, best: dict[str, tuple[float, float]], rounds: int) -> None:
        with self._server.connect(NAME) as connection:
            (size,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
        table = Table("", "wall s", "CPU s", "wall / dump alone")
        dump = best["dump alone"][0]
        for name, (wall, cpu) in best.items():
            table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}", f"{wall / dump:.2f}")
        console = Console()
        console.print(
            f"{human.size(int(str(size)))}, PostgreSQL 17, {platform.machine()}, {os.cpu_count()} CPUs, "
            f"load {os.getloadavg()[0]:.1f}, {self._compress}, best of {rounds}"
        )
        console.print(table)
        alone, both = best["dump alone"], best["dump and fingerprint, 2 workers"]
        bound = max(alone[0], both[1] / 2)
        console.print(
            f"longer by {both[0] / alone[0] - 1:.0%} (goal: at most 33%; "
            f"bound on two free cores {bound / alone[0] - 1:.0%}); "
            f"2 workers need {best['fingerprint, 2 workers'][0] / best['fingerprint, 1 worker'][0]:.2f} "
            "of the time of 1 (goal: at most 0.60)"
        )

    def _timed(self, work: Callable[[], object]) -> tuple[float, float]:
        cpu, started = self._cpu(), time.monotonic()
        work()
        wall = time.monotonic() - started
        return wall, self._cpu(wait=True) - cpu

    def _cpu(self, wait: bool = False) -> float:
        """Seconds of us, our children and all backends that have ended."""
        while wait and self._children() - self._standing:
            time.sleep(0.01)  # backends that are ending, or are not reaped yet
        fields = Path(f"/proc/{self._server.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        server = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
        ours = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return server + sum(usage.ru_utime + usage.ru_stime for usage in ours)

    def _children(self) -> set[str]:
        pid = self._server.child.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def _reader(self, snapshot: str = "") -> Callable[[], AbstractContextManager[psycopg.Connection[Any]]]:
        def reader() -> AbstractContextManager[psycopg.Connection[Any]]:
            connection = self._server.connect(NAME)
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if snapshot:
                connection.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'".encode())
            return closing(connection)

        return reader

    def _dump(self, *options: str) -> None:
        argv = [str(self._server.bin_dir / "pg_dump"), "-Fc", f"--compress={self._compress}", *options]
        subprocess.run([*argv, "-f", str(self._archive), "-d", self._server.dsn(NAME)], check=True)

    def _both(self, workers: int, mode: Any = "full") -> None:
        with closing(self._server.connect(NAME)) as exporter:
            exporter.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            (snapshot,) = exporter.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
            dump = threading.Thread(target=self._dump, args=(f"--snapshot={snapshot}",))
            dump.start()
            inspect.fingerprint(self._reader(str(snapshot)), workers=workers, mode=mode)
            dump.join()


def _best(times: list[tuple[float, float]]) -> tuple[float, float]:
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


if __name__ == "__main__":
    main()
