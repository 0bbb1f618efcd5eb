"""Similarities between the models of two clusters, from the photos and points that both have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Index, Mask
from ..option_ranges import Angle, Count, Positive, Share
from ..rotations import nearest_rotation, rotation_angle_deg
from .cluster_graph import ClusterModel

_ITERATIONS = 20
_MAX_POINTS = 2000
"""Common points that take part, evenly picked: more do not improve a similarity."""


@dataclass(frozen=True)
class ClusterLinkOptions:
    """When the photos that two models have in common hold them together."""

    min_photos: Count = 3
    """Photos in common, and consistent with the similarity, at least."""
    max_angle_deg: Angle = 3.0
    """A photo whose rotations in the two models differ by more is inconsistent with the similarity."""
    max_offset: Positive = 0.1
    """So is a photo whose positions differ by more, in units of its median distance from the points it sees."""
    min_consistent: Share = 0.7
    """Two models of whose common photos a smaller share is consistent are not joined by them."""
    min_angle_error_deg: Positive = 0.02
    """No link counts as more exact than this."""


@dataclass(frozen=True, eq=False)
class ClusterLink:
    """The similarity y = scale R x + t from the frame of model a to that of model b, and what supports it."""

    scale: float
    rotation: Array
    """(3, 3)."""
    middle_a: Array
    middle_b: Array
    """(3,) the mean position of the consistent photos in both frames; the similarity takes one to the other."""
    photos: int
    """Photos in common."""
    consistent: int
    """Those that agree with the similarity."""
    error_deg: float
    """Root mean square error of rotations, and of positions as seen from the distance of the points, of these."""
    distance_b: float
    """Median distance from common photos to points, in the frame of b."""

    @property
    def weight(self) -> float:
        """Weight in an average: inverse variance of the mean."""
        return self.consistent / self.error_deg**2

    def agrees(self, options: ClusterLinkOptions) -> bool:
        """Whether enough of the common photos are consistent."""
        return self.consistent >= max(options.min_photos, options.min_consistent * self.photos)


def link_clusters(a: ClusterModel, b: ClusterModel, options: ClusterLinkOptions | None = None) -> ClusterLink | None:
    """Estimate the similarity between two models; None where they have too few photos in common.

    The rotation is a robust mean of that between the two rotations of each photo: it needs no extent of the positions,
    which lie on a line in streets and coincide in panoramas. Scale and translation are then fitted robustly to the
    positions of the photos and of the points in whose observations both models agree, each error in units of the
    distance from which it is seen.
    """
    options = options or ClusterLinkOptions()
    _, at_a, at_b = np.intersect1d(a.photos, b.photos, assume_unique=True, return_indices=True)
    if len(at_a) < options.min_photos:
        return None
    pose_a, pose_b = a.cam_from_world[at_a, :, :3], b.cam_from_world[at_b, :, :3]
    turn = pose_b.transpose(0, 2, 1) @ pose_a
    rotation, angle_deg = _robust_mean(turn, options.max_angle_deg)
    source, target, distance = _common_positions(a, b, at_a, at_b)
    fit = np.concatenate([angle_deg <= options.max_angle_deg, np.ones(len(source) - len(at_a), bool)])
    scale, translation = _robust_scale_and_translation(source[fit] @ rotation.T, target[fit], distance[fit])
    count = len(at_a)
    moved = scale * source[:count] @ rotation.T + translation
    offset = np.linalg.norm(moved - target[:count], axis=1) / distance[:count]
    good: Mask = (angle_deg <= options.max_angle_deg) & (offset <= options.max_offset)
    used = good if good.any() else np.ones(count, bool)
    error_deg = np.sqrt(np.mean(angle_deg[used] ** 2) + np.mean(np.degrees(offset[used]) ** 2))
    middle_a = source[:count][used].mean(axis=0)
    return ClusterLink(
        scale,
        rotation,
        middle_a,
        scale * rotation @ middle_a + translation,
        count,
        int(good.sum()),
        max(float(error_deg), options.min_angle_error_deg),
        float(np.median(distance)),
    )


def _robust_mean(turn: Array, max_angle_deg: float) -> tuple[Array, Array]:
    """The mean of the rotations (n, 3, 3) near the one that most others are near to, and the angles to it."""
    angle = rotation_angle_deg(turn[:, None] @ turn.transpose(0, 2, 1))
    near = np.minimum(angle, max_angle_deg)
    mean = turn[int(np.argmin(near.sum(axis=1)))]
    for _ in range(3):
        angle_deg = rotation_angle_deg(turn @ mean.T)
        inside = angle_deg <= max(max_angle_deg, float(angle_deg.min()))
        mean = nearest_rotation(turn[inside].mean(axis=0))
    return mean, rotation_angle_deg(turn @ mean.T)


def _common_positions(a: ClusterModel, b: ClusterModel, at_a: Index, at_b: Index) -> tuple[Array, Array, Array]:
    """Positions in both frames of the common photos, then of the common points, and the distance in the frame of b
    from which each is seen."""
    eye_a, eye_b = a.centres[at_a], b.centres[at_b]
    _, row_a, row_b = np.intersect1d(a.row, b.row, assume_unique=True, return_indices=True)
    point_a, point_b = np.unique(np.column_stack([a.point[row_a], b.point[row_b]]), axis=0).T
    some = slice(None, None, max(1, len(point_a) // _MAX_POINTS))
    seen_a, seen_b = a.points[point_a[some]], b.points[point_b[some]]
    middle = np.median(eye_b, axis=0)
    away = np.linalg.norm(seen_b - middle, axis=1)
    spread = float(np.median(np.linalg.norm(eye_b - middle, axis=1)))
    usual = float(np.median(away)) if len(away) else max(spread, 1e-300)
    distance = np.concatenate([np.full(len(eye_b), usual), np.maximum(away, 0.1 * usual)])
    return np.concatenate([eye_a, seen_a]), np.concatenate([eye_b, seen_b]), distance


def _robust_scale_and_translation(source: Array, target: Array, distance: Array) -> tuple[float, Array]:
    """s and t of least robust error |s x + t - y| / distance, by reweighting from medians on (Geman-McClure)."""
    middle, other = np.median(source, axis=0), np.median(target, axis=0)
    length = np.linalg.norm(source - middle, axis=1)
    far = length > 1e-9 * length.max(initial=1e-300)
    scale = float(np.median(np.linalg.norm(target - other, axis=1)[far] / length[far])) if far.any() else 1.0
    translation = other - scale * middle
    bound = np.inf
    for _ in range(_ITERATIONS):
        error = np.linalg.norm(scale * source + translation - target, axis=1) / distance
        bound = max(min(0.5 * bound, float(error.max())), 3.0 * float(np.median(error)), 1e-12)
        weight = 1.0 / (1.0 + (error / bound) ** 2) ** 2 / distance**2
        share = weight / weight.sum()
        mean, mean_target = share @ source, share @ target
        variance = float(share @ ((source - mean) ** 2).sum(axis=1))
        if variance > 0:
            scale = max(float(share @ ((source - mean) * (target - mean_target)).sum(axis=1)) / variance, 1e-12)
        translation = mean_target - scale * mean
    return scale, translation
