"""A PostgreSQL server for one drill: made in a directory, reached by a Unix socket only, gone with the directory.

It has to outlive the process that starts it, since the steps of a drill are done by several. So nothing about it is
kept in memory: its data directory says which process it is (``postmaster.pid``), and a server whose directory is
removed ends by itself within a minute. Nothing in it is durable (fsync off), nobody else can connect (the socket is
in a directory of mode 0700), and when we are root it has no network at all.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from worker.config.model import Target
from worker.errors import ConfigError, MissingDependency, RestoreFailed
from worker.postgres.tools import server_programs
from worker.process import Finished, run

SUPERUSER = "pgfleet_drill"
_PORT = 5432
_LONGEST_SOCKET = 107 - len("/.s.PGSQL.5432.lock")  # sun_path, unix(7)
_USERS = (
    "pgfleet",
    "nobody",
)  # never postgres: it owns the host's clusters, and their files would be in reach
_INITDB_SECONDS = 120.0
_START_SECONDS = 60
_STOP_SECONDS = 20.0
_MIB = 1024 * 1024
_OWN = "throwaway"  # below the run's directory

# Changes the user before the program starts. CLONE_NEWNET: what is restored must not reach the world, whatever
# foreign servers or functions it has; where the kernel does not allow it, the closed socket has to do.
_AS_USER = """
import ctypes, os, sys
ctypes.CDLL(None).unshare(0x40000000)
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
try:
    os.execv(sys.argv[3], sys.argv[3:])
except OSError as error:
    sys.stderr.write(f"cannot execute {sys.argv[3]}: {error.strerror}\\n")
    os._exit(126)
"""


class Throwaway(NamedTuple):
    """major: of the server. directory: what `remove` takes. socket_dir: where clients find it."""

    major: int
    directory: Path
    socket_dir: Path

    @property
    def target(self) -> Target:
        """How to reach it."""
        return Target(
            alias="throwaway", host=str(self.socket_dir), port=_PORT, user=SUPERUSER, sslmode="disable"
        )

    @property
    def running(self) -> bool:
        return _postmaster(self.directory / "data") is not None


def provision(
    run_dir: Path,
    run_id: str,
    source_major: int,
    pg_bin: Sequence[Path],
    libraries: Collection[str] = (),
    settings: Mapping[str, str] | None = None,
) -> Throwaway:
    """A server that answers, of the source's major or the nearest newer one. What an earlier attempt left goes.

    libraries: that it must be able to load. settings: further ones for its configuration.

    Raises MissingDependency when no such server is installed, RestoreFailed when it does not start, ConfigError when
    its user cannot get to the spool.
    """
    remove(run_dir, run_id)
    major, programs = _choose(source_major, pg_bin)
    _check_libraries(major, programs, libraries)
    account = _account()
    if account is not None:
        _check_passable(run_dir, account)
    directory, socket_dir = run_dir / _OWN, _socket_dir(run_dir, run_id)
    for path in (directory, socket_dir):
        path.mkdir(mode=0o700)
        if account is not None:
            os.chown(path, account.pw_uid, account.pw_gid)
    if account is not None:
        run_dir.chmod(0o711)  # to pass through; the files in it stay private
        programs = _reachable(programs, account, directory)
    server = Throwaway(major, directory, socket_dir)
    data = directory / "data"
    options = ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    made = _run(
        [str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER, *options], account, _INITDB_SECONDS
    )
    _check(made, f"initdb of PostgreSQL {major}")
    with (data / "postgresql.conf").open("a") as file:
        file.write(_configuration(socket_dir, settings or {}))
    log = directory / "server.log"
    start = [
        str(programs / "pg_ctl"),
        "-D",
        str(data),
        "-l",
        str(log),
        "-w",
        "-t",
        str(_START_SECONDS),
        "start",
    ]
    _check(_run(start, account, _START_SECONDS + 10), f"The throwaway PostgreSQL {major}", log)
    return server


def found(run_dir: Path, run_id: str, major: int) -> Throwaway:
    """The server that `provision` made. Raises RestoreFailed when it does not run any more."""
    server = Throwaway(major, run_dir / _OWN, _socket_dir(run_dir, run_id))
    if not server.running:
        raise RestoreFailed(
            "The throwaway server of this drill does not run any more on this host.",
            "Was the host or its worker restarted? Start the drill again.",
        )
    return server


def remove(run_dir: Path, run_id: str) -> bool:
    """Stop the server if it runs, and delete all of it. Idempotent; whether there was anything."""
    directory, socket_dir = run_dir / _OWN, _socket_dir(run_dir, run_id)
    there = directory.exists() or socket_dir.exists()
    _stop(directory / "data")
    for path in (directory, socket_dir):
        shutil.rmtree(path, ignore_errors=not path.exists())
    return there


def _stop(data: Path) -> None:
    pid = _postmaster(data)
    if pid is None:
        return
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGQUIT)  # immediate: nothing in it is worth a checkpoint
    deadline = time.monotonic() + _STOP_SECONDS
    while _postmaster(data) is not None:
        if time.monotonic() > deadline:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            deadline += _STOP_SECONDS
        time.sleep(0.02)


def _postmaster(data: Path) -> int | None:
    """The server's pid, if it is really the server of this directory: a pid may belong to somebody else by now."""
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        at_home = Path(os.readlink(f"/proc/{pid}/cwd")) == data.resolve()
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError, IndexError):
        return None
    return pid if at_home and state != "Z" else None


