"""Is a restored database the one that was backed up? (fingerprint, fingerprint, how it was restored) → comparison.

What differs is a difference, or an expected change with the reason why it says nothing against the backup. Nothing
is left out in silence. The rules for expected changes are in worker/core/expected.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from worker.core.backup import Value
from worker.core.expected import Restored, reason_for_object, reason_for_table
from worker.core.fingerprint import Fingerprint, SequenceFingerprint, TableFingerprint

_ABSENT = "absent"


class Difference(Value):
    """`kind`: rows, content, generated columns, table, sequence, large objects, encoding, or that of a schema object.

    `reason`: why it was to be expected; empty otherwise.
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
    """`incomparable`: why the two cannot be judged at all; then nothing else was compared."""

    differences: tuple[Difference, ...] = ()
    expected_changes: tuple[Difference, ...] = ()
    incomparable: tuple[str, ...] = ()
    compared: Compared = Compared()

    @property
    def matches(self) -> bool:
        return not self.differences and not self.incomparable


def compare(expected: Fingerprint, found: Fingerprint, restored: Restored = Restored()) -> Comparison:
    """`expected` was taken at backup time, `found` on the restored copy."""
    incomparable = tuple(_incomparable(expected, found))
    if incomparable:
        return Comparison(incomparable=incomparable)
    every = tuple(
        chain(
            _tables(expected, found, restored),
            _sequences(expected, found, restored),
            _large_objects(expected, found, restored),
            _objects(expected, found, restored),
        )
    )
    return Comparison(
        differences=tuple(difference for difference in every if not difference.reason),
        expected_changes=tuple(difference for difference in every if difference.reason),
        compared=_compared(expected, found, restored),
    )


def compare_table(expected: TableFingerprint, found: TableFingerprint) -> tuple[Difference, ...]:
    """What differs in the rows of one table."""
    name = expected.full_name
    differences = []
    if expected.rows != found.rows:
        differences.append(
            Difference(kind="rows", what=name, expected=str(expected.rows), found=str(found.rows))
        )
    for kind, before, after in (
        ("content", (expected.checksum, expected.columns), (found.checksum, found.columns)),
        (
            "generated columns",
            (expected.generated, expected.generated_columns),
            (found.generated, found.generated_columns),
        ),
    ):
        if before == after or not (before[0] or after[0]):
            continue
        # equal sums over other columns are chance
        texts = [
            f"checksum {checksum or 'none'}"
            + (
                f" over {', '.join(f'{name} ({method})' for name, method in columns.items())}"
                if before[1] != after[1]
                else ""
            )
            for checksum, columns in (before, after)
        ]
        differences.append(Difference(kind=kind, what=name, expected=texts[0], found=texts[1]))
    return tuple(differences)


def _incomparable(expected: Fingerprint, found: Fingerprint) -> Iterator[str]:
    for what, before, after in (
        ("algorithm", expected.algorithm, found.algorithm),
        ("mode", expected.mode, found.mode),
        ("settings", expected.settings, found.settings),
        ("hash functions of the server (byte order?)", expected.probe, found.probe),
        ("encoding of the database", expected.encoding, found.encoding),
    ):
        if before != after:
            yield f"The two fingerprints differ in the {what}: {before} at the backup, {after} in the restored copy."


def _tables(expected: Fingerprint, found: Fingerprint, restored: Restored) -> Iterator[Difference]:
    before = {table.full_name: table for table in expected.tables}
    after = {table.full_name: table for table in found.tables}
    for name in sorted(before.keys() | after.keys()):
        there, here = before.get(name), after.get(name)
        if there is None or here is None:
            kind = (there or here or next(iter(()))).kind
            difference = Difference(
                kind=kind,
                what=name,
                expected=_ABSENT if there is None else f"{there.rows} rows",
                found=_ABSENT if here is None else f"{here.rows} rows",
            )
            yield _with_reason(difference, restored.reason_for_missing_table(name) if here is None else "")
            continue
        for difference in compare_table(there, here):
            yield _with_reason(difference, reason_for_table(there, here))
