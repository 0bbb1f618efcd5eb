"""Retrieval by GPS positions in EXIF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.pipeline.artifacts import Photos, Ranking
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, StageError
from unposed.retrieval.neighbours import metres, near_positions


@dataclass(frozen=True)
class Gps:
    """The nearest photos by latitude and longitude.

    Photos without a position get no partners: merge it with a ranking by appearance, retrieval.union, where there are
    any.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    reach_m: Annotated[float, Within("(0, inf)")] = 100.0
    """Photos farther apart are no partners."""
    partners: Annotated[int, Within("[1, inf)")] = 50
    """Nearest photos of each that are considered."""

    def __call__(self, photos: Photos) -> Ranking:
        known = [
            (index, photo.exif.latitude_deg, photo.exif.longitude_deg)
            for index, photo in enumerate(photos.photos)
            if photo.exif.latitude_deg is not None and photo.exif.longitude_deg is not None
        ]
        if len(known) < 2:
            raise StageError(f"{len(known)} of {len(photos)} photos say where they were taken: use another retrieval")
        index, latitude, longitude = (np.array(column) for column in zip(*known, strict=True))
        position = metres(latitude.astype(np.float64), longitude.astype(np.float64))
        pairs, similarity = near_positions(index.tolist(), position, self.partners, self.reach_m)
        return Ranking(pairs=pairs, similarity=similarity)
