"""The most memory that any process of pgfleet's needs for a backup of a large database.

    python -m benchmarks.memory [--scale 100]     # scale 100 is about 2 GB

Prints the peak (VmHWM) of each process of the fleet and of the command line; the servers are not ours.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import threading
import time
from pathlib import Path

from worker.core import human
from worker.local.sample import load_sample
from worker.local.stack import DATABASE, Stack

LIMIT = 300 * 1024**2
SERVERS = ("postgres", "valkey", "weed", "gpg-agent")


def peaks(roots: set[int]) -> dict[str, int]:
    """Program and pid → peak bytes, of these processes and their descendants, servers left out."""
    family, found = set(roots), {}
    for entry in sorted((p for p in Path("/proc").iterdir() if p.name.isdigit()), key=lambda p: int(p.name)):
        with contextlib.suppress(OSError, ValueError, KeyError):
            status = dict(
                line.split(":\t", 1) for line in (entry / "status").read_text().splitlines() if ":\t" in line
            )
            if int(status["PPid"]) in family or int(entry.name) in family:
                family.add(int(entry.name))
                name = status["Name"].strip()
                if not name.startswith(SERVERS):
                    found[f"{name} {entry.name}"] = int(status["VmHWM"].split()[0]) * 1024
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=100)
    scale = parser.parse_args().scale
    with Stack(workers=2, flower=False) as stack:
        size = load_sample(stack.postgres, DATABASE, scale)
        print(f"database: {human.size(size)}")
        most: dict[str, int] = {}
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.1):
                for name, peak in peaks({child.pid for child in stack.fleet.children} | commands).items():
                    most[name] = max(most.get(name, 0), peak)

        commands: set[int] = set()
        watcher = threading.Thread(target=watch)
        watcher.start()
        codes = []
        for arguments in (["backup", "--json"], ["backup", "--here", "--json"]):
            began = time.monotonic()
            command = subprocess.Popen(
                [sys.executable, "-m", "worker", *arguments], env=stack.environment, stdout=subprocess.DEVNULL
            )
            commands.add(command.pid)
            codes.append(command.wait())
            print(
                f"pgfleet {' '.join(arguments)}: exit {codes[-1]}, {human.duration(time.monotonic() - began)}"
            )
        ended.set()
        watcher.join()
    for name, peak in sorted(most.items(), key=lambda pair: -pair[1])[:12]:
        print(f"{human.size(peak):>12}  {name}")
    return 0 if not any(codes) and max(most.values()) < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
