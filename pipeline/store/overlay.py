"""A cache that can be read but not written: results of earlier runs are used, new ones last as long as the run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .store import FILE, RECENT_BYTES, Store


class Overlay(Store):
    """A store in a temporary folder, over one that is read-only; the folder is removed when it is closed."""

    def __init__(
        self, below: Store, report: Callable[[str], None] = lambda message: None, recent_bytes: int = RECENT_BYTES
    ) -> None:
        self._below = below
        self._temporary = tempfile.TemporaryDirectory(prefix="unposed-")
        super().__init__(Path(self._temporary.name), report, recent_bytes)

    def get(self, key: str, kind: Any) -> Any:
        """See Store; what this run has made goes first."""
        value = super().get(key, kind)
        return self._below.get(key, kind) if value is None else value

    def has(self, keys: Iterable[str]) -> dict[str, str | None]:
        """See Store."""
        keys = list(keys)
        return {**self._below.has(keys), **super().has(keys)}

    def close(self) -> None:
        """See Store; also lets go of the store below and of what this run has made."""
        super().close()
        self._below.close()
        self._temporary.cleanup()


def open_store(
    folder: Path, report: Callable[[str], None] = lambda message: None, recent_bytes: int = RECENT_BYTES
) -> Store:
    """The store of a folder; where that can only be read, with the results of this run in a temporary one over it,
    which share the memory for values read last."""
    if is_writable(folder):
        return Store(folder, report, recent_bytes)
    below = Store(folder, report, recent_bytes // 2, read_only=True)
    report(f"the cache {folder} can only be read: what is not in it is computed, and kept for this run alone")
    return Overlay(below, report, recent_bytes // 2)


def is_writable(folder: Path) -> bool:
    """Whether a store can be made or written there; True also where that is for the attempt to find out."""
    file = folder / FILE
    return not file.exists() or (os.access(folder, os.W_OK) and os.access(file, os.W_OK))
