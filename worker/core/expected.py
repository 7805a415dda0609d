"""Which changes between a database and its restored copy say nothing against the backup, and why.

One function a rule; each gives the reason, or "" when it does not apply. The first reason counts. A rule names
the majors, kinds and values it is about, so that it cannot excuse anything else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from worker.core.backup import Value
from worker.core.fingerprint import TableFingerprint

#: Definitions that the server prints from a parsed form, and so in its own major's way.
_DEPARSED = frozenset(
    (
        "view",
        "materialized view",
        "rule",
        "column",
        "check constraint",
        "exclusion constraint",
        "index",
        "trigger",
        "policy",
        "statistics",
        "domain",
        "table",
        "partitioned table",
        "publication member",
        "function",
        "procedure",
    )
)
#: Properties of a database that decide what its values mean and how they sort.
_LOCALE = frozenset(("encoding", "collate", "ctype", "locale provider", "locale"))
_ON_ONLY = re.compile(r"""CREATE (UNIQUE )?INDEX ("(?:[^"]|"")*"|\S+) ON ONLY """)
_BODY_IN_SQL = re.compile(r" as (BEGIN ATOMIC|RETURN)\b")
_TOKEN = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | [\w$]+ | [^\s\w]""",
    re.VERBOSE,
)


class Restored(Value):
    """What the restore carried over. `database`: owner, grants, settings and comment of the database itself (its
    locale must match in any case). `tables`: (schema, name) of those it was asked for; None for all of it.
    """

    owners: bool = True
    grants: bool = True
    tablespaces: bool = True
    database: bool = True
    tables: frozenset[tuple[str, str]] | None = None


WHOLE = Restored()


class Change(NamedTuple):
    """A schema object that is not as it was. None: it is absent. Majors of the source and of the copy's server."""

    kind: str
    identity: str
    expected: str | None
    found: str | None
    majors: tuple[int, int]

    def crosses(self, major: int) -> bool:
        """Whether the copy is on `major` or later and the source was on an earlier one."""
        return self.majors[0] < major <= self.majors[1]


def reason_for_object(change: Change, restored: Restored) -> str:
    asked = _left_out(change, restored)
    return asked or next((reason for rule in _RULES if (reason := rule(change))), "")


def reason_for_rows(expected: TableFingerprint) -> str:
    if expected.kind == "materialized view":
        return (
            "A backup holds no rows of materialised views: the restore computed them from the restored tables, "
            "while the source had last refreshed them at some earlier time."
        )
    return ""


def reason_for_missing_table(expected: TableFingerprint, restored: Restored) -> str:
    if restored.tables is not None and (expected.schema_name, expected.name) not in restored.tables:
        return "This restore was asked for other tables only."
    return ""


def _left_out(change: Change, restored: Restored) -> str:
    if restored.tables is not None and change.found is None:
        return "This restore was asked for some tables only."
    if change.kind == "owner" and not restored.owners:
        return "Owners were not restored (--no-owner)."
    if change.kind in ("grant", "default privileges") and not restored.grants:
        return "Grants were not restored (--no-acl)."
    if change.kind == "tablespace" and change.found is None and not restored.tablespaces:
        return "Tablespaces were not restored (--no-tablespaces)."
    if change.kind == "database" and not restored.database and change.identity not in _LOCALE:
        return "It was restored into a database of another name; what belongs to the old one stays in the globals."
    return ""


def _newer_extension(change: Change) -> str:
    if change.kind != "extension":
        return ""
    if change.expected is None:
        if change.identity == "plpgsql":
            return "Every new database has plpgsql, and a dump does not say that it was dropped."
        return ""
    before, _, schema = change.expected.partition(" ")
    after, _, new_schema = (change.found or "").partition(" ")
    if schema == new_schema and _version(after) > _version(before):
        return f"CREATE EXTENSION installs the version that the server brings: {after}, newer than {before}."
    return ""


def _invalid_index(change: Change) -> str:
    """But for that of a partitioned table alone (ON ONLY), which is invalid until its partitions have it too."""
    expected = change.expected or ""
    dumped = _ON_ONLY.match(expected) is not None
    if change.kind == "index" and change.found is None and expected.endswith(" (invalid)") and not dumped:
        return "pg_dump leaves out an index that is invalid (CREATE INDEX CONCURRENTLY that failed)."
    return ""


def _named_not_null(change: Change) -> str:
    """PostgreSQL 17 (domains) and 18 (tables) release notes: NOT NULL became a named constraint."""
    if change.kind != "not null constraint" or change.expected is not None:
        return ""
    since = 17 if " on domain " in change.identity else 18
    if change.crosses(since):
        return (
            f"Since PostgreSQL {since} NOT NULL is a constraint with a name; that it holds is compared apart."
        )
    return ""


def _maintain(change: Change) -> str:
    """PostgreSQL 17 added the privilege MAINTAIN on tables: `all` became one more."""
    if change.kind not in ("grant", "default privileges") or not change.crosses(17):
        return ""
    before, after = _privileges(change.expected), _privileges(change.found)
    if before and after and before == after:
        return "PostgreSQL 17 added the privilege MAINTAIN; all others are the same."
    return ""


def _language_tag(change: Change) -> str:
    """PostgreSQL 16 release notes: ICU locales are kept as language tags."""
    if change.kind != "collation" or not change.crosses(16):
        return ""
    texts = (change.expected or "", change.found or "")
    if all(text.startswith("provider i ") for text in texts):
        before, after = (re.sub(r"(?<= locale )\S+", "…", text) for text in texts)
        if before == after:
            return "Since PostgreSQL 16 the locale of an ICU collation is kept as a language tag."
    return ""


def _printed_otherwise(change: Change) -> str:
    """PostgreSQL 16, for one, no longer qualifies the columns of a view of a single table."""
    source, target = change.majors
    if change.expected is None or change.found is None or source == target or change.kind not in _DEPARSED:
        return ""
    if change.kind in ("function", "procedure") and not (
        _BODY_IN_SQL.search(change.expected) and _BODY_IN_SQL.search(change.found)
    ):
        return ""
    if _loosely(change.expected) == _loosely(change.found):
        return (
            f"PostgreSQL {source} and {target} print it differently: "
            "the same but for qualifiers, parentheses and line breaks."
        )
    return ""


_RULES: tuple[Callable[[Change], str], ...] = (
    _newer_extension,
    _invalid_index,
    _named_not_null,
    _maintain,
    _language_tag,
    _printed_otherwise,
)


def _version(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[.-]", text)]


def _privileges(text: str | None) -> frozenset[str]:
    """Privileges on a table, without MAINTAIN."""
    if text is None:
        return frozenset()
    star = "*" if text.endswith("*") else ""
    if text.rstrip("*") == "all":
        text = ", ".join(
            name + star
            for name in ["delete", "insert", "references", "select", "trigger", "truncate", "update"]
        )
    return frozenset(text.split(", ")) - {"maintain", "maintain*"}


def _loosely(definition: str) -> list[str]:
    """Its tokens without parentheses, and each name without what qualifies it."""
    kept: list[str] = []
    for part in _TOKEN.findall(definition):
        if part in ("(", ")"):
            continue
        if len(kept) > 1 and kept[-1] == "." and part[0] not in "'0123456789":
            del kept[-2:]
        kept.append(part)
    return kept
