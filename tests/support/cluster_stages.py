"""Stages for tests of the executor `ray`: a module of its own, since workers in other processes must import it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unposed.pipeline.artifacts import Photo
from unposed.pipeline.errors import ConfigError
from unposed.pipeline.stage import Resources, StageError


@dataclass(frozen=True)
class Sums:
    """The sum of a row of numbers, slowly; some rows are no good."""

    pause_s: float = 0.0
    refused: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    deadly: tuple[int, ...] = ()
    """Items that end the process that computes them."""
    once: str = ""
    """A file whose presence says that the first process has died: the next ones live."""

    def __call__(self, row: Any) -> Any:
        time.sleep(self.pause_s)
        number = int(row[0])
        if number in self.refused:
            raise StageError(f"{number} is refused")
        if number in self.wrong:
            raise KeyError(number)
        if number in self.deadly and not (self.once and Path(self.once).exists()):
            if self.once:
                Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return row.sum()


@dataclass(frozen=True)
class Misled:
    """A stage whose weights are no weights."""

    def __call__(self, row: Any) -> Any:
        raise ConfigError("weights: no network")


@dataclass(frozen=True)
class Bytes:
    """The bytes of a photo's file, and whether they were read from the path that the driver has."""

    path: str

    def __call__(self, photo: Photo) -> Any:
        time.sleep(0.05)
        return np.frombuffer(photo.path.read_bytes(), np.uint8), str(photo.path) == self.path


@dataclass(frozen=True)
class OnDevices:
    """Says on which device, and in which process, an item was computed."""

    item_bytes: ClassVar[int] = 1

    def __call__(self, row: Any, resources: Resources) -> Any:
        return self.batch([(row,)], resources)[0]

    def batch(self, items: Sequence[tuple[Any]], resources: Resources) -> list[Any]:
        time.sleep(0.02 * len(items))
        where = f"{resources.device} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"
        return [(where, float(row.sum())) for (row,) in items]


def squared(number: int, resources: Resources) -> int:
    """For `Resources.map`."""
    if number < 0:
        raise ValueError(f"{number} is below zero")
    return number**2
