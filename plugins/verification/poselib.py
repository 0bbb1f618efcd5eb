"""Geometric verification of a pair's matches by poselib's robust estimators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from unposed.optim.cameras import FX, FY, intrinsics_of
from unposed.optim.pair.two_view_geometry import TwoViewOptions, estimate_two_view_geometry
from unposed.pipeline.artifacts import CameraPrior, PairMatches, Photo, TwoViewGeometry
from unposed.pipeline.config import Within
from unposed.pipeline.stage import Grain, Sides


@dataclass(frozen=True)
class PoseLib:
    """Keeps the matches consistent with a fundamental matrix, and classifies the two-view geometry."""

    grain: ClassVar[Literal[Grain.PAIR]] = Grain.PAIR
    version: ClassVar[int] = 3

    max_error_px: Annotated[float, Within("(0, inf)")] = 1.5
    """Largest distance to the epipolar line, in a photo of 1600 pixels; larger photos allow more, smaller ones less."""
    false_alarms: Annotated[float, Within("(0, 1]")] = 1e-3
    """Expected number of equally good geometries among random matches, at most, for the pair to be verified."""
    min_inliers: Annotated[int, Within("[8, inf)")] = 12
    """Pairs with fewer inliers are not verified."""
    two_view: TwoViewOptions = field(default_factory=TwoViewOptions)
    """Classification of the two-view geometry, and the effort of its estimators."""
    seed: int = 0

    def __call__(self, matching: PairMatches, cameras: Sides[CameraPrior], photos: Sides[Photo]) -> TwoViewGeometry:
        known = all(prior.focal_source != "guess" for prior in cameras)
        found = estimate_two_view_geometry(
            matching.xy_a,
            matching.xy_b,
            matching.weight,
            (photos.a.width, photos.a.height),
            (photos.b.width, photos.b.height),
            focals_px=(_focal_px(cameras.a), _focal_px(cameras.b)) if known else None,
            max_error_px=self.max_error_px,
            false_alarms=self.false_alarms,
            min_inliers=self.min_inliers,
            seed=self.seed,
            options=self.two_view,
        )
        return TwoViewGeometry(
            kind=found.kind,
            inliers=found.inliers,
            b_from_a=found.b_from_a,
            focals_px=found.focals_px,
            focal_source="prior" if known else "pair" if found.focal_estimated else "guess",
            fundamental=found.fundamental,
            angle_deg=found.angle_deg,
        )


def _focal_px(prior: CameraPrior) -> float:
    camera = prior.camera
    return float(intrinsics_of(camera.model, camera.params)[[FX, FY]].mean())
