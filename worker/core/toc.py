"""An archive's table of contents, as `pg_restore --list --verbose` prints it, and what a selection takes of it.

Each line is ``ID; CATALOG OID DESCRIPTION SCHEMA NAME OWNER``, unquoted; verbose adds ``; depends on: ID ID``. Names
with spaces are told apart by the kinds and schemas that are known; where that fails, a selection finds nothing and
is refused, so nothing wrong is restored.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from worker.core.statements import identifier, quoted
from worker.core.versions import Version

#: Kinds of more than one word; the others are one word in capitals.
_LONG = (
    "ACCESS METHOD", "BLOB COMMENTS", "BLOB METADATA", "CHECK CONSTRAINT", "DATABASE PROPERTIES", "DEFAULT ACL",
    "EVENT TRIGGER", "FK CONSTRAINT", "FOREIGN DATA WRAPPER", "FOREIGN SERVER", "FOREIGN TABLE", "INDEX ATTACH",
    "LARGE OBJECT", "MATERIALIZED VIEW DATA", "MATERIALIZED VIEW", "OPERATOR CLASS", "OPERATOR FAMILY",
    "PROCEDURAL LANGUAGE", "PUBLICATION TABLES IN SCHEMA", "PUBLICATION TABLE", "ROW SECURITY", "SECURITY LABEL",
    "SEQUENCE OWNED BY", "SEQUENCE SET", "SHELL TYPE", "STATISTICS DATA", "SUBSCRIPTION TABLE", "TABLE ATTACH",
    "TABLE DATA", "TEXT SEARCH CONFIGURATION", "TEXT SEARCH DICTIONARY", "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE", "USER MAPPING",
)  # fmt: skip
RELATIONS = frozenset({"TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE"})
#: What the database itself has; restored by `pg_restore --create` only.
OF_DATABASE = frozenset({"DATABASE", "DATABASE PROPERTIES"})
_PREAMBLE = frozenset({"ENCODING", "STDSTRINGS", "SEARCHPATH"})
#: What belongs to a relation and goes where it goes.
_ATTACHED = frozenset({
    "TABLE DATA", "MATERIALIZED VIEW DATA", "STATISTICS DATA", "SEQUENCE SET", "SEQUENCE OWNED BY", "SEQUENCE",
    "DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "INDEX", "INDEX ATTACH", "TABLE ATTACH", "TRIGGER",
    "RULE", "POLICY", "ROW SECURITY", "COMMENT", "ACL", "SECURITY LABEL", "STATISTICS",
})  # fmt: skip
#: Of those, what may refer to further relations, and cannot be without them.
_BETWEEN = frozenset({"FK CONSTRAINT", "INDEX ATTACH", "TABLE ATTACH", "TRIGGER", "RULE", "POLICY"})
#: Of what depends on an excluded table, what somebody might miss.
_MISSED = RELATIONS - {"SEQUENCE"} | {"FK CONSTRAINT", "FUNCTION", "PROCEDURE", "PUBLICATION TABLE", "RULE"}
_PARTNERS = RELATIONS | {"CONSTRAINT", "INDEX"}
_ENTRY = re.compile(r"(?P<id>\d+); \d+ \d+ (?P<rest>.*)")
_DEPENDS = re.compile(r";\s+depends on:((?: \d+)+)")
_FACT = re.compile(r";\s+(?P<name>[A-Za-z][A-Za-z _]*?): ?(?P<value>.*)")
_NAME_PART = re.compile(r'"(?:[^"]|"")+"|[^."]+')
_NAME = re.compile(rf"(?:{_NAME_PART.pattern})(?:\.(?:{_NAME_PART.pattern}))?")
_VERSION = re.compile(r"(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Entry:
    """`text`: name and owner as printed; `owner` is its last word, and so may be a part of the real one."""

    id: int
    kind: str
    schema: str
    text: str
    depends: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.text.rpartition(" ")[0]

    @property
    def owner(self) -> str:
        return self.text.rpartition(" ")[2]

    @property
    def full_name(self) -> str:
        return f"{self.schema}.{self.name}" if self.schema else self.name

    @property
    def of_database(self) -> bool:
        """It is about the database as a whole, its comment and grants included."""
        about = self.kind in ("COMMENT", "ACL", "SECURITY LABEL") and not self.schema
        return self.kind in OF_DATABASE or (about and self.text.startswith("DATABASE "))


@dataclass(frozen=True)
class Toc:
    """server: the source's version. client: that of the pg_dump that wrote the archive.

    compression: ``gzip``, ``zstd``, ``lz4`` or ``none``; a pg_dump before 16 says its level instead.
    """

    dbname: str
    server: Version
    client: Version
    entries: tuple[Entry, ...]
    compression: str = "none"

    @cached_property
    def by_id(self) -> dict[int, Entry]:
        return {entry.id: entry for entry in self.entries}

    @cached_property
    def schemas(self) -> frozenset[str]:
        named = {entry.name for entry in self.entries if entry.kind == "SCHEMA"}
        return frozenset(named | {entry.schema for entry in self.entries if entry.schema})

    def of(self, *kinds: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind in kinds]

    def without_rows(self) -> list[Entry]:
        """Tables that the archive has no rows of, not even none: pg_dump was told so, or put them into another one.

        A partitioned table has its rows in its partitions.
        """
        with_rows = {(entry.schema, entry.text) for entry in self.of("TABLE DATA")}
        partitioned = {
            number
            for entry in self.of("TABLE ATTACH")
            for number in entry.depends
            if number in self.by_id and self.by_id[number].text != entry.text
        }
        return [
            entry
            for entry in self.of("TABLE")
            if (entry.schema, entry.text) not in with_rows and entry.id not in partitioned
        ]


@dataclass(frozen=True, slots=True)
class Selection:
    """ids: in the archive's order. left_out: what cannot be without something that was not selected.

    unknown: names that match nothing; then the rest means nothing. data: whose rows are wanted, as
    (schema, `Entry.text`).
    """

    ids: tuple[int, ...]
    data: frozenset[tuple[str, str]]
    left_out: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def tables(self, known: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Which of the `known` (schema, name) `data` means.

        ``img old owner`` is the table "img old", and "img" of the role "old owner" only where there is no "img old".
        """
        known = frozenset(known)
        meant = (
            next((name for name in reversed(_names(text)) if (schema, name) in known), None)
            for schema, text in self.data
        )
        return {
            (schema, name) for (schema, _), name in zip(self.data, meant, strict=True) if name is not None
        }


