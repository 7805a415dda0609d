"""Shell blocks of a page that are marked to be run: found, run in one shell in their order, and judged.

The mark is the word ``run`` in the info string, after the language; CONTRIBUTING.md describes it for writers.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.docs.links import FENCE
from worker.local.environment import is_setting

LANGUAGES = ("console", "sh", "bash")
_SECONDS = 240
_HIDDEN = re.compile(r"<!-- run\n(?P<body>.*?)-->", re.DOTALL)
_GAP = re.compile(r"…|\.\.\.")
_BLANKS = re.compile(r"[\s\u2500-\u257f]+")
_NUMBERS = (
    (r"\x1b\[[0-9;]*m", ""),
    (r"\b(?=\w*\d)(?=\w*[a-z])[0-9a-z]{6,}\b", "0"),  # ids and digests
    (r"\b[0-9A-F]{16,40}\b", "0"),  # of keys
    (r"\d+(?:[.,:]\d+)*", "0"),
    (r"\b0 ?(?:B|[KMGT]i?B|kB)\b", "0 B"),
    (r"\b0 ?(?:ms|s|min|m|h|d)\b", "0 s"),
    (r"0 s(?: 0 s)+", "0 s"),
)


@dataclass(frozen=True)
class Command:
    """output: what the page shows; None where it shows nothing, and anything goes."""

    line: int
    text: str
    output: str | None = None
    code: int = 0
    bare: bool = False  # from here on, the shell has no settings


def commands(text: str) -> list[Command]:
    """Of the marked blocks of a page. Raises ValueError for a mark that is not understood."""
    found: list[tuple[int, list[Command]]] = []
    for fence in FENCE.finditer(text):
        language, *words = fence["info"].split() or [""]
        if words[:1] == ["run"]:
            line = text.count("\n", 0, fence.start()) + 2
            found.append((fence.start(), _block(language, words[1:], _dedented(fence), line)))
    for hidden in _HIDDEN.finditer(text):
        line = text.count("\n", 0, hidden.start()) + 2
        found.append((hidden.start(), [Command(line, "set -e\n" + hidden["body"] + "\nset +e")]))
    return [command for _, block in sorted(found, key=lambda item: item[0]) for command in block]


def _dedented(fence: re.Match[str]) -> str:
    indent = len(fence[0]) - len(fence[0].lstrip(" "))
    return "".join(
        line[min(indent, len(line) - len(line.lstrip(" "))) :] for line in fence["body"].splitlines(True)
    )


def _block(language: str, words: list[str], body: str, line: int) -> list[Command]:
    code, bare = 0, False
    for word in words:
        if re.fullmatch(r"exit=\d+", word):
            code = int(word.removeprefix("exit="))
        elif word == "env=none":
            bare = True
        else:
            raise ValueError(f"line {line - 1}: {word!r} is no option of a block that is run")
    if language not in LANGUAGES:
        raise ValueError(f"line {line - 1}: a block of {language or 'no language'} cannot be run")
    if language != "console":
        return [Command(line, f"set -e\n{body}\nset +e", None, code, bare)]
    made = list(_session(body, line))
    if not made:
        raise ValueError(f"line {line}: there is no command (a line that begins with '$ ')")
    first, last = made[0], made[-1]
    made[-1] = Command(last.line, last.text, last.output, code, last.bare)
    made[0] = Command(made[0].line, first.text, first.output, made[0].code, bare)
    return made


def _session(body: str, line: int) -> Iterator[Command]:
    """Commands after ``$ ``, with what is shown below each."""
    command, shown, at = "", list[str](), 0
    for number, text in enumerate(body.splitlines(), line):
        if text.startswith("$ "):
            if command:
                yield Command(at, command, "\n".join(shown).strip("\n") or None)
            command, shown, at = text[2:], [], number
        elif command.endswith("\\") and not shown:
            command += "\n" + text
        elif command:
            shown.append(text)
        elif text.strip():
            raise ValueError(f"line {number}: output before any command")
    if command:
        yield Command(at, command, "\n".join(shown).strip("\n") or None)


def run(found: list[Command], env: Mapping[str, str], directory: Path) -> list[str]:
    """Run them in one bash in an empty directory; what went wrong, each with its line. Stops at the first."""
    work, notes = directory / "work", directory / "notes"
    work.mkdir()
    notes.mkdir()
    script = [f"cd {shlex.quote(str(work))}"]
    for number, command in enumerate(found):
        (notes / f"{number}.cmd").write_text(command.text)
        base = shlex.quote(str(notes / str(number)))
        if command.bare:
            script.append(f"unset {' '.join(sorted(filter(is_setting, env)))}")
        script += [
            f'{{ eval "$(cat {base}.cmd)"; }} >{base}.out 2>&1 </dev/null',
            f"echo $? >{base}.code",
            f"[ $(cat {base}.code) = {command.code} ] || exit 99",
        ]
    (notes / "script").write_text("\n".join(script) + "\n")
    shell = subprocess.Popen(
        ["bash", str(notes / "script")], env=dict(env), stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        shell.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
        return [f"not done after {_SECONDS} s", *_judged(found, notes)]
    return list(_judged(found, notes))


def _judged(found: list[Command], notes: Path) -> Iterator[str]:
    for number, command in enumerate(found):
        said, code = notes / f"{number}.out", notes / f"{number}.code"
        output = said.read_text() if said.exists() else ""
        ended = code.read_text().strip() if code.exists() else "the shell ended"
        where = f"line {command.line}: {command.text.strip()}"
        if ended != str(command.code):
            yield f"{where}\nexit code {ended}, expected {command.code}; it said:\n{output}"
            return
        if command.output is not None and not matches(command.output, output):
            yield f"{where}\nshown:\n{command.output}\nsaid:\n{output}"


def matches(shown: str, said: str) -> bool:
    """Whether an output is what a page shows, but for numbers, ids, blanks, and what `…` stands for."""
    pattern = ""
    for line in filter(_plain, map(str.strip, shown.splitlines())):
        if _GAP.fullmatch(line):
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += ".*".join(re.escape(_plain(piece)) for piece in _GAP.split(line)) + r"\n"
    lines = (_plain(line) for line in said.splitlines())
    return (
        re.fullmatch(pattern.replace(r"\ ", " "), "".join(f"{line}\n" for line in lines if line)) is not None
    )


def _plain(text: str) -> str:
    """Numbers, ids and sizes are as good as any other. A piece of a line keeps one blank at its ends."""
    for pattern, instead in _NUMBERS:
        text = re.sub(pattern, instead, text)
    return _BLANKS.sub(" ", text).strip()
