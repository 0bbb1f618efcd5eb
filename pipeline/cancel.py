"""Stop a run from another thread."""

from __future__ import annotations

import threading

from .errors import Interrupted

INTERRUPTED = "interrupted; everything finished is kept: run the same command again to resume"


class Cancellation:
    """A request to stop a run, made from any thread.

    `run` looks at it between items, and a stage whenever it reports progress; the run then raises Interrupted with
    everything stored that was finished. A request cannot be taken back: make a new one for the next run.
    """

    def __init__(self) -> None:
        self._requested = threading.Event()

    def cancel(self) -> None:
        """Ask the run to stop. Returns at once, and may be called more than once."""
        self._requested.set()

    @property
    def cancelled(self) -> bool:
        """Whether the run was asked to stop."""
        return self._requested.is_set()

    def check(self) -> None:
        """Raise Interrupted if the run was asked to stop."""
        if self.cancelled:
            raise Interrupted(INTERRUPTED)
