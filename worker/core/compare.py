"""Is a restored database the one that was backed up? (fingerprint, fingerprint, how it was restored) → comparison.

What differs is a difference, or an expected change with the reason why it says nothing against the backup
(worker/core/expected.py). Nothing is left out in silence.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from itertools import chain

from worker.core.backup import Value
from worker.core.expected import (
    WHOLE,
    Change,
    Restored,
    reason_for_missing_table,
    reason_for_object,
    reason_for_rows,
)
from worker.core.fingerprint import Fingerprint, Method, Position, SequenceFingerprint, TableFingerprint

_ABSENT = "absent"
#: Kinds with options, whose values may be secrets.
_OPTIONS = re.compile(r"(?P<head>(?:.*? )?)options (?P<list>.*)", re.DOTALL)
_WITH_OPTIONS = frozenset(("foreign server", "foreign data wrapper", "foreign table"))
_NAME = re.compile(r"(?:^|, )([^\s=,]+)=")
_STANDBY = "The source is a standby, which cannot read what is unlogged; so the dump has nothing of it."


class Difference(Value):
    """`kind`: table, rows, content, generated columns, sequence value, large object, or that of a schema object.

    `reason`: why it was to be expected; empty for what was not.
    """

    kind: str
    what: str
    expected: str
    found: str
    reason: str = ""


class Compared(Value):
    """How much was compared: a match of nothing with nothing proves nothing."""

    tables: int = 0
    rows: int = 0
    checksums: int = 0
    sequences: int = 0
    large_objects: int = 0
    objects: int = 0


class Comparison(Value):
    """`incomparable`: why the two cannot be judged at all; then nothing was compared."""

    differences: tuple[Difference, ...] = ()
    expected_changes: tuple[Difference, ...] = ()
    incomparable: tuple[str, ...] = ()
    compared: Compared = Compared()

    @property
    def matches(self) -> bool:
        return not self.differences and not self.incomparable


def compare(expected: Fingerprint, found: Fingerprint, restored: Restored = WHOLE) -> Comparison:
    """`expected` was taken at the backup, `found` on the restored copy. Where one has counts only, only the
    counts are compared (`compared.checksums` is 0 then).
    """
    incomparable = tuple(_incomparable(expected, found))
    if incomparable:
        return Comparison(incomparable=incomparable)
    found_all = tuple(
        chain(
            _tables(expected, found, restored),
            _sequences(expected, found, restored),
            _large_objects(expected, found),
            _objects(expected, found, restored),
        )
    )
    return Comparison(
        differences=tuple(difference for difference in found_all if not difference.reason),
        expected_changes=tuple(difference for difference in found_all if difference.reason),
        compared=_compared(expected, found),
    )


def compare_table(expected: TableFingerprint, found: TableFingerprint) -> tuple[Difference, ...]:
    """What differs in the rows of one table."""
    name, reason = expected.full_name, reason_for_rows(expected)
    found_all = []
    if expected.rows != found.rows:
        found_all.append(("rows", str(expected.rows), str(found.rows)))
    if expected.checksum and found.checksum:
        before, after = (expected.checksum, expected.columns), (found.checksum, found.columns)
        if before != after:
            found_all.append(("content", _content(*before), _content(*after)))
        before, after = (
            (expected.generated, expected.generated_columns),
            (found.generated, found.generated_columns),
        )
        if before != after:
            found_all.append(("generated columns", _content(*before), _content(*after)))
    return tuple(
        Difference(kind=kind, what=name, expected=there, found=here, reason=reason)
        for kind, there, here in found_all
    )


def _content(checksum: str, columns: Mapping[str, Method]) -> str:
    # Equal sums over other columns would be chance, so the columns are told too.
    return f"checksum {checksum} over {', '.join(columns) or 'no columns'}" if checksum else _ABSENT


def _incomparable(expected: Fingerprint, found: Fingerprint) -> Iterator[str]:
    for what, before, after in (
        ("algorithm", expected.algorithm, found.algorithm),
        ("pinned settings", expected.settings, found.settings),
        ("server's hash functions (another byte order?)", expected.probe, found.probe),
        ("encoding of the database", expected.encoding, found.encoding),
    ):
        if before != after:
            yield f"The fingerprints differ in the {what}: {before} at the backup, {after} in the copy."


def _tables(expected: Fingerprint, found: Fingerprint, restored: Restored) -> Iterator[Difference]:
    before = {(table.schema_name, table.name): table for table in expected.tables}
    after = {(table.schema_name, table.name): table for table in found.tables}
    unread = {note.what for note in expected.notes if "unlogged" in note.why}
    for key, table in before.items():
        if key in after:
            yield from compare_table(table, after[key])
        else:
            yield Difference(
                kind=table.kind,
                what=table.full_name,
                expected=f"{table.rows} rows",
                found=_ABSENT,
                reason=reason_for_missing_table(table, restored) or reason_for_rows(table),
            )
    for key in after.keys() - before.keys():
        table = after[key]
        yield Difference(
            kind=table.kind,
            what=table.full_name,
            expected=_ABSENT,
            found=f"{table.rows} rows",
            reason=_STANDBY
            if not table.rows and f"rows of {table.full_name}" in unread
            else reason_for_rows(table),
        )


def _sequences(expected: Fingerprint, found: Fingerprint, restored: Restored) -> Iterator[Difference]:
    before = {(sequence.schema_name, sequence.name): sequence for sequence in expected.sequences}
    after = {(sequence.schema_name, sequence.name): sequence.before for sequence in found.sequences}
    for key, sequence in before.items():
        position = after.get(key)
        if position is None:
            reason = "This restore was asked for some tables only." if restored.tables is not None else ""
        elif position == sequence.before:
            continue
        else:
            reason = _reason_for_position(sequence, position)
        there = _position(sequence.before)
        if sequence.after != sequence.before:
            there += f" to {_position(sequence.after)}"
        here = _ABSENT if position is None else _position(position)
        yield Difference(
            kind="sequence value", what=sequence.full_name, expected=there, found=here, reason=reason
        )
    for key in after.keys() - before.keys():
        yield Difference(
            kind="sequence value",
            what=".".join(key),
            expected=_ABSENT,
            found=_position(after[key]),
            reason=_STANDBY if not after[key].is_called and _unlogged(expected, ".".join(key)) else "",
        )


def _unlogged(expected: Fingerprint, name: str) -> bool:
    """Whether the source had this sequence, unlogged: only a standby defines one and does not read it."""
    known = expected.objects.get("sequence", {})
    return any(
        identity.replace('"', "") == name and f"{definition} ".startswith("unlogged ")
        for identity, definition in known.items()
    )


def _reason_for_position(sequence: SequenceFingerprint, found: Position) -> str:
    """A dump reads a sequence at some instant between the two readings: no snapshot holds it still."""
    low, high = sequence.before, sequence.after
    if low == high:
        return ""
    if not sequence.ascending:
        low, high, found = (
            position._replace(last_value=-position.last_value) for position in (low, high, found)
        )
    if low <= found <= high:
        return "The sequence moved on while the backup was taken; the dump has a value from that time."
    if high < low:
        return "The sequence wrapped or was set back while the backup was taken, so any value may be in the dump."
    return ""


def _position(position: Position) -> str:
    return f"{position.last_value}" + ("" if position.is_called else " (not called)")


def _large_objects(expected: Fingerprint, found: Fingerprint) -> Iterator[Difference]:
    before, after = expected.large_objects, found.large_objects
    if before.count != after.count:
        yield Difference(
            kind="large object", what="large objects", expected=str(before.count), found=str(after.count)
        )
    if not (before.checksum and after.checksum) or before.checksum == after.checksum:
        return
    if not before.by_oid or not after.by_oid:
        yield Difference(
            kind="large object",
            what="large objects",
            expected=f"checksum {before.checksum}",
            found=f"checksum {after.checksum}",
        )
        return
    for oid in sorted(before.by_oid.keys() | after.by_oid.keys(), key=int):
        there, here = before.by_oid.get(oid), after.by_oid.get(oid)
        if there != here:
            yield Difference(
                kind="large object",
                what=oid,
                expected=_ABSENT if there is None else f"checksum {there}",
                found=_ABSENT if here is None else f"checksum {here}",
            )


def _objects(expected: Fingerprint, found: Fingerprint, restored: Restored) -> Iterator[Difference]:
    for kind in sorted(expected.objects.keys() | found.objects.keys()):
        before, after = expected.objects.get(kind, {}), found.objects.get(kind, {})
        for identity in sorted(before.keys() | after.keys()):
            there, here = before.get(identity), after.get(identity)
            if there == here:
                continue
            change = Change(kind, identity, there, here, (expected.major, found.major))
            yield Difference(
                kind=kind,
                what=identity,
                expected=_ABSENT if there is None else _shown(kind, identity, there) or "present",
                found=_ABSENT if here is None else _shown(kind, identity, here) or "present",
                reason=reason_for_object(change, restored),
            )


def _shown(kind: str, identity: str, definition: str) -> str:
    """Without the values of settings and options: they may be secrets, and this goes into reports."""
    if kind == "database" and identity.startswith("settings"):
        return _digests(definition)
    match = _OPTIONS.fullmatch(definition) if kind in _WITH_OPTIONS else None
    return f"{match['head']}options {_digests(match['list'])}" if match else definition


def _digests(listed: str) -> str:
    """``a=1, b=2`` as each name with a short SHA-256 of its value."""
    starts = list(_NAME.finditer(listed))
    ends = [match.start() for match in starts[1:]] + [len(listed)]
    values = [listed[match.end() : end] for match, end in zip(starts, ends, strict=True)]
    return ", ".join(
        f"{match[1]} (sha256 {hashlib.sha256(value.encode()).hexdigest()[:8]})"
        for match, value in zip(starts, values, strict=True)
    )


def _compared(expected: Fingerprint, found: Fingerprint) -> Compared:
    after = {(table.schema_name, table.name): table for table in found.tables}
    both = [
        (table, after[key]) for table in expected.tables if (key := (table.schema_name, table.name)) in after
    ]
    return Compared(
        tables=len(both),
        rows=sum(table.rows for table, _ in both),
        checksums=sum(bool(before.checksum and after.checksum) for before, after in both),
        sequences=len(expected.sequences),
        large_objects=expected.large_objects.count,
        objects=sum(len(objects) for objects in expected.objects.values()),
    )
