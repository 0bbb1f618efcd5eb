"""Retrieval by given poses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np

from unposed.optim.evaluation import rotation_and_centre
from unposed.optim.option_ranges import Angle
from unposed.pipeline.artifacts import CameraPriors, Photos, Ranking
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, StageError
from unposed.retrieval.neighbours import near_views


@dataclass(frozen=True)
class PoseRanking:
    """The nearest photos that look the same way, by the poses given with --poses, exact or rough.

    Photos without a pose get no partners, and rough poses that have drifted close no loop: merge it with a ranking by
    appearance, retrieval.union, as every preset does where poses are given.
    """

    grain: ClassVar[Literal[Grain.COLLECTION]] = Grain.COLLECTION
    version: ClassVar[int] = 1

    partners: Annotated[int, Within("[1, inf)")] = 50
    """Nearest photos of each that are considered."""
    max_angle_deg: Angle = 60.0
    """Between the optical axes of partners: beyond, photos from one place hardly overlap."""

    def __call__(self, photos: Photos, cameras: CameraPriors) -> Ranking:
        if cameras.cam_from_world is None:
            raise StageError("no poses are given, by which photos could be near: use another retrieval")
        poses = np.asarray(cameras.cam_from_world, np.float64)
        known = np.flatnonzero(np.isfinite(poses).all(axis=(1, 2)))
        rotation, centre = rotation_and_centre(poses[known])
        pairs, similarity = near_views(known.tolist(), centre, rotation[:, 2], self.partners, self.max_angle_deg)
        return Ranking(pairs=pairs, similarity=similarity)
