"""Points that somebody has marked in several photos, and where their rays meet.

A mark may be wrong: a mistyped pixel, or a pixel of another photo. The point is where most of its rays meet, and
marks that are far from it are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ..arrays import Array, Index, Mask
from ..bundle.problem import Bundle
from ..bundle.reprojection import MIN_DEPTH
from ..cameras import fisheyes, project_with_jacobians, unproject
from ..poses import camera_centres

REFINEMENT_STEPS = 5
"""Gauss-Newton steps of a point: they converge quadratically from where the rays meet."""


@dataclass(frozen=True, eq=False)
class Marks:
    """Pixels at which photos show points, sorted by point."""

    point: Index
    """(m,)."""
    photo: Index
    """(m,) rows of the poses of a bundle."""
    xy: Array
    """(m, 2) pixels."""
    sigma_px: Array
    """(m,) standard deviation of a coordinate."""

    def of(self, some: Mask) -> Marks:
        """Some of them (m,)."""
        return replace(
            self, point=self.point[some], photo=self.photo[some], xy=self.xy[some], sigma_px=self.sigma_px[some]
        )


@dataclass(frozen=True, eq=False)
class SightedPoints:
    """Where photos see the points of marks."""

    position: Array
    """(n, 3) world; NaN where no two marks agree."""
    right: Mask
    """(m,) marks that agree with the position of their point."""
    error_px: Array
    """(m,) distance of the marks from this position; NaN without one."""


def sight_points(cameras: Bundle, marks: Marks, count: int, bound_px: Array, min_angle_deg: float) -> SightedPoints:
    """Triangulate `count` points from their marks.

    bound_px: (m,) distance from which on a mark is wrong. min_angle_deg: between two rays that determine a point.
    """
    position = np.full((count, 3), np.nan)
    for point in np.unique(marks.point).tolist():
        rows = np.flatnonzero(marks.point == point)
        found = _meeting(cameras, marks.of(marks.point == point), bound_px[rows], min_angle_deg)
        if found is not None:
            position[point] = found
    error_px = mark_errors_px(cameras, marks, position)
    return SightedPoints(position, np.asarray(error_px <= bound_px), error_px)


def mark_errors_px(cameras: Bundle, marks: Marks, position: Array) -> Array:
    """(m,) distance of marks from the projections of their points (n, 3); infinite behind the camera, NaN where the
    position is."""
    offset, _, front = _offsets(cameras, marks, position[marks.point])
    return np.where(front | np.isnan(offset[:, 0]), np.hypot(offset[:, 0], offset[:, 1]), np.inf)


def _meeting(cameras: Bundle, marks: Marks, bound_px: Array, min_angle_deg: float) -> Array | None:
    """Where most rays of one point meet; None where no two do."""
    centre, ray = _rays(cameras, marks)
    best, most = np.zeros(len(bound_px), bool), (1, 0.0)
    for a, b in combinations(range(len(ray)), 2):
        angle_deg = np.degrees(np.arctan2(np.linalg.norm(np.cross(ray[a], ray[b])), ray[a] @ ray[b]))
        if not min_angle_deg <= angle_deg <= 180.0 - min_angle_deg:
            continue
        position = _nearest_to_rays(centre[[a, b]], ray[[a, b]])
        relative = _errors_px(cameras, marks, position) / bound_px
        agree = relative <= 1.0
        # Two rays meet more easily than three: of equal numbers the closer ones are right.
        score = (int(agree.sum()), -float(relative[agree].sum()))
        if agree[a] and agree[b] and score > most:
            best, most = agree, score
    if not best.any():
        return None
    position = _nearest_to_rays(centre[best], ray[best])
    for _ in range(REFINEMENT_STEPS):
        offset, by_point, _ = _offsets(cameras, marks.of(best), np.broadcast_to(position, (int(best.sum()), 3)))
        weight = 1.0 / marks.sigma_px[best]
        jacobian, residual = by_point * weight[:, None, None], offset * weight[:, None]
        position = position - np.linalg.lstsq(jacobian.reshape(-1, 3), residual.ravel(), rcond=None)[0]
    return np.asarray(position, np.float64)


def _errors_px(cameras: Bundle, marks: Marks, position: Array) -> Array:
    offset, _, front = _offsets(cameras, marks, np.broadcast_to(position, (len(marks.xy), 3)))
    return np.where(front, np.hypot(offset[:, 0], offset[:, 1]), np.inf)


def _rays(cameras: Bundle, marks: Marks) -> tuple[Array, Array]:
    """Camera centres (m, 3) and unit rays (m, 3) in the world."""
    pose, camera = cameras.cam_from_world[marks.photo], cameras.camera_of_photo[marks.photo]
    plane = unproject(marks.xy, cameras.intrinsics[camera], fisheyes(cameras.models)[camera])
    ray = np.einsum("mji,mj->mi", pose[:, :, :3], np.column_stack([plane, np.ones(len(plane))]))
    centre = camera_centres(pose)
    return centre, ray / np.linalg.norm(ray, axis=1, keepdims=True)


def _nearest_to_rays(centre: Array, ray: Array) -> Array:
    """The point of least squared distance from rays: sum_i (I - r r^T) (X - c) = 0."""
    across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
    return np.asarray(np.linalg.solve(across.sum(axis=0), np.einsum("mij,mj->i", across, centre)), np.float64)


def _offsets(cameras: Bundle, marks: Marks, position: Array) -> tuple[Array, Array, Mask]:
    """Projections minus marks (m, 2), their derivatives by positions (m, 3) of the world (m, 2, 3), and which of these
    are in front of their camera."""
    pose, camera = cameras.cam_from_world[marks.photo], cameras.camera_of_photo[marks.photo]
    y = np.einsum("mij,mj->mi", pose[:, :, :3], position) + pose[:, :, 3]
    front = np.asarray(y[:, 2] > MIN_DEPTH)
    y[:, 2] = np.where(front | np.isnan(y[:, 2]), y[:, 2], 1.0)
    xy, by_y, _ = project_with_jacobians(y, cameras.intrinsics[camera], fisheyes(cameras.models)[camera])
    return xy - marks.xy, by_y @ pose[:, :, :3], front
