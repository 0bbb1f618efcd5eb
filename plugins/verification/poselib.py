"""Geometric verification of a pair's matches, without intrinsics, by poselib's robust estimators."""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import Annotated, ClassVar

import numpy as np

from unposed.optim.pair.two_view_geometry import estimate_two_view_geometry
from unposed.pipeline.artifacts import PairMatches, Photo, TwoViewGeometry
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Sides

FILM_DIAGONAL_MM = hypot(36.0, 24.0)


@dataclass(frozen=True)
class PoseLib:
    """Keeps the matches that a fundamental matrix explains, and says what kind of scene and motion they show."""

    grain: ClassVar[Grain] = Grain.PAIR
    version: ClassVar[int] = 2

    max_error_px: Annotated[float, Within("(0, inf)")] = 1.5
    """Largest distance to the epipolar line, in a photo of 1600 pixels; larger photos allow more, smaller ones less."""
    false_alarms: Annotated[float, Within("(0, 1]")] = 1e-3
    """How many equally good geometries random matches may be expected to give for the pair to count."""
    min_inliers: Annotated[int, Within("[8, inf)")] = 12
    """Fewer matches than these are never a geometry."""
    seed: int = 0

    def __call__(self, matching: PairMatches, photos: Sides[Photo]) -> TwoViewGeometry:
        focals = [_exif_focal_px(photo) for photo in photos]
        known = (focals[0], focals[1]) if focals[0] and focals[1] else None
        found = estimate_two_view_geometry(
            matching.xy_a,
            matching.xy_b,
            matching.weight,
            (photos.a.width, photos.a.height),
            (photos.b.width, photos.b.height),
            focals_px=known,
            max_error_px=self.max_error_px,
            false_alarms=self.false_alarms,
            min_inliers=self.min_inliers,
            seed=self.seed,
        )
        return TwoViewGeometry(
            kind=found.kind,
            inliers=found.inliers,
            cam_from_local=np.stack([np.eye(3, 4), found.b_from_a]),
            focals_px=found.focals_px,
            focal_known=known is not None,
            fundamental=found.fundamental,
            angle_deg=found.angle_deg,
        )


def _exif_focal_px(photo: Photo) -> float | None:
    if photo.exif.focal_35mm is None:
        return None
    return photo.exif.focal_35mm * hypot(photo.width, photo.height) / FILM_DIAGONAL_MM
