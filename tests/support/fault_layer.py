"""A layer between a program and its disk that fails the n-th call of a kind, or ends everything there.

For n = 1, 2, 3 ... until a run passes, with the state looked at after each, every call has failed once: what a full
disk, a cable, a limit of open files or a lack of memory does, at the one moment that nobody thought of.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from unposed.pipeline import executor

KINDS = ("open", "read", "write", "rename", "fsync", "mkdir", "sql", "memory")


class PowerCut(BaseException):
    """Ends everything at once, as no handler would."""


def fault(kind: str) -> Exception:
    """What the system says when a call of this kind fails."""
    if kind == "memory":
        return MemoryError()
    if kind == "sql":
        return sqlite3.OperationalError("disk I/O error")
    number = {"open": errno.EMFILE, "write": errno.ENOSPC, "mkdir": errno.ENOSPC}.get(kind, errno.EIO)
    return OSError(number, os.strerror(number))


class Faults:
    """Counts calls by kind, and lets one of them fail."""

    def __init__(self, kind: str | None = None, number: int = 0, error: Callable[[str], BaseException] = fault) -> None:
        self._kind, self._number, self._error = kind, number, error
        self._lock = threading.Lock()
        self.counts: Counter[str] = Counter()

    @property
    def happened(self) -> bool:
        """Whether the run came so far."""
        return self._kind is not None and self.counts[self._kind] >= self._number

    def count(self, kind: str) -> None:
        """One more call; raises if it is the one."""
        with self._lock:
            self.counts[kind] += 1
            due = kind == self._kind and self.counts[kind] == self._number
        if due:
            raise self._error(kind)

    def before(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self.count(kind)
            return function(*arguments, **options)

        return counted


@contextmanager
def fault_layer(faults: Faults) -> Iterator[Faults]:
    """Within the block all files that Python opens, names that it changes and statements of SQLite are counted."""

    class File(io.FileIO):
        def readinto(self, buffer: Any) -> Any:
            faults.count("read")
            return super().readinto(buffer)

        def readall(self) -> bytes:
            faults.count("read")
            return super().readall()

        def write(self, data: Any) -> Any:
            faults.count("write")
            return super().write(data)

    class Connection(sqlite3.Connection):
        def execute(self, *arguments: Any) -> Any:
            faults.count("sql")
            return super().execute(*arguments)

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        faults.count("open")
        raw = File(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if "+" in mode:
            buffered: Any = io.BufferedRandom(raw)
        else:
            buffered = io.BufferedReader(raw) if "r" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)

    def connect(*arguments: Any, **options: Any) -> Any:
        faults.count("open")
        return connected(*arguments, **{**options, "factory": Connection})

    connected, call = sqlite3.connect, executor.call
    with (
        patch.object(builtins, "open", opened),
        patch.object(io, "open", opened),
        patch.object(os, "open", faults.before("open", os.open)),
        patch.object(os, "rename", faults.before("rename", os.rename)),
        patch.object(os, "replace", faults.before("rename", os.replace)),
        patch.object(os, "fsync", faults.before("fsync", os.fsync)),
        patch.object(os, "mkdir", faults.before("mkdir", os.mkdir)),
        patch.object(sqlite3, "connect", connect),
        patch.object(executor, "call", faults.before("memory", call)),
    ):
        yield faults
