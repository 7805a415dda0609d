"""What the stack's children inherit of our environment: all but settings, because a stack has its own.

The environment is read here to be passed on; no setting is taken from it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from worker.config.variables import KNOWN
from worker.errors import MissingDependency

#: Names that begin so are settings of pgfleet, or of a library or program that it uses.
SETTINGS = ("PGFLEET_", "PG", "DB_", "S3_", "GPG_", "AWS_", "FLOWER_", "CELERY_")


def is_setting(name: str) -> bool:
    return name in KNOWN or name == "GNUPGHOME" or name.startswith(SETTINGS)


def inherited() -> dict[str, str]:
    """Without settings; this installation's commands come first on PATH."""
    kept = {name: value for name, value in os.environ.items() if not is_setting(name)}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"}


def program(name: str) -> str:
    """The path of a command that a child of the stack would find. Raises MissingDependency."""
    found = shutil.which(name, path=inherited()["PATH"])
    if found is None:
        raise MissingDependency(f"There is no command {name!r} here.", "Check its spelling and PATH.")
    return found


def plain(home: Path) -> dict[str, str]:
    """For servers that need nothing of the caller's."""
    return {
        "PATH": os.defpath,
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }
