"""How an artifact is cut into parts within S3's limits.

Limits (S3 user guide, "Multipart upload limits"): at most 10,000 parts, 5 MiB to 5 GiB each, the last any size.
All parts but the last are of equal size: Cloudflare R2 refuses anything else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MIB = 1024 * 1024
MAX_PARTS = 10_000
MIN_PART = 5 * MIB
MAX_PART = 5 * 1024 * MIB


@dataclass(frozen=True, slots=True)
class PartPlan:
    """Arithmetic instead of a list: a plan of any size costs no memory. Part numbers start at 1."""

    size: int
    part_size: int

    def __len__(self) -> int:
        return max(1, -(-self.size // self.part_size))

    def range(self, number: int) -> tuple[int, int]:
        """(offset, length) of a part. Raises IndexError outside the plan."""
        if not 1 <= number <= len(self):
            raise IndexError(f"part {number} of {len(self)}")
        offset = (number - 1) * self.part_size
        return offset, min(self.part_size, self.size - offset)

    def numbers(self) -> Iterator[int]:
        return iter(range(1, len(self) + 1))


def plan(size: int, part_size: int, max_parts: int = MAX_PARTS) -> PartPlan:
    """`part_size` is what the user wants; it grows (in whole MiB) until `max_parts` suffice.

    Raises ValueError for a negative size, and when even the largest parts do not hold `size` bytes.
    """
    if size < 0:
        raise ValueError(f"a size of {size} bytes")
    needed = -(-size // max_parts)
    grown = max(part_size, MIN_PART, -(-needed // MIB) * MIB)
    if grown > MAX_PART:
        raise ValueError(f"{size} bytes do not fit in {max_parts} parts of at most 5 GiB")
    return PartPlan(size, grown)
