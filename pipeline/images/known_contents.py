"""Content hashes of photos, remembered between runs: gigabytes are not read again to learn that nothing has changed.

A file is taken for unchanged while its path, size, inode and times of change are. A file that was changed within the
last moments before it was read may be changed again within the same tick of the file system's clock, and nothing would
show it: such a file is not remembered (as git does with its index).
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..store.records import recall, remember
from .content import file_content

RECORD = "photos"
"""Name of the file in the cache folder."""
RACY_NS = 2_000_000_000
"""The coarsest clock of a file system in use (FAT) ticks every two seconds."""
REMEMBERED = 300_000
"""Files at most; of more, those seen last."""


class KnownContents:
    """Hashes of files by what the file system says of them. Usable from any thread; `save` keeps them for later runs.

    Without a folder nothing is remembered; with `verify` every file is read, whatever is remembered.
    """

    def __init__(self, folder: Path | None = None, *, verify: bool = False) -> None:
        self._folder, self._verify = folder, verify
        self._known = recall(RECORD, folder) if folder is not None else {}
        self._seen: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def content(self, path: Path) -> str:
        """BLAKE2b of the file's bytes, 160 bits in hexadecimal. OSError if it cannot be read."""
        now, state = time.time_ns(), path.stat()
        name, mark = str(path.absolute()), _stamp(state)
        row = self._known.get(name)
        known = None if self._verify or not isinstance(row, list) or row[1:] != mark else str(row[0])
        found = known or file_content(path)
        settled = max(state.st_mtime_ns, state.st_ctime_ns) < now - RACY_NS and stamp(path) == mark
        with self._lock:
            if settled:
                self._seen[name] = [found, *mark]
            else:
                self._known.pop(name, None)
        return found

    def save(self) -> None:
        """Remember what was seen, and what other runs have remembered meanwhile. Where nothing can be written, the next
        run reads again."""
        if self._folder is None or all(self._known.get(name) == row for name, row in self._seen.items()):
            return
        others = {name: row for name, row in recall(RECORD, self._folder).items() if name not in self._seen}
        record = [*others.items(), *self._seen.items()][-REMEMBERED:]
        with suppress(OSError):
            remember(RECORD, dict(record), self._folder)


def stamp(path: Path) -> list[int]:
    """What tells whether a file was changed or replaced. OSError if there is none."""
    return _stamp(path.stat())


def _stamp(state: os.stat_result) -> list[int]:
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]
