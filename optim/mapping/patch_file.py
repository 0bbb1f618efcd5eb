"""Patches of observations in a temporary file, for models of which memory holds too few."""

from __future__ import annotations

import tempfile
import threading
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..arrays import Index


class PatchFile:
    """A table of patches (m, size, size) that takes memory only for what is put in or asked for. To be asked for rows
    that lie near each other, as those of a track and of the tracks beside it do: what lies between is read as well.

    Not mapped: pages of a map count as memory of the process as long as the system does not take them back.
    """

    def __init__(self, count: int, size: int) -> None:
        self._size, self._bytes = size, size * size * np.dtype(np.float32).itemsize
        self._file = tempfile.TemporaryFile(prefix="unposed-patches-", buffering=0)  # noqa: SIM115  # as this one ends
        self._file.truncate(count * self._bytes)
        self._lock = threading.Lock()

    def __setitem__(self, rows: Index, patches: NDArray[np.float32]) -> None:
        """Put patches (n, size, size) into rows (n,)."""
        with self._lock:
            for row, patch in zip(rows.tolist(), patches, strict=True):
                self._file.seek(row * self._bytes)
                self._file.write(patch.tobytes())

    def __getitem__(self, rows: Index) -> NDArray[np.float32]:
        """(n, size, size) patches of rows (n,), from any thread."""
        first, stop = (int(rows.min()), int(rows.max()) + 1) if len(rows) else (0, 0)
        with self._lock:
            self._file.seek(first * self._bytes)
            data = self._file.read((stop - first) * self._bytes)
        found: NDArray[np.float32] = np.frombuffer(data, np.float32).reshape(-1, self._size, self._size)
        return found[rows - first]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
