"""Counts of matches of photos, known by the contents of both: what was counted once is not counted again.

When a photo is added to a collection of n, n comparisons are new and n^2 / 2 are not. A count is found by what both
photos' rows are, so it does not matter in which collections, in which order and when photos came together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PairKeys = NDArray[np.uint64]
"""Sorted; 64 bits for both contents together. Among millions of pairs two have the same by a chance of 1e-7."""
Counts = NDArray[np.uint16]
MOST_COUNTS = 1 << 21
"""Kept at most, 20 MB; of more, those of the last collection and others at random."""
_OF_LESSER, _OF_GREATER = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)


def content_number(rows: NDArray[np.generic]) -> np.uint64:
    """A number for the contents of a table: equal ones have the same, and hardly any others have."""
    return np.uint64(int.from_bytes(hashlib.blake2b(rows.tobytes(), digest_size=8).digest(), "little"))


class KnownCounts:
    """A table of counts, and what is added to it. What photos hold must be told before their pairs are asked for."""

    def __init__(self, keys: PairKeys, counts: Counts) -> None:
        self._keys, self._counts = keys, counts
        self._content: dict[int, np.uint64] = {}
        self._used: list[PairKeys] = []
        self._added: list[tuple[PairKeys, Counts]] = []

    def tell(self, photo: int, rows: NDArray[np.generic]) -> None:
        """What a photo holds."""
        self._content[photo] = content_number(rows)

    def of(self, photo: int, others: Sequence[int]) -> NDArray[np.int64]:
        """(n,) counts of the photo with others; -1 where a count is not known."""
        keys = self._pair_keys(photo, others)
        if not len(self._keys):
            return np.full(len(keys), -1)
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = self._keys[place] == keys
        self._used.append(keys[found])
        return np.where(found, self._counts[place].astype(np.int64), -1)

    def add(self, photo: int, others: Sequence[int], counts: NDArray[np.integer]) -> None:
        """Counts of the photo with others. May be called from any thread, as `of` may."""
        if len(others):
            self._added.append((self._pair_keys(photo, others), np.asarray(counts, np.uint16)))

    def table(self) -> tuple[PairKeys, Counts] | None:
        """The table with what was added; None if that is nothing."""
        if not self._added:
            return None
        new, counts = (np.concatenate(column) for column in zip(*self._added, strict=True))
        if len(self._keys) + len(new) > MOST_COUNTS:
            used = np.isin(self._keys, np.concatenate([np.empty(0, np.uint64), *self._used]))
            spare = np.flatnonzero(~used)[: max(0, MOST_COUNTS - len(new) - int(used.sum()))]
            used[spare] = True
            self._keys, self._counts = self._keys[used], self._counts[used]
        keys, first = np.unique(np.concatenate([self._keys, new]), return_index=True)
        return keys, np.concatenate([self._counts, counts])[first]

    def _pair_keys(self, photo: int, others: Sequence[int]) -> PairKeys:
        content = np.array([self._content[other] for other in others], np.uint64)
        own = np.full_like(content, self._content[photo])
        return np.asarray(np.minimum(content, own) * _OF_LESSER + np.maximum(content, own) * _OF_GREATER, np.uint64)


def no_counts() -> KnownCounts:
    """A table that is empty."""
    return KnownCounts(np.empty(0, np.uint64), np.empty(0, np.uint16))
