"""Errors that end a run: each has a message of one line with the remedy, and an exit code."""

from __future__ import annotations

from typing import Any, ClassVar


class UnposedError(Exception):
    """Ends a run. The message is one line for the user; any other exception that escapes is a bug."""

    exit_code: ClassVar[int] = 2


class ConfigError(UnposedError):
    """A preset, option, graph or plugin that cannot work."""


class InputError(UnposedError):
    """A folder or file that cannot be read, or an output folder that cannot be written."""


class StoreError(UnposedError):
    """The cache cannot be used: disk full, no permission, locked."""


class ExecutorError(UnposedError):
    """The machines that an executor spreads the work over cannot be reached or used."""


class NoReconstruction(UnposedError):
    """Everything ran, but these photos give no model."""

    exit_code: ClassVar[int] = 3
    run: Any = None
    """The engine's Run up to the failure: which nodes ran, and which photos failed."""


class StageCrashed(UnposedError):
    """A stage over the collection, which other nodes need, or something else has a bug (`__cause__`)."""

    exit_code: ClassVar[int] = 1
    run: Any = None
    """The engine's Run up to the crash, if it came so far."""


class Interrupted(UnposedError):
    """Stopped by the user; finished items are stored, and the same command resumes."""

    exit_code: ClassVar[int] = 4
