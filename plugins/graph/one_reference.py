"""Star graph: one photo with all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Photos, SceneGraph
from unposed.pipeline.stage import Grain, StageError
from unposed.retrieval.patterns import star_pairs


@dataclass(frozen=True)
class OneReference:
    """All photos are matched with the reference, and with nothing else."""

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    reference: str = ""
    """Name of the reference photo; the first of the collection if empty."""

    def __call__(self, photos: Photos) -> SceneGraph:
        names = [photo.name for photo in photos.photos]
        if self.reference and self.reference not in names:
            raise StageError(
                f"no photo is called {self.reference!r}: give a name as it is found below the photo folder"
            )
        pairs = star_pairs(len(names), names.index(self.reference) if self.reference else 0)
        return SceneGraph(pairs, np.ones(len(pairs), np.float32))
