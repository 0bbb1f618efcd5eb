"""Large values as files of their own, read through the page cache.

A view graph of ten thousand photos is larger than SQLite's blobs may be, and than the memory that a run is lent. It is
written column by column and mapped when it is read: only the pages that are looked at occupy memory, and the system
may take them back.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
import zlib
from collections.abc import Container, Iterable
from contextlib import suppress
from pathlib import Path

from ..durable import sync_folder

WRITE_BYTES = 1 << 24
"""Written and checked at once."""

STRAY_S = 3600.0
"""Age from which a file that the database does not know is taken for a stray."""


class ValueFiles:
    """One file per value in a folder, named by its key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """Where the value of a key lies, if it does."""
        return self.folder / f"{key}.value"

    def write(self, key: str, parts: Iterable[bytes | memoryview]) -> tuple[int, int]:
        """Stores the concatenation of the parts, whole or not at all; gives its size in bytes and its checksum."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", dir=self.folder)
        size = checksum = 0
        try:
            with os.fdopen(handle, "wb") as file:
                for part in parts:
                    view = memoryview(part).cast("B")
                    for start in range(0, len(view), WRITE_BYTES):
                        piece = view[start : start + WRITE_BYTES]
                        file.write(piece)
                        checksum = zlib.crc32(piece, checksum)
                    size += len(view)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path(key))
            sync_folder(self.folder)  # before the database says that it is there
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return size, checksum

    def map(self, key: str) -> memoryview | None:
        """The bytes of a value without reading them, or None where there is no such file."""
        try:
            with self.path(key).open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError):  # missing, or empty
            return None

    def checksum(self, key: str) -> tuple[int, int] | None:
        """Size and checksum of what lies there now, or None."""
        view = self.map(key)
        if view is None:
            return None
        found = 0
        for start in range(0, len(view), WRITE_BYTES):
            found = zlib.crc32(view[start : start + WRITE_BYTES], found)
        return len(view), found

    def remove(self, keys: Iterable[str]) -> None:
        """Removes the files of these keys, those that exist. Values that are mapped at the moment stay readable."""
        for key in keys:
            with suppress(OSError):  # on some systems not while it is mapped; the next prune removes it
                self.path(key).unlink(missing_ok=True)

    def remove_strays(self, known: Container[str]) -> None:
        """Removes files of other keys, left by runs that were killed; young ones may be just being written."""
        for path in self.folder.glob("*") if self.folder.is_dir() else ():
            with suppress(OSError):
                if path.stem not in known and path.stat().st_mtime < time.time() - STRAY_S:
                    path.unlink()
