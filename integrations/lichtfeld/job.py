"""A reconstruction in a thread of its own, and how far it has come. Knows nothing of LichtFeld Studio."""

from __future__ import annotations

import threading
from pathlib import Path

import unposed
from unposed.errors import UnposedError

DATASET = "lichtfeld"
"""The export plugin, and the folder in the output folder that it writes."""


class Job:
    """Runs `unposed.reconstruct` and receives its progress; what it has come to may be read at any time."""

    def __init__(self, photos: Path, out: Path) -> None:
        self.photos, self.out = photos, out
        self.node, self.done, self.total = "reading", 0, 0
        self.lines: list[str] = []
        """What to tell the user, a line each: notes of the run, then what came of it."""
        self.dataset: Path | None = None
        """The folder to train on, when there is one."""
        self._cancellation = unposed.Cancellation()
        self._thread = threading.Thread(target=self._run, name="unposed", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask the run to stop; what it has computed is kept, and the next run of these photos goes on from there."""
        self._cancellation.cancel()

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def share(self) -> float:
        """How much of the stage is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0

    def _run(self) -> None:
        try:
            made = unposed.reconstruct(
                self.photos, self.out, exports=[DATASET], progress=self, cancellation=self._cancellation
            )
        except UnposedError as error:  # one line with the remedy
            self.lines.append(str(error))
            return
        except Exception as error:  # a thread that dies says nothing
            self.lines.append(f"unposed has a bug ({type(error).__name__}: {error}); {self.out}/run.log has more")
            return
        unregistered = made.unregistered
        self.lines.append(f"{len(made.photos) - len(unregistered)} of {len(made.photos)} photos have a camera")
        self.lines += made.warnings
        self.lines += [f"{name}: {reason}" for name, reason in sorted(unregistered.items())]
        self.dataset = self.out / DATASET

    # unposed.Progress, from the thread of the run

    def begin(self, node: str, total: int, reused: int) -> None:
        self.node, self.done, self.total = node, reused, total

    def advance(self, node: str, failed: bool) -> None:
        self.done += 1

    def step(self, node: str, done: int, total: int, message: str) -> None:
        self.node, self.done, self.total = f"{node}: {message}" if message else node, done, total

    def end(self, node: str, seconds: float) -> None:
        self.done = self.total

    def note(self, message: str) -> None:
        self.lines.append(message)

    def close(self) -> None:
        pass
