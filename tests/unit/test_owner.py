"""Dead only when that is known."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from worker.owner import is_dead, me


def test_alive_then_dead() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "from worker.owner import me; print(me(), flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    assert not is_dead(name)
    child.communicate("\n")
    assert is_dead(name)


def test_another_process_with_the_same_pid_is_not_it() -> None:
    boot, namespace, pid, _ = me().split("/")
    assert is_dead(f"{boot}/{namespace}/{pid}/1")
    assert not is_dead(me())


def test_other_machines_and_containers_are_not_judged() -> None:
    boot, namespace, pid, _ = me().split("/")
    assert not is_dead(f"{'0' * len(boot)}/{namespace}/{pid}/1")
    assert not is_dead(f"{boot}/1/{pid}/1")
    assert not is_dead("nonsense")


def test_who_has_no_file_descriptors_left_declares_nobody_dead() -> None:
    name = me()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 8, before[1])
        )
        try:
            while True:
                held.append(open("/dev/null"))  # noqa: SIM115
        except OSError:
            pass
        assert not is_dead(name)
    finally:
        for file in held:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
