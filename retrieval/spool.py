"""Tables that grow row by row and move to a file when they exceed their memory limit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Spool:
    """Rows of one shape and type in order of arrival. The caller makes and removes `folder`."""

    def __init__(self, limit_bytes: int, folder: Path, name: str) -> None:
        self._limit, self._file = limit_bytes, folder / name
        self._parts: list[NDArray[Any]] = []
        self._held = self._rows = 0

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows, of the type and row shape of the first ones."""
        self._parts.append(rows)
        self._rows += len(rows)
        self._held += rows.nbytes
        if self._held > self._limit:
            self._spill()

    def table(self) -> NDArray[Any]:
        """All rows, in memory or memory-mapped. Needs at least one append."""
        if not self._file.exists():
            return np.concatenate(self._parts)
        first = self._parts[0]
        self._spill()
        return np.memmap(self._file, first.dtype, "r", shape=(self._rows, *first.shape[1:]))

    def _spill(self) -> None:
        with self._file.open("ab") as file:
            for part in self._parts:
                np.ascontiguousarray(part).tofile(file)
        self._parts, self._held = [self._parts[0][:0]], 0  # the type and the shape are still needed


def table_for(shape: tuple[int, ...], dtype: Any, limit_bytes: int, folder: Path, name: str) -> NDArray[Any]:
    """An uninitialised table, in memory within the limit, else memory-mapped."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= limit_bytes:
        return np.empty(shape, dtype)
    return np.memmap(folder / name, dtype, "w+", shape=shape)
