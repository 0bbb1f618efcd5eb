"""Options of a run: one object for `reconstruct`, `pairs` and `pairwise`.

Only the standard library is imported, since the command line reads the defaults here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from unposed.pipeline.cancel import Cancellation
    from unposed.pipeline.progress import Progress

Settings = Iterable[str] | Mapping[str, Any]
"""Changes to a preset: lines `node.key=value`, or a mapping of `node.key` to value."""


EFFORTS = {"low": 0.0, "normal": 1.0, "high": 4.0}
"""Words for efforts; see RunOptions.effort."""


@dataclass(frozen=True)
class RunOptions:
    """Device, limits, cache and progress of a run.

    Only `effort` and `seed` change results, and `device` by the rounding of a GPU.
    """

    device: str = "auto"
    """`auto` (the GPUs if there are any), `cpu`, `cuda` (all of them) or `cuda:1`."""
    executor: str = "local"
    """Name of the plugin that spreads items over workers: `local` uses the threads of this machine, `ray` a Ray cluster
    that is started here, `ray:10.0.0.1:6379` or `ray:auto` one that is there."""
    workers: int | None = None
    """Items computed concurrently; None: one per core."""
    ram_bytes: int | None = None
    """Memory limit; None: 70 % of what is free."""
    vram_bytes: int | None = None
    """Memory limit on the GPU; None: 85 % of what is free."""
    effort: Literal["low", "normal", "high"] | float = "normal"
    """How much is done, at most, where a first pass leaves something missing: photos without a partner, parts that no
    pair joins, few matches. `low` is nothing, `high` four times as much as `normal`, a number a factor of it. What is
    easy costs the same with any."""
    seed: int = 0
    """Seed of all random numbers. The same photos, settings and seed give the same result."""
    cache: str | Path | None = None
    """Folder of stored results; None: the user's, `$UNPOSED_CACHE` or `~/.cache/unposed`."""
    verify_photos: bool = False
    """Whether all photos are read to learn what they hold. Otherwise those are not whose path, size, inode and times
    are as an earlier run has found them."""
    reproducible: bool = False
    """Whether results are the same bytes on all x86-64 machines, computed as on the oldest of them. Only in a process
    that the command line has started for it."""
    progress: Progress | None = None
    """Receives the events of the run: `unposed.Bars()`, `unposed.JsonLines()` or your own; None: they are only logged,
    by `unposed.run`."""
    cancellation: Cancellation | None = None
    """Stops the run from another thread: `unposed.Cancellation()`, on which `cancel()` is called."""

    def merged(self, changes: RunChanges) -> RunOptions:
        """A copy with some fields replaced. TypeError names the nearest field where there is no such one."""
        names = [field.name for field in fields(self)]
        for name in changes:
            if name not in names:
                near = difflib.get_close_matches(name, [*names, *KEYWORDS], n=1)
                hint = f"; did you mean {near[0]}?" if near else f"; run options are {', '.join(names)}"
                raise TypeError(f"no such option: {name}{hint}")
        return replace(self, **changes)


DEFAULTS = RunOptions()


class RunChanges(TypedDict, total=False):
    """The fields of RunOptions as keyword arguments: `reconstruct(photos, device="cpu", workers=2)`."""

    device: str
    executor: str
    workers: int | None
    ram_bytes: int | None
    vram_bytes: int | None
    effort: Literal["low", "normal", "high"] | float
    seed: int
    cache: str | Path | None
    verify_photos: bool
    reproducible: bool
    progress: Progress | None
    cancellation: Cancellation | None


KEYWORDS = (
    "preset",
    "settings",
    "cameras",
    "intrinsics",
    "poses",
    "rigs",
    "masks",
    "include",
    "exclude",
    "frames",
    "require",
    "report",
    "exports",
    "options",
)
"""Other keywords of `reconstruct`, which misspelled names are compared with."""
