"""Log of a run: a line for each event, to the logger `unposed.run` and at once to OUT/run.log.

Nothing is printed unless the program that uses unposed configures logging, see unposed.pipeline.logs.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from unposed.pipeline.logs import module_logger
from unposed.pipeline.plain_text import printable
from unposed.pipeline.progress import Progress, Quiet, forward_step

LOG = module_logger("unposed.run")


class Silent(Quiet):
    """Prints nothing, since notes are logged already."""

    def note(self, message: str) -> None:
        """Nothing."""


class RunLog:
    """A Progress that logs events and passes them on to another one.

    The file receives every line whatever the level of the logger, and the lines of this run only, while loggers are
    shared by all runs of the process.
    """

    def __init__(self, file: Path | None, shown: Progress) -> None:
        self._shown = shown
        self._failed = 0
        self._file: _Lines | None = None if file is None else _Lines(file, mode="w", encoding="utf-8")

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.write(f"stopped: {error or type(error).__name__}")
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def write(self, line: str, level: int = logging.INFO) -> None:
        """Log one line."""
        record = LOG.makeRecord(LOG.name, level, __file__, 0, printable(" ".join(line.split())), (), None, "write")
        if self._file is not None:
            self._file.handle(record)
        if LOG.isEnabledFor(level):
            LOG.handle(record)

    def begin(self, node: str, total: int, reused: int) -> None:
        self._failed = 0
        self.write(f"{node}: {total} to do, {reused} of them stored already")
        self._shown.begin(node, total, reused)

    def advance(self, node: str, failed: bool) -> None:
        self._failed += failed
        self._shown.advance(node, failed)

    def step(self, node: str, done: int, total: int, message: str) -> None:
        forward_step(self._shown, node, done, total, message)

    def end(self, node: str, seconds: float) -> None:
        self.write(f"{node}: done in {seconds:.2f} s" + (f", {self._failed} failed" if self._failed else ""))
        self._shown.end(node, seconds)

    def note(self, message: str) -> None:
        self.write(message, logging.WARNING)
        self._shown.note(message)

    def close(self) -> None:
        self._shown.close()


class _Lines(logging.FileHandler):
    """Flushes every line, so that the log is complete even after kill -9."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore a full disk here: writing the result will report it."""
