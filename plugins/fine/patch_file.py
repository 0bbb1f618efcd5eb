"""Patches of observations in a temporary file, for models of which memory holds too few."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

from unposed.optim.arrays import Index
from unposed.optim.mapping.track_alignment import Patches


class PatchFile:
    """A table of patches (m, size, size) that takes memory only for what is put in or asked for. To be asked for rows
    that lie near each other, as those of a track and of the tracks beside it do: what lies between is read as well.

    Not mapped: pages of a map count as memory of the process as long as the system does not take them back.
    """

    def __init__(self, file: IO[bytes], count: int, size: int) -> None:
        self._file, self._size, self._bytes = file, size, size * size * np.dtype(np.float32).itemsize
        self._lock = threading.Lock()
        file.truncate(count * self._bytes)

    def __setitem__(self, rows: Index, patches: Patches) -> None:
        """Put patches (n, size, size) into rows (n,)."""
        with self._lock:
            for row, patch in zip(rows.tolist(), patches, strict=True):
                self._file.seek(row * self._bytes)
                self._file.write(patch.tobytes())

    def __getitem__(self, rows: Index) -> Patches:
        """(n, size, size) patches of rows (n,), from any thread."""
        first, stop = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
        with self._lock:
            self._file.seek(first * self._bytes)
            data = self._file.read((stop - first) * self._bytes)
        found: Patches = np.frombuffer(data, np.float32).reshape(-1, self._size, self._size)
        return found[rows - first]


@contextmanager
def patch_file(count: int, size: int) -> Iterator[PatchFile]:
    """A table of so many patches in a file of its own, which goes with the block."""
    with tempfile.TemporaryFile(prefix="unposed-patches-", buffering=0) as file:
        yield PatchFile(file, count, size)
