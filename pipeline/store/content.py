"""What a file holds, as a hash: the identity of weights and other files that an option names.

Gigabytes are not read again in every run: hashes of large files are remembered under path, size and time of change.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from ..regular_files import require_regular
from .records import recall, remember

LARGE_BYTES = 16 << 20
"""Smaller files are read faster than it is worth remembering them."""
RECORD = "hashes"
REMEMBERED = 256


def content_hash(path: Path) -> str:
    """SHA-256 of the file's bytes, in hexadecimal. OSError if it cannot be read."""
    state = path.stat()
    require_regular(state, path)
    if state.st_size < LARGE_BYTES:
        return _read(path)
    known, name, stamp = recall(RECORD), str(path.resolve()), [state.st_size, state.st_mtime_ns]
    row = known.pop(name, None)
    if isinstance(row, list) and len(row) == 3 and row[1:] == stamp:
        return str(row[0])
    known[name] = [_read(path), *stamp]
    with suppress(OSError):  # where nothing can be remembered it is read again next time
        remember(RECORD, dict(list(known.items())[-REMEMBERED:]))
    return str(known[name][0])


def _read(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
