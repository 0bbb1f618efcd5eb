"""Products of tables of bytes, exact, by the fastest means at hand.

Sums of products of whole numbers have the same bits in every order and on every processor, as long as they stay below
2^24 where floats add them up. So who multiplies is a matter of speed alone: torch, where the processor multiplies bytes
several times as fast as floats and the work is worth the second and the 200 MB that importing torch takes, else numpy.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes8 = NDArray[np.int8]
"""Whole numbers of -127 to 127."""

WORTH_IMPORTING = 1 << 36
"""Multiplications of floats after which bytes would have saved as much as importing torch takes: 60 pairs of photos
with 4096 key points, 4000 pairs in the coarse look."""

IMPORT_BYTES = 220 << 20
"""Memory that importing torch takes, for good."""

_lock = threading.Lock()
_multiplied = 0
_may_import = True


class ByteProduct:
    """Products of rows of `a` (na, d) with all rows of `b` (nb, d), both int8, in int32 or in whole float32 numbers;
    d at most 1024, or floats would not hold the sums."""

    def __init__(self, a: NDArray[Any], b: NDArray[Any]) -> None:
        self._torch = _torch_for(len(a) * b.size)
        if self._torch is None:
            self._left, self._right = a.astype(np.float32), b.astype(np.float32).T
        else:
            self._left, self._right = self._torch.from_numpy(a), self._torch.from_numpy(b).T

    def buffer(self, rows: int) -> NDArray[Any]:
        """An uninitialised table for so many rows of products."""
        return np.empty((rows, self._right.shape[1]), np.float32 if self._torch is None else np.int32)

    def fill(self, rows: slice, out: NDArray[Any]) -> None:
        """Put the products of these rows into a table as `buffer` makes it."""
        if self._torch is None:
            np.matmul(self._left[rows], self._right, out=out)
        else:
            self._torch._int_mm(self._left[rows], self._right, out=self._torch.from_numpy(out))


@contextmanager
def torch_imported_if(it_fits: bool) -> Iterator[None]:
    """Until the end of the block, import torch for the sake of speed only if it fits into the memory that there is."""
    global _may_import
    before, _may_import = _may_import, it_fits
    try:
        yield
    finally:
        _may_import = before


def bytes_are_fast() -> bool:
    """Whether bytes are to be multiplied: this processor has instructions for it, and torch is there or fits. Imports
    it in that case."""
    return ("torch" in sys.modules or _may_import) and _has_instructions()


@cache
def _has_instructions() -> bool:
    import torch

    known = getattr(torch.cpu, "_is_vnni_supported", None)
    return hasattr(torch, "_int_mm") and known is not None and bool(known())


def _torch_for(multiplications: int) -> Any:
    """The module torch, if it is to multiply; None while numpy costs less.

    How much work is to come is not known. To import after as much was lost as importing takes costs at most twice what
    knowing it would.
    """
    global _multiplied
    with _lock:
        _multiplied += multiplications
        worth = _multiplied > WORTH_IMPORTING
    if not worth and "torch" not in sys.modules:
        return None
    return sys.modules["torch"] if bytes_are_fast() else None
