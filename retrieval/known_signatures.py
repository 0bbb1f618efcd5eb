"""Signatures of photos under one codebook, known by the contents of the photos: none is quantised a second time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unposed.optim.arrays import Index32

from .asmk import Codes, Signatures
from .known_counts import content_number


class KnownSignatures:
    """A table of signatures, and what is added to it, of photos whose descriptors count at one word each."""

    def __init__(self, known: dict[int, tuple[Index32, Codes]]) -> None:
        self._known = known
        self._used = set[int]()
        self._added = False

    @classmethod
    def from_arrays(cls, arrays: Sequence[NDArray[Any]] | None) -> KnownSignatures:
        """The table that `arrays` gave; an empty one for None."""
        if arrays is None:
            return cls({})
        numbers, start, word, code = arrays
        bounds = pairwise(start.tolist())
        rows = zip(numbers.tolist(), bounds, strict=True)
        return cls({number: (word[low:high], code[low:high]) for number, (low, high) in rows})

    def arrays(self) -> list[NDArray[Any]] | None:
        """Contents (n,) of the photos asked for, sorted, start (n + 1,) of the rows of each, their words and codes.

        None if nothing was added."""
        if not self._added:
            return None
        numbers = sorted(self._used)  # of this collection alone: others would make the table grow without end
        words, codes = zip(*(self._known[number] for number in numbers), strict=True)
        start = np.cumsum([0, *map(len, words)])
        return [np.array(numbers, np.uint64), start, np.concatenate(words), np.concatenate(codes)]

    def of(self, rows: NDArray[np.generic], photo: int) -> Signatures | None:
        """What the photo with these descriptors shows, as the photo of this number; None if that is not known."""
        number = int(content_number(rows))
        self._used.add(number)
        found = self._known.get(number)
        return None if found is None else Signatures(np.full(len(found[0]), photo, np.int32), *found)

    def add(self, rows: NDArray[np.generic], signatures: Signatures) -> None:
        """The signatures of a photo with these descriptors. May be called from any thread, as `of` may."""
        number = int(content_number(rows))
        self._used.add(number)
        self._known[number] = signatures.word, signatures.code
        self._added = True