def parse(text: str) -> Toc:
    """Raises ValueError for what is no listing."""
    facts: dict[str, str] = {}
    lines: list[tuple[int, str, tuple[int, ...]]] = []
    for line in text.splitlines():
        if match := _ENTRY.fullmatch(line):
            lines.append((int(match["id"]), match["rest"], ()))
        elif lines and (match := _DEPENDS.fullmatch(line)):
            number, rest, _ = lines[-1]
            lines[-1] = (number, rest, tuple(dict.fromkeys(map(int, match[1].split()))))
        elif not lines and (match := _FACT.fullmatch(line)):
            facts[match["name"]] = match["value"]
    if "TOC Entries" not in facts:
        raise ValueError("no table of contents")
    schemas = sorted(_schemas(rest for _, rest, _ in lines), key=len, reverse=True)
    entries = (_entry(number, rest, depends, schemas) for number, rest, depends in lines)
    return Toc(
        facts.get("dbname", ""),
        _version(facts.get("Dumped from database version", "")),
        _version(facts.get("Dumped by pg_dump version", "")),
        tuple(entries),
        facts.get("Compression", "none"),
    )


def _version(text: str) -> Version:
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)


def _schemas(rests: Iterable[str]) -> set[str]:
    return {
        rest.removeprefix("SCHEMA - ").rpartition(" ")[0] for rest in rests if rest.startswith("SCHEMA - ")
    }


def _entry(number: int, rest: str, depends: tuple[int, ...], schemas: list[str]) -> Entry:
    kind = next((kind for kind in _LONG if rest.startswith(f"{kind} ")), rest.partition(" ")[0])
    rest = rest[len(kind) + 1 :]
    schema = next((one for one in schemas if rest.startswith(f"{one} ")), rest.partition(" ")[0])
    return Entry(number, kind, "" if schema == "-" else schema, rest[len(schema) + 1 :], depends)


def split_name(pattern: str) -> tuple[str, ...]:
    """(name,) or (schema, name) of ``table``, ``schema.table`` or either in double quotes; () for what is neither.

    No case folding.
    """
    if not _NAME.fullmatch(pattern):
        return ()
    return tuple(map(identifier, _NAME_PART.findall(pattern)))


def written(*parts: str) -> str:
    """What `split_name` takes apart into `parts`."""
    return ".".join(
        part if _NAME_PART.fullmatch(part) and '"' not in part else quoted(part) for part in parts
    )


