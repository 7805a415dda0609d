"""What a database contains, as a value: taken inside the dump's snapshot, compared after a restore.

Row content is a sum of 64-bit row hashes: exact (never wrapped, never XORed), so the order of the rows plays no
part, while a row twice, a row less and two rows that swapped a value all show. How a row becomes a number is
the algorithm (`ALGORITHM`, worker/postgres/inspect_columns.py); it guards against damage and mistakes. Against
an adversary there are the SHA-256 of the artifacts and the signature of the evidence.

The fingerprint holds definitions and is stored encrypted beside its backup (``format: 1``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import Field

from worker.core.backup import Gap, Value
from worker.errors import StorageError

ALGORITHM = "pgfleet-1"

Mode = Literal["full", "counts"]
TableKind = Literal["table", "materialized view"]
#: How a column becomes a number: by a hash of its type where equality is identity, else by its printed form.
Method = Literal["int", "int8", "oid", "float", "text", "uuid", "bytes", "output"]


class Excluded(NamedTuple):
    """What a backup was told to leave out, resolved to names: whole schemas, and (schema, table) pairs."""

    schemas: frozenset[str] = frozenset()
    tables: frozenset[tuple[str, str]] = frozenset()

    def covers(self, schema: str | None, relation: str | None) -> bool:
        return schema in self.schemas or (schema or "", relation or "") in self.tables


NOTHING = Excluded()


class ChunkSum(Value):
    """Rows of a chunk and the sum of their hashes; `generated` is the same over stored generated columns.

    `by_oid`: the sum of each large object, in a chunk of those.
    """

    rows: int = 0
    checksum: int = 0
    generated: int = 0
    by_oid: dict[int, int] = Field(default_factory=dict)

    def __add__(self, other: ChunkSum) -> ChunkSum:
        return ChunkSum(
            rows=self.rows + other.rows,
            checksum=self.checksum + other.checksum,
            generated=self.generated + other.generated,
            by_oid=self.by_oid | other.by_oid,
        )


class TableFingerprint(Value):
    """Checksums are decimal numbers, empty where none was taken. `columns`: name → method, in hashing order.

    Stored generated columns are summed apart: the backup does not hold them, a restore computes them anew.
    """

    schema_name: str
    name: str
    kind: TableKind = "table"
    rows: int
    checksum: str = ""
    columns: dict[str, Method] = Field(default_factory=dict)
    generated: str = ""
    generated_columns: dict[str, Method] = Field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.schema_name}.{self.name}"


class Position(NamedTuple):
    """Where a sequence stands: the next value is `last_value` itself while it has not been called."""

    last_value: int
    is_called: bool


class SequenceFingerprint(Value):
    """Sequences follow no snapshot, so there are two readings: before the dump began and after it ended."""

    schema_name: str
    name: str
    ascending: bool = True
    cycles: bool = False
    before: Position
    after: Position

    @property
    def full_name(self) -> str:
        return f"{self.schema_name}.{self.name}"


class LargeObjects(Value):
    """`by_oid`: OID → checksum, as long as there are few."""

    count: int = 0
    checksum: str = ""
    by_oid: dict[str, str] = Field(default_factory=dict)


class Fingerprint(Value):
    """`settings`: what was pinned while reading. `probe`: what the server's hash functions give for fixed input;
    two fingerprints with different probes cannot be compared. `objects`: kind → identity → definition.
    `notes`: what it does not cover, and why. `seconds`: wall time of taking it.
    """

    format: Literal[1] = 1
    algorithm: str = ALGORITHM
    mode: Mode = "full"
    server_version_num: int
    encoding: str
    settings: dict[str, str]
    probe: str
    tables: tuple[TableFingerprint, ...] = ()
    sequences: tuple[SequenceFingerprint, ...] = ()
    large_objects: LargeObjects = LargeObjects()
    objects: dict[str, dict[str, str]] = Field(default_factory=dict)
    notes: tuple[Gap, ...] = ()
    seconds: float = 0.0

    @property
    def major(self) -> int:
        return self.server_version_num // 10000

    def with_sequences(
        self, before: Iterable[SequenceFingerprint], after: Iterable[SequenceFingerprint]
    ) -> Fingerprint:
        """The same, with the sequences as read before the dump began and again after it ended.

        One that is missing from a reading (dropped meanwhile) keeps what is known of it.
        """
        earlier = {reading.full_name: reading.before for reading in before}
        later = {reading.full_name: reading.after for reading in after}
        sequences = tuple(
            sequence.model_copy(
                update={
                    "before": earlier.get(sequence.full_name, sequence.before),
                    "after": later.get(sequence.full_name, sequence.after),
                }
            )
            for sequence in self.sequences
        )
        return self.model_copy(update={"sequences": sequences})

    def to_json(self) -> bytes:
        return (self.model_dump_json() + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes | str) -> Fingerprint:
        """Raises StorageError for one that is damaged or of a format this version does not know."""
        try:
            return cls.model_validate_json(text)
        except ValueError as error:
            raise StorageError(
                f"This is not a fingerprint that this version can read: {str(error).splitlines()[0]}.",
                "It may be damaged (`pgfleet verify ID`) or written by a newer pgfleet.",
            ) from error
