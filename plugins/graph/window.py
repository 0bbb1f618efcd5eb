"""Sequential matching: photos with those that follow them."""

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
    """Each photo with those that follow it by name: for videos, and for rings around an object."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    window: Annotated[int, Within("[1, 64]")] = 3
    """Number of following photos."""
    steps: Literal["every", "powers"] = "every"
    """every: the next 1, 2, 3, 4 ... photos; powers: those 1, 2, 4, 8 ... places ahead."""
    cyclic: bool = True
    """Whether the first photo follows the last."""

    def __call__(self, photos: Photos) -> SceneGraph:
        pairs = window_pairs(len(photos), self.window, cyclic=self.cyclic, powers=self.steps == "powers")
        return SceneGraph(pairs, np.ones(len(pairs), np.float32))
