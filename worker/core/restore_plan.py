"""How a restore goes about it: names, client, order of archives, settings, space. Values only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeVar

from worker.core.backup import Server
from worker.core.toc import Toc
from worker.core.versions import Version, dotted
from worker.errors import MissingDependency

Tool = TypeVar("Tool")
Section = Literal["pre-data", "data", "post-data"]

_LONGEST = 63  # bytes of a name, NAMEDATALEN - 1
_MIB = 1024 * 1024
#: An index takes about as much again as its table's rows; WAL and sorting want room for a while.
_GROWTH = 1.2


def load_name(database: str, run_id: str) -> str:
    """Where a restore loads before anybody sees it."""
    return _named(database, f"_restore_{run_id}")


def before_name(database: str, run_id: str) -> str:
    """What the replaced database is called afterwards."""
    return _named(database, f"_before_{run_id}")


def undone_name(database: str, run_id: str) -> str:
    """What the restored database is called once its replace was undone."""
    return _named(database, f"_undone_{run_id}")


def restored_name(database: str, at: float) -> str:
    """The name that a new database gets by default: ``{db}_restored_YYYYMMDD_HHMMSS``, UTC. at: epoch seconds."""
    return _named(database, f"_restored_{datetime.fromtimestamp(at, UTC):%Y%m%d_%H%M%S}")


def _named(database: str, suffix: str) -> str:
    room = _LONGEST - len(suffix.encode())
    return database.encode()[:room].decode(errors="ignore") + suffix


def client_for(target: Version, archive: Version, installed: Mapping[int, Tool]) -> Tool:
    """The pg_restore (by major) that reads this archive for that server.

    It must not be older than the pg_dump that wrote the archive (newer formats are refused); from what remains,
    the server's own major, else the nearest newer, else the newest. Raises MissingDependency.
    """
    able = sorted(major for major in installed if major >= archive[0])
    if not able:
        newest = (
            f"the newest client tools here are {max(installed)}" if installed else "no client tools are here"
        )
        raise MissingDependency(
            f"The archive was written by pg_dump {dotted(archive)}, but {newest}.",
            f"Install postgresql-client-{archive[0]}, or put the directory of its programs into PGFLEET_PG_BIN.",
        )
    return installed[next((major for major in able if major >= target[0]), able[-1])]


class Phase(NamedTuple):
    """One section (None: all of them) of these archives, which may be loaded side by side."""

    section: Section | None
    archives: tuple[str, ...]


def phases(main: str, data: Sequence[str], *, apart: bool = False) -> list[Phase]:
    """One archive goes in one call, unless wanted `apart`: definitions, everybody's rows, indexes and constraints."""
    if not data and not apart:
        return [Phase(None, (main,))]
    return [Phase("pre-data", (main,)), Phase("data", (main, *data)), Phase("post-data", (main,))]


def jobs_each(jobs: int, archives: int) -> int:
    """Of `jobs` parallel workers, how many each of `archives` gets."""
    return max(1, jobs // archives)


def session_settings(jobs: int, shared_buffers: int, work_mem: int) -> dict[str, str]:
    """What each loading session runs with; it ends with the session. Sizes in bytes, `work_mem`: maintenance_work_mem.

    Sorting for indexes gets a share of what the server was given for itself, never less than it has already.
    What the database is set to (read-only transactions, timeouts) must not stop its own restore.
    """
    memory = max(work_mem, min(1024 * _MIB, max(64 * _MIB, shared_buffers // max(1, jobs))))
    return {
        "maintenance_work_mem": f"{memory // 1024}kB",
        "synchronous_commit": "off",
        "default_transaction_read_only": "off",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "row_security": "off",
        "vacuum_cost_delay": "0",
    }


def no_event_triggers(server: Version, superuser: bool) -> dict[str, str]:
    """Settings of a session in a restored database. Since 17 one may fire at login: it writes a row, or refuses."""
    return {"event_triggers": "off"} if superuser and server[0] >= 17 else {}


def pgoptions(settings: Mapping[str, str]) -> str:
    """For PGOPTIONS: a space or backslash in a value is escaped by a backslash."""
    escaped = {name: value.replace("\\", "\\\\").replace(" ", "\\ ") for name, value in settings.items()}
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


def too_old(source: Version, target: Version) -> bool:
    """A dump may not load into a server of an older major (pg_dump, Notes)."""
    return target[0] < source[0]


def missing_extensions(toc: Toc, wanted: Collection[int], available: Collection[str]) -> list[str]:
    """Extensions that the selected entries create and the server has no files of."""
    names = {entry.text.strip() for entry in toc.of("EXTENSION") if entry.id in wanted}
    return sorted(name for name in names if name not in available)


#: Extensions that cannot be created, or do not work, unless the server was started with their library.
_PRELOADED = frozenset({
    "anon", "citus", "pg_cron", "pg_qualstats", "pg_squeeze", "pg_stat_kcache", "pg_stat_monitor",
    "pg_stat_statements", "pg_wait_sampling", "pgaudit", "pglogical", "plan_filter", "timescaledb",
})  # fmt: skip


def preloads(server: Server) -> tuple[str, ...]:
    """The libraries that a server for a copy of this database must be started with: those of its extensions.

    In the source's order (citus wants to be the first), where the backup may see it.
    """
    known = [name.rpartition("/")[2].strip('"') for name in server.preload]
    guessed = [name for name in sorted(server.extensions) if name in _PRELOADED and name not in known]
    return tuple(name for name in (*known, *guessed) if name in server.extensions)


def preload_settings(libraries: Collection[str], database: str) -> dict[str, str]:
    """What such a server is set to, so that nothing but the drill works in it: no jobs, no telemetry."""
    if not libraries:
        return {}
    settings = {"shared_preload_libraries": ",".join(libraries)}
    if "pg_cron" in libraries:  # its extension can be created in this database only
        settings |= {"cron.database_name": database, "cron.launch_active_jobs": "off"}
    if "timescaledb" in libraries:
        settings |= {"timescaledb.telemetry_level": "off"}
    return settings


def missing_owners(toc: Toc, wanted: Collection[int], roles: Collection[str]) -> list[str]:
    """Owners of selected entries that are no role of the server. What is printed last on a line is the owner."""
    missing = set()
    for entry in toc.entries:
        if entry.id not in wanted or not entry.owner or entry.kind in ("EXTENSION", "COMMENT"):
            continue
        if not any(entry.text.endswith(f" {role}") for role in roles):
            missing.add(entry.owner)
    return sorted(missing)


def space_needed(tables_bytes: int, archive_bytes: int) -> int:
    """About what the restored database takes on the server's disk; `tables_bytes` is the source's, 0 when not known."""
    return int((tables_bytes or archive_bytes * 4) * _GROWTH)


def by_hand(server: Server | None) -> dict[str, str]:
    """What CREATE DATABASE is told where the archive does not say it itself."""
    return {"ENCODING": server.encoding if server else "UTF8"}
