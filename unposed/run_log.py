"""OUT/run.log: what happened when, one line each, written while it happens."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from unposed.pipeline.progress import Progress, forward_step


class RunLog:
    """A Progress that writes down what it hears and passes it on to the one that shows it."""

    def __init__(self, file: Path, shown: Progress) -> None:
        self._stream = file.open("w", encoding="utf-8", buffering=1)  # by lines: whole even after kill -9
        self._shown = shown
        self._failed = 0

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.write(f"stopped: {error or type(error).__name__}")
        with suppress(OSError):
            self._stream.close()

    def write(self, line: str) -> None:
        """A line for the file alone."""
        with suppress(OSError):  # a full disk: the result's own writing will tell, and the log is not worth the run
            print(time.strftime("%Y-%m-%d %H:%M:%S"), " ".join(line.split()), file=self._stream)

    def begin(self, node: str, total: int, reused: int) -> None:
        self._failed = 0
        self.write(f"{node}: {total} to do, {reused} of them stored by an earlier run")
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
        self.write(message)
        self._shown.note(message)

    def close(self) -> None:
        self._shown.close()
