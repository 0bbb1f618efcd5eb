"""Files that somebody named: only regular ones are read, so that time and memory follow their size.

A pipe may never end, and a device gives as many bytes as are asked for.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """A regular file, opened to be read. OSError if it cannot be, or is a pipe, a device or the like."""
    # Opening a pipe that nobody writes to would wait.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        require_regular(os.fstat(descriptor), path)
        yield file


def read_bytes(path: Path) -> bytes:
    """The bytes of a regular file; OSError as of `open_regular`."""
    with open_regular(path) as file:
        return file.read(os.fstat(file.fileno()).st_size)  # and not what somebody appends meanwhile


def read_text(path: Path) -> str:
    """The same as text in UTF-8; UnicodeDecodeError, a ValueError, if it is none."""
    return read_bytes(path).decode("utf-8-sig")


def require_regular(state: os.stat_result, path: Path) -> None:
    """OSError if what has this state is a folder, a pipe, a device or the like."""
    if not stat.S_ISREG(state.st_mode):
        what = "a folder" if stat.S_ISDIR(state.st_mode) else "a pipe, a device or the like"
        raise OSError(errno.EINVAL, f"not a file but {what}", str(path))
