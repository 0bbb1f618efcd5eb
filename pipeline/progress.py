"""Who watches a run: progress bars for a terminal, lines of JSON for a program, or nobody."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import Any, Protocol, TextIO


class Progress(Protocol):
    """Hears what the engine does, from the engine's main thread except for `note`."""

    def begin(self, node: str, total: int, reused: int) -> None:
        """`node` is worked on now: `total` items, of which `reused` were stored."""

    def advance(self, node: str, failed: bool) -> None:
        """One more item is done."""

    def end(self, node: str, seconds: float) -> None:
        """`node` is finished."""

    def note(self, message: str) -> None:
        """One line the user should read."""

    def close(self) -> None:
        """The run is over, one way or another."""


class Quiet:
    """Nobody watches; notes still go to stderr, since they are about damage."""

    def begin(self, node: str, total: int, reused: int) -> None:
        pass

    def advance(self, node: str, failed: bool) -> None:
        pass

    def end(self, node: str, seconds: float) -> None:
        pass

    def note(self, message: str) -> None:
        print(message, file=sys.stderr)

    def close(self) -> None:
        pass


class JsonLines:
    """One JSON object per line: {"event": "begin" | "progress" | "end" | "note", ...}; progress ten times a second."""

    def __init__(self, stream: TextIO | None = None, interval_s: float = 0.1) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._interval_s = interval_s
        self._last = 0.0
        self._total = self._done = self._failed = 0

    def begin(self, node: str, total: int, reused: int) -> None:
        self._total, self._done, self._failed = total, reused, 0
        self._write(event="begin", node=node, total=total, reused=reused)

    def advance(self, node: str, failed: bool) -> None:
        self._done += 1
        self._failed += failed
        if time.monotonic() - self._last >= self._interval_s:
            self._last = time.monotonic()
            self._write(event="progress", node=node, done=self._done, total=self._total, failed=self._failed)

    def end(self, node: str, seconds: float) -> None:
        self._write(event="end", node=node, done=self._done, failed=self._failed, seconds=round(seconds, 3))

    def note(self, message: str) -> None:
        self._write(event="note", message=message)

    def close(self) -> None:
        pass

    def _write(self, **record: Any) -> None:
        with suppress(BrokenPipeError):  # the work goes on when whoever listened has left
            print(json.dumps(record), file=self._stream, flush=True)


class Bars:
    """A bar per node with the time left, on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._bars = RichProgress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[red]{task.fields[failures]}"),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}
        self._failed: dict[str, int] = {}
        self._bars.start()

    def begin(self, node: str, total: int, reused: int) -> None:
        if node not in self._tasks:
            self._tasks[node] = self._bars.add_task(node, total=None, failures="")
        self._failed[node] = 0
        # Reused items are not counted as progress, or the time left would be guessed from their speed.
        self._bars.update(self._tasks[node], total=max(total - reused, 0), completed=0)

    def advance(self, node: str, failed: bool) -> None:
        self._failed[node] += failed
        count = self._failed[node]
        self._bars.update(self._tasks[node], advance=1, failures=f"{count} failed" if count else "")

    def end(self, node: str, seconds: float) -> None:
        self._bars.refresh()

    def note(self, message: str) -> None:
        self._bars.console.print(message, style="yellow", markup=False, highlight=False)

    def close(self) -> None:
        self._bars.stop()


def progress_for(quiet: bool = False, as_json: bool = False) -> Progress:
    """JSON lines if asked for, bars if stderr is a terminal, else nobody."""
    if as_json:
        return JsonLines()
    return Quiet() if quiet or not sys.stderr.isatty() else Bars()