def _choose(source: int, pg_bin: Sequence[Path]) -> tuple[int, Path]:
    installed = server_programs(tuple(pg_bin))
    able = sorted(major for major in installed if major >= source)
    if not able:
        have = ", ".join(map(str, sorted(installed))) or "none"
        raise MissingDependency(
            f"A drill of a backup from PostgreSQL {source} needs a server of that major; installed here: {have}.",
            f"Install postgresql-{source} (the server), or set PGFLEET_DRILL_SERVER to a target for drills.",
        )
    return able[0], installed[able[0]]


def _check_libraries(major: int, programs: Path, wanted: Collection[str]) -> None:
    """Distributions (…/VERSION/bin beside …/VERSION/lib) and wheels keep there what a server can load."""
    folder = programs.parent / "lib"
    lacking = [name for name in wanted if next(folder.glob(f"**/{name}.so"), None) is None]
    if lacking:
        raise MissingDependency(
            f"PostgreSQL {major} of this drill host lacks {', '.join(lacking)}, which the backup's extensions need "
            "to be preloaded.",
            f"Install their packages for PostgreSQL {major} here, or set PGFLEET_DRILL_SERVER to a server with them.",
        )


def _account() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses root. None: as ourselves. Raises MissingDependency."""
    if os.geteuid() != 0:
        return None
    for name in _USERS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise MissingDependency(
        f"PostgreSQL refuses to run as root, and this machine has no user {' or '.join(_USERS)}.",
        "Create one (useradd --system pgfleet), or run the worker as an ordinary user.",
    )


def _check_passable(run_dir: Path, account: pwd.struct_passwd) -> None:
    for folder in run_dir.absolute().parents:
        info = folder.stat()
        passes = info.st_mode & 0o001 or (info.st_uid == account.pw_uid and info.st_mode & 0o100)
        if not passes:
            raise ConfigError(
                f"User {account.pw_name}, who runs the throwaway server, cannot pass through {folder} to the spool.",
                f"chmod o+x {folder}, move PGFLEET_SPOOL, or run the worker as an ordinary user.",
            )


def _run(argv: Sequence[str], account: pwd.struct_passwd | None, seconds: float) -> Finished:
    env = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
    if account is None:
        return run(argv, env=env, timeout=seconds)
    ids = [str(account.pw_uid), str(account.pw_gid)]
    return run([sys.executable, "-I", "-S", "-c", _AS_USER, *ids, *argv], env=env, timeout=seconds)


def _check(finished: Finished, what: str, log: Path | None = None) -> None:
    if finished.returncode == 0 and not finished.killed:
        return
    said = finished.stderr.strip() or finished.stdout.decode(errors="replace").strip()
    if log is not None and log.exists():
        said = log.read_text(errors="replace")[-2000:]
    raise RestoreFailed(f"{what} could not be started on the drill host.", f"It said: {said[-2000:]}")


def _socket_dir(run_dir: Path, run_id: str) -> Path:
    """Found again by its name. A socket's path must be short, and the spool's may be long."""
    inside = run_dir / "s"
    if len(os.fsencode(inside)) <= _LONGEST_SOCKET:
        return inside
    return Path(tempfile.gettempdir()) / f"pgfleet-drill-{run_id}"


def _reachable(programs: Path, account: pwd.struct_passwd, directory: Path) -> Path:
    """`programs`, or a copy of their installation when that user cannot get there (one below /root)."""
    if _run([str(programs / "postgres"), "--version"], account, 20).returncode == 0:
        return programs
    package = programs.parents[1]
    copy = directory / "postgresql"
    # A wheel's libraries may lie beside its package (RPATH $ORIGIN/../../../NAME.libs): keep the layout.
    for source in (programs.parent, package.parent / f"{package.name}.libs"):
        if source.is_dir():
            shutil.copytree(source, copy / source.relative_to(package.parent), symlinks=True)
    for path in (copy, *copy.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    return copy / programs.relative_to(package.parent)


def _configuration(socket_dir: Path, more: Mapping[str, str]) -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    settings: dict[str, object] = {
        "listen_addresses": "",
        "unix_socket_directories": socket_dir,
        "unix_socket_permissions": "0700",
        "port": _PORT,
        "max_connections": 100,
        "max_locks_per_transaction": 1024,  # pg_restore and the fingerprint of many thousand tables
        "shared_buffers": f"{min(1024, max(64, memory // _MIB // 8))}MB",
        "maintenance_work_mem": f"{min(512, max(64, memory // _MIB // 16))}MB",
        "fsync": "off",
        "full_page_writes": "off",
        "synchronous_commit": "off",
        "wal_level": "minimal",
        "max_wal_senders": 0,
        "max_wal_size": "2GB",
        "checkpoint_timeout": "1h",
        "autovacuum": "off",
        "dynamic_shared_memory_type": "mmap",  # inside the directory, so that nothing stays in /dev/shm
        "logging_collector": "off",
        "log_min_messages": "warning",
        "timezone": "UTC",
        "log_timezone": "UTC",
        **more,
    }
    return "".join(f"{name} = '{value}'\n" for name, value in settings.items())
