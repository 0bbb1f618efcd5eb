"""Show the progress of a run: bars for a terminal, JSON lines for programs, or nothing."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import Any, Protocol, TextIO, runtime_checkable

from .plain_text import printable, say


class Progress(Protocol):
    """Receives the events of a run, from the thread that runs the engine, except for `note`."""

    def begin(self, node: str, total: int, reused: int) -> None:
        """`node` begins with `total` items, `reused` of which are stored already."""

    def advance(self, node: str, failed: bool) -> None:
        """One more item of `node` is finished, or has failed."""

    def end(self, node: str, seconds: float) -> None:
        """`node` is finished."""

    def note(self, message: str) -> None:
        """A line for the user, from any thread."""

    def close(self) -> None:
        """The run is over, with a result or without."""


@runtime_checkable
class StepProgress(Protocol):
    """A Progress that also shows the steps of a single item; others need not have this method."""

    def step(self, node: str, done: int, total: int, message: str) -> None:
        """A stage over the collection has finished `done` of `total` steps; from any thread, one call at a time."""


def forward_step(progress: Progress, node: str, done: int, total: int, message: str) -> None:
    """Pass a step on to a Progress that shows steps."""
    if isinstance(progress, StepProgress):
        progress.step(node, done, total, message)


class Quiet:
    """Shows no progress. Notes are still printed to stderr, since they report damage."""

    def begin(self, node: str, total: int, reused: int) -> None:
        pass

    def advance(self, node: str, failed: bool) -> None:
        pass

    def end(self, node: str, seconds: float) -> None:
        pass

    def note(self, message: str) -> None:
        say(message, file=sys.stderr)

    def close(self) -> None:
        pass


class JsonLines:
    """One JSON object per line: {"event": "begin" | "progress" | "end" | "note", ...}.

    Progress is written at most ten times a second, unless a step has a new message. Progress of items has the number of
    `failed` ones, progress of the steps of one item has a `message` instead.
    """

    def __init__(self, stream: TextIO | None = None, interval_s: float = 0.1) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._interval_s = interval_s
        self._last = 0.0
        self._total = self._done = self._failed = 0
        self._message = ""

    def begin(self, node: str, total: int, reused: int) -> None:
        self._total, self._done, self._failed, self._message = total, reused, 0, ""
        self._write(event="begin", node=node, total=total, reused=reused)

    def advance(self, node: str, failed: bool) -> None:
        self._done += 1
        self._failed += failed
        if self._is_due():
            self._write(event="progress", node=node, done=self._done, total=self._total, failed=self._failed)

    def step(self, node: str, done: int, total: int, message: str) -> None:
        if self._is_due() or message != self._message:
            self._message = message
            self._write(event="progress", node=node, done=done, total=total, message=message)

    def end(self, node: str, seconds: float) -> None:
        self._write(event="end", node=node, done=self._done, failed=self._failed, seconds=round(seconds, 3))

    def note(self, message: str) -> None:
        self._write(event="note", message=message)

    def close(self) -> None:
        pass

    def _is_due(self) -> bool:
        now = time.monotonic()
        due = now - self._last >= self._interval_s
        self._last = now if due else self._last
        return due

    def _write(self, **record: Any) -> None:
        with suppress(BrokenPipeError):  # the run goes on when the reader has left
            print(json.dumps(record), file=self._stream, flush=True)


class Bars:
    """A bar per node with the remaining time, on stderr. A stage over the collection fills it with its reported
    steps."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress as RichProgress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bars = RichProgress(
            TextColumn("{task.description:<14}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("[red]{task.fields[failures]}"),
            TextColumn("{task.fields[message]}", markup=False),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, Any] = {}
        self._failed: dict[str, int] = {}
        self._total: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._bars.start()

    def begin(self, node: str, total: int, reused: int) -> None:
        if node not in self._tasks:
            self._tasks[node] = self._bars.add_task(node, total=None, failures="", message="")
        self._failed[node] = 0
        # Reused items are not counted as progress, or the time left would be estimated from their speed.
        self._total[node], self._done[node] = max(total - reused, 0), 0
        self._bars.update(self._tasks[node], total=self._total[node], completed=0)

    def advance(self, node: str, failed: bool) -> None:
        self._failed[node] += failed
        self._done[node] += 1
        count = self._failed[node]
        self._bars.update(
            self._tasks[node],
            total=self._total[node],  # items again, where steps were shown
            completed=self._done[node],
            failures=f"{count} failed" if count else "",
            message="",
        )

    def step(self, node: str, done: int, total: int, message: str) -> None:
        self._bars.update(self._tasks[node], total=total, completed=done, message=message)

    def end(self, node: str, seconds: float) -> None:
        self._bars.refresh()

    def note(self, message: str) -> None:
        self._bars.console.print(printable(message), style="yellow", markup=False, highlight=False)

    def close(self) -> None:
        self._bars.stop()


def progress_for(quiet: bool = False, as_json: bool = False) -> Progress:
    """JSON lines if requested, bars if stderr is a terminal, else nothing."""
    if as_json:
        return JsonLines()
    return Quiet() if quiet or not sys.stderr.isatty() else Bars()
