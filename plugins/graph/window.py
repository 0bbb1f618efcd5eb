"""Photos that were taken one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Photos, SceneGraph
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain
from unposed.retrieval.patterns import window_pairs


@dataclass(frozen=True)
class Window:
    """Each photo with those that follow it by name: for videos, and for walks around one thing."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    window: Annotated[int, Within("[1, 64]")] = 3
    """How many of the following photos."""
    steps: Literal["every", "powers"] = "every"
    """The next 1, 2, 3, 4 ... photos, or those 1, 2, 4, 8 ... places away."""
    cyclic: bool = True
    """After the last photo comes the first again."""

    def __call__(self, photos: Photos) -> SceneGraph:
        pairs = window_pairs(len(photos), self.window, cyclic=self.cyclic, powers=self.steps == "powers")
        return SceneGraph(pairs, np.ones(len(pairs), np.float32))
