"""Pieces of Markdown that a generated page is made of."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Sequence

_WIDTH = 120


def made_by() -> str:
    return "This page is made by `make reference` from the program itself."


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def literal(text: str) -> str:
    """A sentence that is shown as it is: what Markdown would take for its own is escaped, but not code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a lone backtick
        pieces = [text.replace("`", "\\`")]
    for index in range(0, len(pieces), 2):
        for sign in "*<[":
            pieces[index] = pieces[index].replace(sign, f"\\{sign}")
    return "`".join(pieces)


def joined(*blocks: str) -> str:
    """Blocks with an empty line between them, long lines of prose broken, and a newline at the end."""
    return "\n\n".join(_wrapped(block.strip("\n")) for block in blocks if block) + "\n"


def _wrapped(block: str) -> str:
    lines, fenced = [], False
    for line in block.split("\n"):
        fenced ^= line.startswith("```")
        short = len(line) <= _WIDTH or fenced or line.startswith(("|", "#"))
        lines += [line] if short else _broken(line)
    return "\n".join(lines)


def _broken(line: str) -> list[str]:
    indent = "  " if line.startswith("- ") else ""
    return textwrap.wrap(
        line, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def doc(thing: object) -> str:
    """A docstring, with code as Markdown has it."""
    return (inspect.getdoc(thing) or "").replace("``", "`")
