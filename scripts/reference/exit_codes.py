"""docs/reference/exit-codes.md: what each code means, for each command."""

from __future__ import annotations

import re
from collections.abc import Mapping

from scripts.reference.cli import commands
from scripts.reference.errors import RECORDED
from scripts.reference.known import ERRORS
from scripts.reference.markdown import joined, made_by, table
from worker.cli import INTERRUPTED

_INTRO = f"""# Exit codes

{made_by()}

The numbers are those of the bash scripts that pgfleet replaces: 4, 5 and 6 mean dump, encryption and upload in a
backup, and download, decryption and restore in a restore.

A command that asked the fleet for a run ends with the run's code; with `--no-wait` it ends with 0 when the run is in
the ledger. Several databases at once: the largest of their codes. A worker ends with 3 for a setting that is wrong.
"""
MEANINGS: Mapping[int, str] = {
    0: "success",
    1: "general: none of the others",
    2: "a program is missing, or too old",
    3: "configuration: a setting, an option or a request was refused before any work; a refused login",
    4: "the dump failed; in a restore: the download failed; in `validate`: the seed data failed",
    5: "the encryption failed; in a restore: the decryption; in `validate`: the backup",
    6: "the upload failed, or a stored copy is damaged; in a restore: the restore failed",
    7: "validation failed: a drill refuted the backup, or a signature does not fit",
    8: "the recovery took longer than allowed",
    INTERRUPTED: "ctrl-C",
    143: "ended by SIGTERM (128 + its number; `local` and `up` stop their stack first)",
}
_SENTENCE = re.compile(r"Exit codes?: (?P<codes>.*?)\.(?:\s|$)", re.DOTALL)


def render() -> str:
    errors: dict[int, list[str]] = {}
    for name, error in ERRORS.items():
        errors.setdefault(error.exit_code, []).append(f"[{name}](errors.md#{name.lower()})")
    for name in RECORDED:
        errors.setdefault(3 if name == "UsageError" else 1, []).append(f"[{name}](errors.md#{name.lower()})")
    codes = [
        (str(code), meaning, ", ".join(sorted(errors.get(code, ())))) for code, meaning in MEANINGS.items()
    ]
    return joined(
        _INTRO,
        table(("code", "means", "errors"), codes),
        "## By command",
        "What a command's own help says of its codes; the others use those above.",
        table(("command", "codes"), by_command()),
    )


def by_command() -> list[tuple[str, str]]:
    found = []
    for path, command in commands():
        said = _SENTENCE.search(command.help or "")
        if said is not None:
            found.append((f"[`{path}`](cli.md#{path.replace(' ', '-')})", said["codes"]))
    return found
