"""A row as one number: the algorithm ``pgfleet-1``, as an SQL expression over the columns of a table.

Each column gives a 64-bit number, the XOR of them is mixed once more, and that is the row's. Every column has
constants of its own (drawn from SHA-256 of its position), so values that change places, and NULLs, tell apart.

Two values that print differently must give different numbers, and a value must give the same number after a
dump and a restore, on every supported major. So a type's own hash serves only where equality is identity:

- `int`, `oid`: int2, int4, bool, oid. `int8` apart: hashint8extended folds 64 bits into 32 before hashing (1 and
  4294967296 are one to it), so the value goes in as the seed of a hash of a constant, which keeps all 64 bits.
- `text`: the bytes, by the collation C; so a non-deterministic collation hides no change of case.
- `uuid`, `bytes`. bytea has no extended hash that can be called; hash_record_extended finds it.
- `float`: but for zero and NaN, where equal values print differently.
- `output`: what the type's output function prints; everything else. Not the cast to text: it may lose what
  is printed (the blanks of char(n)). Among them: numeric (1.0 = 1.00), timestamps (their hash folds as int8's),
  enums (theirs is of the OID, which a restore changes), json, jsonb, interval, arrays ([0:1] and [1:2]), ranges,
  composites, citext, and types of extensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from worker.core.backup import Value
from worker.core.fingerprint import Method

_METHODS: dict[str, Method] = {
    "smallint": "int",
    "integer": "int",
    "boolean": "int",
    "bigint": "int8",
    "oid": "oid",
    "real": "float",
    "double precision": "float",
    "text": "text",
    "character varying": "text",
    "name": "text",
    "uuid": "uuid",
    "bytea": "bytes",
}


class Column(Value):
    """`type`: as SQL writes it, below all domains. `output`: that type's output function. Both qualified."""

    name: str
    type: str
    is_builtin: bool
    is_domain: bool
    output: str

    @property
    def method(self) -> Method:
        return _METHODS.get(self.type, "output") if self.is_builtin else "output"


def quoted(name: str) -> str:
    """An SQL identifier in double quotes, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def row_expression(columns: Sequence[Column]) -> str:
    """SQL for the number of a row, over a table with the alias t. A table with no columns has 0 for each row."""
    if not columns:
        return "0::int8"
    terms = " # ".join(_term(column, position) for position, column in enumerate(columns, start=1))
    return f"hashint4extended({len(columns)}, {terms})"


def methods(columns: Iterable[Column]) -> dict[str, Method]:
    return {column.name: column.method for column in columns}


def _term(column: Column, position: int) -> str:
    digest = hashlib.sha256(f"pgfleet-1:{position}".encode()).digest()
    seed = f"'{int.from_bytes(digest[:8], signed=True)}'::int8"
    salt = f"'{int.from_bytes(digest[8:12], signed=True)}'::int4"
    null = f"'{int.from_bytes(digest[12:20], signed=True)}'::int8"
    value = f"t.{quoted(column.name)}"
    base = f"{value}::{column.type}" if column.is_domain else value
    printed = f'hashtextextended(textin({column.output}({base})) COLLATE "C", {seed})'
    number = {
        "int": f"hashint4extended({value}::int4, {seed})",
        "int8": f"hashint4extended({salt}, {value}::int8)",
        "oid": f"hashoidextended({value}::oid, {seed})",
        "float": f"CASE WHEN {value} <> 0 AND {value} < 'NaN' THEN hashfloat8extended({value}::float8, {seed})"
        f" ELSE {printed} END",
        "text": f'hashtextextended({value}::text COLLATE "C", {seed})',
        "uuid": f"uuid_hash_extended({value}::uuid, {seed})",
        "bytes": f"hash_record_extended(ROW({value}::bytea), {seed})",
        "output": printed,
    }[column.method]
    # A record is never NULL: the hash of one that holds a NULL is 0.
    return number if column.method == "bytes" else f"coalesce({number}, {null})"
