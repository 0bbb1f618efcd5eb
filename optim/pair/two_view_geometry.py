"""What the matches of two photos say about their geometry: epipolar geometry, a plane, a pure rotation, or nothing.

Everything is decided by the fundamental matrix and a homography, which need no intrinsics; focal lengths only serve
the relative pose offered on top. Estimation is seeded and led by the matches' weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, lgamma, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..cameras import FOCAL_GUESS
from .epipolar import ray_angles
from .pure_rotation import rotation_from_homography
from .two_view_ransac import PLANE_ERROR, fundamental_matrix, homography, relative_pose, shared_focal_pose

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Size = tuple[int, int]
Kind = Literal["general", "planar", "rotation", "none"]

FOCAL_RANGE = 0.3, 12.0
"""Focal lengths over the longer side that are believed: fields of view of 118 to 5 degrees."""

_TURNING_FOCAL_RANGE = 0.4, 4.0  # beyond, a turning camera looks like one that slides along a wall
_OFF_PLANE = 1.5 * PLANE_ERROR  # what is nearer may be noise
_TURNED = 0.9  # of the points on the plane that a rotation must explain as well


@dataclass(frozen=True, eq=False)
class TwoViewEstimate:
    """The geometry of photos a and b. Arrays are zero where the kind has none."""

    kind: Kind
    inliers: Mask
    fundamental: Array
    """(3, 3), x_b^T F x_a = 0 in pixels."""
    b_from_a: Array
    """(3, 4) rotation and unit translation between the cameras."""
    focals_px: Array
    """(2,) under which b_from_a was found."""
    focal_estimated: bool
    """Whether the pair itself has told them; else they were given or are the default field of view."""
    angle_deg: float
    """Median triangulation angle of the inliers."""


def estimate_two_view_geometry(
    xy_a: NDArray[np.floating],
    xy_b: NDArray[np.floating],
    weight: NDArray[np.floating],
    size_a: Size,
    size_b: Size,
    *,
    focals_px: tuple[float, float] | None = None,
    max_error_px: float = 1.5,
    false_alarms: float = 1e-3,
    min_inliers: int = 12,
    seed: int = 0,
) -> TwoViewEstimate:
    """Robust geometry of matches (m, 2), (m, 2) in pixels; those of larger weight are tried first.

    Without `focals_px`, photos of equal size are taken to share their focal length, which is then estimated from
    the pair; of photos of different size only the default field of view is assumed. Neither inliers nor the
    fundamental matrix depend on that. `max_error_px` is meant for photos of 1600 pixels (see `tolerance_scale`).
    A geometry is accepted if fewer than `false_alarms` as good ones are to be expected among random matches.
    """
    sizes = np.array([size_a, size_b], float)
    # Coordinates count from the centre in units of the tolerance: both photos have the same noise then, every
    # threshold is 1, and the numbers suit the solvers.
    unit = max_error_px * np.array([tolerance_scale(size_a), tolerance_scale(size_b)])
    order = np.argsort(-weight, kind="stable")
    a, b = (xy_a[order] - sizes[0] / 2.0) / unit[0], (xy_b[order] - sizes[1] / 2.0) / unit[1]

    def result(
        kind: Kind, rows: Mask, fundamental: Array, pose: Array, focals: Array, estimated: bool = False
    ) -> TwoViewEstimate:
        inliers = np.zeros(len(order), bool)
        inliers[order] = rows
        angle = np.median(ray_angles(a[rows], b[rows], pose[:, :3], *focals)) if kind in ("general", "planar") else 0.0
        return TwoViewEstimate(kind, inliers, fundamental, pose, focals * unit, estimated, float(np.degrees(angle)))

    def nothing() -> TwoViewEstimate:
        return result("none", np.zeros(len(order), bool), np.zeros((3, 3)), np.zeros((3, 4)), np.zeros(2))

    if len(order) < max(min_inliers, 8):
        return nothing()
    fundamental, fits = fundamental_matrix(a, b, seed)
    chance = max(line_probability(a), line_probability(b))
    count, significant = int(fits.sum()), log(false_alarms)
    if count < min_inliers or log_false_alarms(len(order), count, 7, chance) > significant:
        return nothing()

    shared = focals_px is None and size_a == size_b
    longer = sizes.max(axis=1) / unit
    guess = np.array(focals_px) / unit if focals_px else FOCAL_GUESS * longer
    in_pixels = _from_pixels(sizes[1], unit[1]).T @ fundamental @ _from_pixels(sizes[0], unit[0])
    in_pixels /= np.linalg.norm(in_pixels)

    plane, error = homography(a[fits], b[fits], seed)
    on_plane = np.flatnonzero(fits)[error < PLANE_ERROR]
    # Once the plane is given, two matches off it fix the epipoles: more of them must agree than chance would have.
    off_plane = int(np.sum(error > _OFF_PLANE))
    if log_false_alarms(len(order) - len(on_plane), off_plane, 2, chance) < significant:
        found = _shared_focal_pose(a[fits], b[fits], longer[0], seed) if shared else None
        pose, focals = found or (relative_pose(a[fits], b[fits], guess, seed), guess)
        return result("general", fits, in_pixels, pose, focals, found is not None)

    trials = _focal_trials(guess, 0.87, 1.15) if focals_px else _focal_trials(longer, *_TURNING_FOCAL_RANGE)
    if shared:
        trials = trials[trials[:, 0] == trials[:, 1]]
    rotation, focals, error = rotation_from_homography(plane, a[on_plane], b[on_plane], trials)
    if np.mean(error < PLANE_ERROR) > _TURNED:
        turned = np.isin(np.arange(len(order)), on_plane)
        return result("rotation", turned, np.zeros((3, 3)), np.column_stack([rotation, np.zeros(3)]), focals)
    return result("planar", fits, in_pixels, relative_pose(a[fits], b[fits], guess, seed), guess)


def tolerance_scale(size: Size) -> float:
    """How exact key points are, 1 for photos of 1600 pixels: larger photos are rarely sharper for their size, and
    small ones not blurred without end."""
    return max(max(size) / 1600.0, 0.6)


def line_probability(xy: Array) -> float:
    """Chance that a random point among points like these (n, 2) lies within 1 of a given line across them: strip over
    area of the rectangle that has their covariance, so that a small object on a blank ground is no evidence."""
    spread = np.cov(xy.T)
    diagonal, area = np.sqrt(12.0 * np.trace(spread)), 12.0 * np.sqrt(max(float(np.linalg.det(spread)), 0.0))
    return float(min(1.0, 2.0 * diagonal / area)) if area > 0.0 else 1.0


def log_false_alarms(matches: int, inliers: int, sample: int, probability: float) -> float:
    """Natural logarithm of how many models through `sample` matches with so many inliers are to be expected when
    every other match fits by chance alone, with this probability (the bound of a-contrario estimation)."""
    if inliers <= sample:
        return inf
    models = log(matches - sample) + _log_choose(matches, inliers) + _log_choose(inliers, sample)
    return models + (inliers - sample) * log(probability)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _shared_focal_pose(a: Array, b: Array, longer: float, seed: int) -> tuple[Array, Array] | None:
    pose, focal = shared_focal_pose(a, b, seed)
    if not FOCAL_RANGE[0] * longer <= focal <= FOCAL_RANGE[1] * longer:
        return None
    return pose, np.array([focal, focal])


def _focal_trials(center: Array, low: float, high: float) -> Array:
    """(169, 2) pairs of focal lengths around the center."""
    ratios = np.geomspace(low, high, 13)
    return np.stack(np.meshgrid(center[0] * ratios, center[1] * ratios), axis=-1).reshape(-1, 2)


def _from_pixels(size: Array, unit: float) -> Array:
    return np.array([[1.0, 0.0, -size[0] / 2.0], [0.0, 1.0, -size[1] / 2.0], [0.0, 0.0, unit]]) / unit
