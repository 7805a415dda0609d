"""How much slower than bare gpg is encrypting through `worker.gpg`?

    python -m benchmarks.encrypt [--mib 256] [--rounds 3] [--dir DIRECTORY]

An incompressible file, the same key, the variants in turn; medians. pgfleet hashes and fsyncs what it writes and reads
the recipients back, which bare gpg does not: "gpg + sync + sha256sum" is the same work by hand.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gnupg
from rich.console import Console
from rich.table import Table

from worker.core import human
from worker.durable import hash_file
from worker.gpg import Gpg

MIB = 1024 * 1024
OPTIONS = ["--batch", "--yes", "--no-tty", "--trust-model", "always", "--compress-algo", "none"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--dir", type=Path, default=None, help="where the files go; default: the temporary directory"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pgf", dir=arguments.dir) as directory:
        bench(Path(directory), arguments.mib, arguments.rounds)


def bench(directory: Path, mib: int, rounds: int) -> None:
    home, source, target = directory / "home", directory / "source", directory / "target"
    gpg = Gpg(home)
    make_key(home)
    (key,) = gpg.resolve(["bench@example.org"])
    with source.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    bare = ["gpg", "--homedir", str(home), *OPTIONS, "-r", key.fingerprint]
    wrapper = gnupg.GPG(gnupghome=str(home), options=["--compress-algo", "none"])

    def bare_gpg() -> None:
        subprocess.run([*bare, "--output", target, "--encrypt", source], check=True, capture_output=True)

    def by_hand() -> None:
        bare_gpg()
        subprocess.run(["sync", target], check=True)
        subprocess.run(["sha256sum", target], check=True, capture_output=True)

    def pgfleet() -> None:
        before = peak()
        encrypted = gpg.encrypt(source, target, [key])
        grown.append(peak() - before)
        seen.append(encrypted.sha256)

    def python_gnupg() -> None:
        result = wrapper.encrypt_file(
            str(source), [key.fingerprint], output=str(target), armor=False, always_trust=True
        )
        assert result.ok, result.stderr

    seen: list[str] = []
    grown: list[int] = []
    variants = {
        "gpg": bare_gpg,
        "gpg + sync + sha256sum": by_hand,
        "pgfleet": pgfleet,
        "python-gnupg": python_gnupg,
    }
    took = measure(variants, target, rounds, seen)
    show(took, mib, rounds)
    print(f"peak memory of this process grew by {human.size(max(grown))} while pgfleet encrypted")


def measure(
    variants: dict[str, Callable[[], None]], target: Path, rounds: int, seen: list[str]
) -> dict[str, list[tuple[float, float]]]:
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in variants}
    for _ in range(rounds + 1):  # the first round warms up
        for name, variant in variants.items():
            target.unlink(missing_ok=True)
            os.sync()
            began, worked = time.perf_counter(), cpu()
            variant()
            took[name].append((time.perf_counter() - began, cpu() - worked))
            if seen:
                assert hash_file(target)[1] == seen.pop()
    return {name: seconds[1:] for name, seconds in took.items()}


def peak() -> int:
    """Bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cpu() -> float:
    """Seconds of all CPUs, of ours and of our ended children."""
    return sum(os.times()[:4])


def show(took: dict[str, list[tuple[float, float]]], mib: int, rounds: int) -> None:
    base = statistics.median(wall for wall, _ in took["gpg"])
    table = Table(title=f"Encrypting {mib} MiB, median of {rounds}")
    for column in ("", "seconds", "rate", "to bare gpg", "CPU seconds", "each"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, measured in took.items():
        median = statistics.median(wall for wall, _ in measured)
        table.add_row(
            name,
            f"{median:.2f}",
            human.rate(mib * MIB, median),
            f"{median / base:.2f}",
            f"{statistics.median(worked for _, worked in measured):.2f}",
            " ".join(f"{wall:.2f}" for wall, _ in measured),
        )
    console = Console(width=110)
    console.print(table)
    console.print(f"gpg {gnupg_version()}, Python {platform.python_version()}, {os.cpu_count()} CPUs")


def gnupg_version() -> str:
    output = subprocess.run(["gpg", "--version"], check=True, capture_output=True, text=True).stdout
    return output.split("\n")[0].split()[-1]


def make_key(home: Path) -> None:
    argv = ["gpg", "--homedir", str(home), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
    name = "Bench <bench@example.org>"
    subprocess.run([*argv, "--quick-gen-key", name, "future-default"], check=True, capture_output=True)
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "gpg-agent"], check=True)


if __name__ == "__main__":
    main()