def select(
    toc: Toc,
    *,
    tables: Collection[str] = (),
    schemas: Collection[str] = (),
    exclude_tables: Collection[str] = (),
) -> Selection:
    """The entries to restore: what is named, what belongs to it, and what it cannot be without.

    A partitioned table brings its partitions. What is only needed by something comes without its rows.
    """
    unknown = [name for name in (*tables, *exclude_tables) if not _named(toc, name)]
    unknown += [name for name in schemas if not _schemas_named([name]) <= toc.schemas]
    if unknown:
        return Selection((), frozenset(), unknown=tuple(unknown))
    excluded = {entry.id for name in exclude_tables for entry in _named(toc, name)}
    if tables or schemas:
        roots = {entry.id for name in tables for entry in _named(toc, name)}
        inside = _schemas_named(schemas)
        roots |= {entry.id for entry in toc.entries if _of_schema(entry, inside)}
        kept, chosen, left_out = _grow(toc, roots - excluded)
    else:
        kept, left_out = {entry.id for entry in toc.entries}, set[int]()
        chosen = {entry.id for entry in toc.of(*RELATIONS)}
    excluded_whole = _with_partitions(toc, excluded)
    gone = _dependents(toc, excluded_whole)
    left_out |= {number for number in gone & kept if _stands_alone(toc.by_id[number], excluded_whole)}
    kept -= gone
    ids = tuple(entry.id for entry in toc.entries if entry.id in kept or entry.kind in _PREAMBLE)
    data = frozenset((toc.by_id[one].schema, toc.by_id[one].text) for one in chosen - gone)
    return Selection(ids, data, tuple(sorted({_describe(toc.by_id[number]) for number in left_out})))


def _named(toc: Toc, pattern: str) -> list[Entry]:
    *schema, name = split_name(pattern) or ("",)
    inside = [entry for entry in toc.of(*RELATIONS) if not schema or schema == [entry.schema]]
    exactly = [entry for entry in inside if entry.name == name]
    return exactly or [entry for entry in inside if name in _names(entry.text)]


def _schemas_named(patterns: Collection[str]) -> set[str]:
    """What is no name of a schema is itself, dots and quotes included: unknown."""
    return {parts[0] if len(parts := split_name(one)) == 1 else one for one in patterns}


def _names(text: str) -> list[str]:
    """What the name in ``name owner`` may be, either of which may have spaces."""
    words = text.split(" ")
    return [" ".join(words[:count]) for count in range(1, len(words))]


def _of_schema(entry: Entry, schemas: Collection[str]) -> bool:
    return entry.schema in schemas or (entry.kind == "SCHEMA" and entry.name in schemas)


def _grow(toc: Toc, roots: set[int]) -> tuple[set[int], set[int], set[int]]:
    """(kept, chosen relations, left out): `roots`, what belongs to them, and what those need."""
    chosen = _with_partitions(toc, {number for number in roots if toc.by_id[number].kind in RELATIONS})
    kept, left_out = roots | chosen, set[int]()
    while True:
        kept |= _needs(toc, kept)
        more, left_out = _belongings(toc, kept, chosen)
        if more <= kept:
            return kept, chosen, left_out - kept
        kept |= more
        chosen |= {number for number in more if toc.by_id[number].kind == "SEQUENCE"}


def _with_partitions(toc: Toc, tables: set[int]) -> set[int]:
    attached = [(entry, set(entry.depends)) for entry in toc.of("TABLE ATTACH")]
    found = set(tables)
    while True:
        more = {
            child
            for entry, ends in attached
            if ends & found
            for child in ends - found
            if toc.by_id[child].name == entry.name  # the line is named for the partition
        }
        if not more:
            return found
        found |= more


def _needs(toc: Toc, kept: set[int]) -> set[int]:
    """What the kept entries depend on, directly or not; what may lack its partner is asked in `_belongings`."""
    needed: set[int] = set()
    waiting = list(kept)
    while waiting:
        for number in toc.by_id[waiting.pop()].depends:
            if number in toc.by_id and number not in needed:
                needed.add(number)
                waiting.append(number)
    return needed


def _belongings(toc: Toc, kept: set[int], chosen: set[int]) -> tuple[set[int], set[int]]:
    """(what goes with the chosen relations, what would if its other relations were chosen too)."""
    more, left_out = set[int](), set[int]()
    for entry in toc.entries:
        if entry.kind not in _ATTACHED or entry.of_database:
            continue
        anchors = {number for number in entry.depends if number in toc.by_id}
        if entry.kind in ("COMMENT", "ACL", "SECURITY LABEL"):
            if anchors & kept:
                more.add(entry.id)
        elif anchors & chosen:
            others = {number for number in anchors - kept if toc.by_id[number].kind in _PARTNERS}
            (left_out if others and entry.kind in _BETWEEN else more).add(entry.id)
    return more, left_out


def _dependents(toc: Toc, roots: set[int]) -> set[int]:
    """`roots`, and all that depends on them, directly or not."""
    gone = set(roots)
    while True:
        more = {entry.id for entry in toc.entries if gone.intersection(entry.depends)} - gone
        if not more:
            return gone
        gone |= more


def _stands_alone(entry: Entry, excluded: set[int]) -> bool:
    """Somebody might miss it: it is more than a part of what was excluded."""
    return entry.id not in excluded and entry.kind in _MISSED


def _describe(entry: Entry) -> str:
    return f"{entry.kind.lower()} {entry.full_name}"
