"""Markdown tables with their columns under each other, so that they can be read in a terminal too."""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

_CELLS = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r":?-+:?")
_WIDE = ("W", "F")


def aligned(text: str) -> str:
    """`text` with every table padded, and never more than one empty line in a row."""
    lines: list[str] = []
    for is_table, group in groupby(text.split("\n"), lambda line: line.startswith("|")):
        found = list(group)
        lines += _padded(found) if is_table else found
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in lines)).strip() + "\n"


def _padded(lines: list[str]) -> list[str]:
    rows = [[cell.strip() for cell in _CELLS.split(line)[1:-1]] for line in lines]
    count = max(map(len, rows))
    rows = [row + [""] * (count - len(row)) for row in rows]
    widths = [max(_width(row[column]) for row in rows if not _is_rule(row)) for column in range(count)]
    return [
        "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        if _is_rule(row)
        else "| "
        + " | ".join(cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        + " |"
        for row in rows
    ]


def _is_rule(row: list[str]) -> bool:
    return all(_RULE.fullmatch(cell) for cell in row)


def _width(text: str) -> int:
    """Columns of a terminal."""
    return sum(2 if unicodedata.east_asian_width(letter) in _WIDE else 1 for letter in text)
