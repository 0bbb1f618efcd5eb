"""Estimate the two-view geometry of a photo pair without intrinsics: general, planar, rotation only, or none.

A fundamental matrix and a homography decide about the kind and the inliers; neither needs intrinsics. Focal lengths
only serve the relative pose that is returned as well. Whether a geometry is significant is an a-contrario test: among
n matches, k inliers of a model through s of them, each of which random matches meet with probability p, are accepted if

    NFA = (n - s) C(n, k) C(k, s) p^(k - s) < false_alarms,

the expected number of such models among random matches (Moisan and Stival 2004).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, lgamma, log
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Mask
from ..cameras import FOCAL_GUESS
from ..option_ranges import Positive, Share, check_ascending
from .epipolar import ray_angles
from .pure_rotation import rotation_from_homography
from .two_view_ransac import (
    RansacOptions,
    estimate_fundamental,
    estimate_homography,
    estimate_relative_pose,
    estimate_shared_focal_pose,
)

TwoViewKind = Literal["general", "planar", "rotation", "none"]


@dataclass(frozen=True)
class TwoViewOptions:
    """Thresholds that decide about the kind of a two-view geometry. Errors are in units of `max_error_px`."""

    max_plane_error: Positive = 2.0
    """Transfer error of a match on the plane: larger than one, as a homography constrains both coordinates, an epipolar
    line one."""
    min_off_plane_error: Positive = 3.0
    """Transfer error of a match that is evidence of depth; smaller ones may be noise."""
    min_rotation_share: Share = 0.9
    """Share of the matches on the plane that a pure rotation must explain as well."""
    focal_range: tuple[Positive, Positive] = (0.3, 12.0)
    """Plausible focal lengths over the longer side: fields of view of 118 to 5 degrees."""
    rotation_focal_range: tuple[Positive, Positive] = (0.4, 4.0)
    """The same for a camera that only rotates: beyond, it cannot be told from one that moves along a wall."""
    known_focal_range: tuple[Positive, Positive] = (0.87, 1.15)
    """Search range around a known focal length, as a factor: EXIF values are rounded and zooms breathe."""
    reference_side_px: Positive = 1600.0
    """Longer side of the photos that `max_error_px` refers to."""
    min_error_scale: Positive = 0.6
    """Smallest scale of the tolerance: photos much smaller than the reference are not blurred in proportion."""
    ransac: RansacOptions = field(default_factory=RansacOptions)
    """Effort of the robust estimators."""

    def __post_init__(self) -> None:
        check_ascending(self, "focal_range", "rotation_focal_range", "known_focal_range")


_DEFAULTS = TwoViewOptions()


@dataclass(frozen=True, eq=False)
class TwoViewEstimate:
    """Two-view geometry of photos a and b. Arrays are zero if the kind does not define them."""

    kind: TwoViewKind
    inliers: Mask
    """(m,) whether a match obeys the geometry."""
    fundamental: Array
    """(3, 3), x_b^T F x_a = 0 in pixels."""
    b_from_a: Array
    """(3, 4) relative pose with unit translation; the translation of a pure rotation is zero."""
    focals_px: Array
    """(2,) focal lengths under which b_from_a was estimated."""
    focal_estimated: bool
    """Whether they were estimated from the pair itself; else they were given or are the default field of view."""
    angle_deg: float
    """Median triangulation angle of the inliers in degrees."""


def estimate_two_view_geometry(
    xy_a: NDArray[np.floating],
    xy_b: NDArray[np.floating],
    weight: NDArray[np.floating],
    size_a: tuple[int, int],
    size_b: tuple[int, int],
    *,
    focals_px: tuple[float, float] | None = None,
    max_error_px: float = 1.5,
    false_alarms: float = 1e-3,
    min_inliers: int = 12,
    seed: int = 0,
    options: TwoViewOptions = _DEFAULTS,
) -> TwoViewEstimate:
    """Estimate the two-view geometry of matches xy_a (m, 2), xy_b (m, 2) in pixels with weights (m,).

    Matches of larger weight are sampled first. Sizes are (width, height). `max_error_px` is the inlier threshold
    (Sampson distance) in photos of 1600 pixels, see `error_scale`. `false_alarms` is the accepted NFA, see above.
    Without `focals_px`, photos of equal size are assumed to share a focal length, which is estimated from the pair;
    photos of different sizes get the default field of view. Neither inliers nor `fundamental` depend on that.
    """
    sizes = np.array([size_a, size_b], float)
    # Coordinates are relative to the centre, in units of the tolerance: both photos then have the same noise, the
    # threshold is 1, and the numbers are well scaled for the solvers.
    unit = max_error_px * np.array([error_scale(size_a, options), error_scale(size_b, options)])
    order = np.argsort(-weight, kind="stable")
    a, b = (xy_a[order] - sizes[0] / 2.0) / unit[0], (xy_b[order] - sizes[1] / 2.0) / unit[1]

    def result(
        kind: TwoViewKind, rows: Mask, fundamental: Array, pose: Array, focals: Array, estimated: bool = False
    ) -> TwoViewEstimate:
        inliers = np.zeros(len(order), bool)
        inliers[order] = rows
        angle = np.median(ray_angles(a[rows], b[rows], pose[:, :3], *focals)) if kind in ("general", "planar") else 0.0
        return TwoViewEstimate(kind, inliers, fundamental, pose, focals * unit, estimated, float(np.degrees(angle)))

    def nothing() -> TwoViewEstimate:
        return result("none", np.zeros(len(order), bool), np.zeros((3, 3)), np.zeros((3, 4)), np.zeros(2))

    if len(order) < max(min_inliers, 8):
        return nothing()
    fundamental, inlier = estimate_fundamental(a, b, seed, options.ransac)
    chance = max(line_probability(a), line_probability(b))
    count, max_log_nfa = int(inlier.sum()), log(false_alarms)
    if count < min_inliers or log_false_alarms(len(order), count, 7, chance) > max_log_nfa:
        return nothing()

    shared = focals_px is None and size_a == size_b
    longer = sizes.max(axis=1) / unit
    guess = np.array(focals_px) / unit if focals_px else FOCAL_GUESS * longer
    in_pixels = _from_pixels(sizes[1], unit[1]).T @ fundamental @ _from_pixels(sizes[0], unit[0])
    in_pixels /= np.linalg.norm(in_pixels)

    plane, error = estimate_homography(a[inlier], b[inlier], seed, options.max_plane_error, options.ransac)
    on_plane = np.flatnonzero(inlier)[error < options.max_plane_error]
    # Given the plane, two matches off it determine the epipoles (s = 2): the others must agree beyond chance.
    off_plane = int(np.sum(error > options.min_off_plane_error))
    if log_false_alarms(len(order) - len(on_plane), off_plane, 2, chance) < max_log_nfa:
        found = _shared_focal_pose(a[inlier], b[inlier], longer[0], seed, options) if shared else None
        pose, focals = found or (estimate_relative_pose(a[inlier], b[inlier], guess, seed, options.ransac), guess)
        return result("general", inlier, in_pixels, pose, focals, found is not None)

    center, limits = (guess, options.known_focal_range) if focals_px else (longer, options.rotation_focal_range)
    trials = _focal_trials(center, *limits)
    if shared:
        trials = trials[trials[:, 0] == trials[:, 1]]
    rotation, focals, error = rotation_from_homography(plane, a[on_plane], b[on_plane], trials)
    if np.mean(error < options.max_plane_error) > options.min_rotation_share:
        rotated = np.isin(np.arange(len(order)), on_plane)
        return result("rotation", rotated, np.zeros((3, 3)), np.column_stack([rotation, np.zeros(3)]), focals)
    pose = estimate_relative_pose(a[inlier], b[inlier], guess, seed, options.ransac)
    return result("planar", inlier, in_pixels, pose, guess)


def error_scale(size: tuple[int, int], options: TwoViewOptions = _DEFAULTS) -> float:
    """Scale of the tolerance of a photo (width, height), 1 for a longer side of `reference_side_px`.

    It grows with the photo, as large photos are rarely sharper in proportion, and has a lower limit.
    """
    return max(max(size) / options.reference_side_px, options.min_error_scale)


def line_probability(xy: Array) -> float:
    """Probability p that a random point lies within 1 of a line: area of that strip over the area of the points.

    The area is that of the rectangle with the covariance of the points (n, 2): matches on a small object on a blank
    ground are less evidence than matches all over the photo.
    """
    spread = np.cov(xy.T)
    diagonal, area = np.sqrt(12.0 * np.trace(spread)), 12.0 * np.sqrt(max(float(np.linalg.det(spread)), 0.0))
    return float(min(1.0, 2.0 * diagonal / area)) if area > 0.0 else 1.0


def log_false_alarms(matches: int, inliers: int, sample: int, probability: float) -> float:
    """Natural logarithm of the NFA: n = matches, k = inliers, s = sample, p = probability; see the module's head."""
    if inliers <= sample:
        return inf
    models = log(matches - sample) + _log_choose(matches, inliers) + _log_choose(inliers, sample)
    return models + (inliers - sample) * log(probability)


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def _shared_focal_pose(
    a: Array, b: Array, longer: float, seed: int, options: TwoViewOptions
) -> tuple[Array, Array] | None:
    """Relative pose and shared focal length; None if the focal length is implausible."""
    pose, focal = estimate_shared_focal_pose(a, b, seed, options.ransac)
    if not options.focal_range[0] * longer <= focal <= options.focal_range[1] * longer:
        return None
    return pose, np.array([focal, focal])


def _focal_trials(center: Array, low: float, high: float) -> Array:
    """(169, 2) pairs of focal lengths: 13 factors from `low` to `high` for either photo."""
    ratios = np.geomspace(low, high, 13)
    return np.stack(np.meshgrid(center[0] * ratios, center[1] * ratios), axis=-1).reshape(-1, 2)


def _from_pixels(size: Array, unit: float) -> Array:
    """(3, 3) from pixels to coordinates relative to the centre, in units of the tolerance."""
    return np.array([[1.0, 0.0, -size[0] / 2.0], [0.0, 1.0, -size[1] / 2.0], [0.0, 0.0, unit]]) / unit
