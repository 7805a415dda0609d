"""What `exclude_schemas` and `exclude_tables` mean in a database, found out as pg_dump does it.

A pattern's rules are those of psql's \\d commands (manual, psql, "Patterns"): letters outside of double quotes
are folded to lower case, ``*`` and ``?`` match any characters, a dot ends the schema's name, and the rest is a
regular expression. pg_dump ignores a pattern for exclusion that matches nothing; here that is an error.
"""

from __future__ import annotations

from typing import NamedTuple

import psycopg

from worker.config.model import Database
from worker.core.fingerprint import NOTHING, Excluded
from worker.errors import ConfigError
from worker.postgres.queries import query
from worker.postgres.server import Connection

_SPECIAL = frozenset("|*+?()[]{}.^\\")
_WILD = {"*": ".*", "?": "."}


class Pattern(NamedTuple):
    """Regular expressions. `schema` is None where the text names none."""

    schema: str | None
    name: str


def resolve_excluded(connection: Connection, database: Database) -> list[int]:
    """The oids of all relations that are left out of the backup; the session's search_path is empty afterwards.

    Raises ConfigError for a pattern that matches nothing: it is misspelt most likely, and what it should have
    kept out would be in the backup.
    """
    # A name without a schema means what the role's own search_path shows.
    connection.execute("SET search_path = DEFAULT")
    schemas: list[int] = []
    for text in database.exclude_schemas:
        schemas += _matches(connection, database, "exclude_schemas", "schema", text)
    tables: list[int] = []
    for text in database.exclude_tables:
        tables += _matches(connection, database, "exclude_tables", "table", text)
    connection.execute("SET search_path = ''")
    inside = connection.execute(query("relations_of_schemas"), {"oids": schemas})
    return tables + [oid for (oid,) in inside]


def excluded_names(connection: Connection, database: Database) -> Excluded:
    """The same as names, for a fingerprint; it must leave out what the dump does. Raises ConfigError."""
    oids = resolve_excluded(connection, database)
    if not oids and not database.exclude_schemas:
        return NOTHING
    schemas = [
        oid
        for text in database.exclude_schemas
        for oid in _matches(connection, database, "exclude_schemas", "schema", text)
    ]
    names = connection.execute(query("schema_names"), {"oids": schemas}).fetchall()
    tables = connection.execute(query("relation_names"), {"oids": oids}).fetchall()
    return Excluded(frozenset(name for (name,) in names), frozenset((row[0], row[1]) for row in tables))


def parse(text: str) -> Pattern:
    """Raises ValueError for more than a schema and a name."""
    parts = [f"^({part})$" for part in _split(text)]
    if len(parts) > 2:
        raise ValueError("it has too many dots")
    return Pattern(parts[0] if len(parts) == 2 else None, parts[-1])


def exactly(schema: str, name: str) -> str:
    """The pattern for one table: ``"schema"."name"``."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, name))


def _split(text: str) -> list[str]:
    parts, inside, position = [""], False, 0
    while position < len(text):
        character, following = text[position], text[position + 1 : position + 2]
        if character == '"' == following and inside:
            parts[-1] += '"'
            position += 1
        elif character == '"':
            inside = not inside
        elif character == "." and not inside:
            parts.append("")
        else:
            parts[-1] += _translate(character, following, inside)
        position += 1
    return parts


def _translate(character: str, following: str, inside: bool) -> str:
    """One character of a name as a regular expression; `inside` double quotes it means itself."""
    literal = character == "$" or (
        character == "[" and following == "]"
    )  # "[]" ends the names of array types
    if literal or (inside and character in _SPECIAL):
        return "\\" + character
    if inside:
        return character
    return _WILD.get(character) or (character.lower() if character.isascii() else character)


def _matches(connection: Connection, database: Database, setting: str, what: str, text: str) -> list[int]:
    where = f"{setting} of {database.alias}: {text!r}"
    try:
        pattern = parse(text)
        if what == "schema" and pattern.schema is not None:
            raise ValueError("it has too many dots")
        found = connection.execute(query(setting), pattern._asdict()).fetchall()
    except (ValueError, psycopg.errors.InvalidRegularExpression) as error:
        raise ConfigError(
            f"{where} is not a pattern for a {what}: {str(error).splitlines()[0]}.",
            'Write it as for pg_dump: schema.table, * and ?, "double quotes" around odd names.',
        ) from error
    if not found:
        raise ConfigError(
            f"{where} matches no {what} of database {database.name}.",
            "Correct it or take it out: what it was to keep out would be in the backup.",
        )
    return [oid for (oid,) in found]
