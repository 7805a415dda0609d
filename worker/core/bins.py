"""How the tables of a large database are shared out among archives that are dumped side by side."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")

#: A table is worth an archive of its own when it is at least this part of one job's fair share.
_BIG = 16


def pack(sizes: Mapping[Key, int], count: int, first_load: int = 0) -> list[list[Key]]:
    """Share out the keys among `count` bins, largest first into the emptiest (Graham's LPT rule).

    The first bin starts with `first_load` in it. The result depends on the sizes and the keys' order alone.
    """
    loads = [(first_load if number == 0 else 0, number) for number in range(count)]
    heapq.heapify(loads)
    packed: list[list[Key]] = [[] for _ in range(count)]
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        load, number = loads[0]
        packed[number].append(key)
        heapq.heapreplace(loads, (load + sizes[key], number))
    return packed


def split(sizes: Mapping[Key, int], jobs: int, threshold: int) -> list[list[Key]]:
    """The keys (tables, sizes in bytes) of each data archive; all others stay in the main archive.

    At most `jobs` - 1 archives, none empty; none at all for one job or for a total below `threshold` bytes.
    Only big tables leave the main archive: its command line names every one of them.
    """
    total = sum(sizes.values())
    if jobs == 1 or total < threshold:
        return []
    big = {key: size for key, size in sizes.items() if size * jobs * _BIG >= total and size > 0}
    small = total - sum(big.values())
    return [keys for keys in pack(big, jobs, small)[1:] if keys]
