"""SQL text taken apart just far enough to give a database another name in it.

pg_dump's own statements about a database (`pg_restore --create`) name it; a restore under another name needs them with
that name, and nothing else in them touched: not in a literal, not in a comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?\*/)
      | (?P<string>[eE]?'(?:[^'\\]|''|\\.)*')
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<word>[\w$]+)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = re.compile(r"'(?:[^']|'')*'")
#: What a statement about a database begins with.
_ABOUT = (
    "CREATE DATABASE",
    "ALTER DATABASE",
    "ALTER ROLE",
    "COMMENT ON DATABASE",
    "GRANT",
    "REVOKE",
    "SECURITY LABEL",
)

Tokens = tuple[str, ...]


def statements(script: str) -> Iterator[Tokens]:
    """Each statement's tokens, without the white space, comments and psql commands between. standard_conforming_strings
    is on, as in every dump since 9.1.
    """
    current: list[str] = []
    for piece, kind in _tokens(script):
        if piece == ";":
            if current:
                yield tuple(current)
            current = []
        elif kind != "space":
            current.append(piece)


def _tokens(script: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(script):
        if script[position] == "\\" and (position == 0 or script[position - 1] == "\n"):
            end = script.find("\n", position)  # a psql command
            position = len(script) if end < 0 else end
            continue
        plain = _PLAIN.match(script, position)
        match = _TOKEN.match(script, position)
        assert match is not None  # `other` takes anything
        text = plain[0] if plain else match[0]
        yield text, "string" if plain else str(match.lastgroup)
        position += len(text)


def identifier(token: str) -> str:
    """The name that a token stands for, without its quotes."""
    return token[1:-1].replace('""', '"') if token.startswith('"') else token


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def renamed(script: str, old: str, new: str) -> list[str]:
    """The statements of `script` that are about the database `old`, with the name `new` in its place."""
    found = []
    for tokens in statements(script):
        place = _place(tokens)
        if place and identifier(tokens[place]) == old:
            found.append(_joined((*tokens[:place], quoted(new), *tokens[place + 1 :])))
    return found


def _place(tokens: Tokens) -> int:
    """Where the database's name is; 0 when the statement is about none."""
    upper = [token.upper() for token in tokens]
    text = " ".join(upper[:3])
    if not text.startswith(_ABOUT) or "DATABASE" not in upper:
        return 0
    place = upper.index("DATABASE") + 1
    return place if place < len(tokens) else 0


def grantees(script: str) -> set[str]:
    """The roles that the GRANT and REVOKE statements of `script` name, PUBLIC aside."""
    found: set[str] = set()
    for tokens in statements(script):
        upper = [token.upper() for token in tokens]
        if upper[0] not in ("GRANT", "REVOKE", "ALTER"):
            continue
        word = "TO" if "TO" in upper else "FROM"
        if word in upper and {"GRANT", "REVOKE"} & set(upper):
            name = tokens[len(upper) - upper[::-1].index(word)]
            if name.upper() != "PUBLIC":
                found.add(identifier(name))
    return found


def tablespaces(script: str) -> set[str]:
    """Where a script of pg_dump's wants to put something, other than in the default tablespace."""
    found: set[str] = set()
    for tokens in statements(script):
        if tokens[:3] == ("SET", "default_tablespace", "=") and not tokens[3].startswith("'"):
            found.add(identifier(tokens[3]))
        elif tokens[:2] == ("CREATE", "DATABASE") and "TABLESPACE" in tokens:
            found.add(identifier(tokens[tokens.index("TABLESPACE") + 2]))
    return found


class Placement(NamedTuple):
    """An entry of an archive that says in which tablespace it is."""

    id: int
    kind: str
    schema: str
    name: str
    tablespace: str


#: What pg_restore --verbose writes above each entry of its script.
_PLACED = re.compile(
    r"^-- TOC entry (?P<id>\d+) \(class .*\n(?:-- Dependencies: .*\n)?"
    r"-- Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*); Owner: .*; Tablespace: (?P<place>.+)$",
    re.MULTILINE,
)


def placements(script: str) -> list[Placement]:
    """The entries of a verbose script that are not in the default tablespace."""
    return [
        Placement(int(found["id"]), found["kind"], found["schema"], found["name"], found["place"])
        for found in _PLACED.finditer(script)
    ]


def _joined(tokens: Sequence[str]) -> str:
    """``"app" . "x"`` is as good as ``"app"."x"`` to PostgreSQL."""
    return " ".join(tokens)


def list_items(value: str) -> list[str]:
    """The names in a setting that is a list, such as search_path: ``"$user", public`` is [$user, public]."""
    return [identifier(item) for item in re.findall(r'"(?:[^"]|"")*"|[^\s,]+', value)]
