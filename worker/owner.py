"""Who is working: a name for this process that others on the same machine can tell dead from alive.

``boot/pidns/pid/start``: the kernel's boot id, the PID namespace (two containers share the boot id but not their
pids), the pid, and the start time of the process (a pid is used again, a start time is not).
"""

from __future__ import annotations

import os
from pathlib import Path


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]


def _pid_namespace() -> str:
    return os.readlink("/proc/self/ns/pid")[5:-1]  # pid:[4026531836]


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat, clock ticks since boot; None when there is no such process, or only a zombie.

    Raises OSError when that cannot be told: out of file descriptors is no sign of death.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields[19]


def _hidden(pid: int) -> bool:
    """/proc may hide the processes of other users (ProtectProc=invisible); kill(2) does not."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except ProcessLookupError:
        return False
    return False


def me() -> str:
    """The name of the calling process."""
    pid = os.getpid()
    return f"{_boot_id()}/{_pid_namespace()}/{pid}/{_start_time(pid)}"


def is_dead(owner: str) -> bool:
    """True only when `owner` is known to be dead: a process of this boot and PID namespace that is gone."""
    try:
        boot, namespace, pid, start = owner.split("/")
        if (boot, namespace) != (_boot_id(), _pid_namespace()):
            return False
        found = _start_time(int(pid))
        return found != start and (found is not None or not _hidden(int(pid)))
    except (ValueError, OSError):
        return False
