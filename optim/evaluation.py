"""Errors of estimated camera poses against true ones, independent of the world frame and scale of the estimate.

Poses are `cam_from_world`, (n, 3, 4), row by row the same photo in both arrays; a row of NaN in the estimate means that
the photo is not registered. Pair scores count every unordered pair of photos, and a pair with such a photo counts as
failed, so that leaving photos out never helps. Centre errors are measured after the best similarity.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .arrays import Array, Mask
from .rotations import nearest_rotation, rotation_angle_deg
from .similarity import direction_angle_deg, fit_similarity, flatness

SHARE_THRESHOLDS_DEG = (1, 3, 5, 15)
AREA_THRESHOLDS_DEG = (1, 3, 5, 10, 30)
SMALLEST_BASELINE = 1e-4
"""Fraction of the extent of the true centres: closer pairs have no direction of their baseline, only a rotation."""
FLATTEST = 1e-3
"""Flatness of the estimated centres below which they count as a line, which leaves the rotation about it open."""


@dataclass(frozen=True, eq=False)
class PoseErrors:
    """Pose errors; None where a figure is undefined: no pair with a baseline, under three photos, unknown focals."""

    photos: int
    registered: int
    pairs: int
    pairs_without_baseline: int
    rra: dict[int, float | None]
    """By threshold in degrees: fraction of the pairs with a smaller error of their relative rotation."""
    rta: dict[int, float | None]
    """By threshold in degrees: fraction of the pairs with a baseline with a smaller error of its direction."""
    auc: dict[int, float | None]
    """By threshold in degrees: area under the curve "share of pairs better than x" for x from 0 to it, at most 1."""
    maa30: float | None
    """Mean over the whole degrees 1 to 30 of the share of pairs better than that."""
    relative_rotation_median_deg: float | None
    relative_direction_median_deg: float | None
    """Medians over the pairs with both photos registered."""
    extent: float
    """Largest distance between two true centres."""
    aligned_by: Literal["centres", "orientations"] | None
    """What determines the rotation of the similarity; centres on a line do not, orientations do."""
    scale: float | None
    """Scale of the similarity that maps the estimate onto the truth."""
    centre_error: Array
    """(n,) in units of the truth; NaN for photos not registered."""
    rotation_error_deg: Array
    """(n,) after the similarity; NaN for photos not registered."""
    focal_error: float | None
    """Median over the photos of the relative error of focal length over longer side."""

    @property
    def ate_rmse(self) -> float | None:
        """Root mean square of the centre errors: the absolute trajectory error."""
        errors = self._registered(self.centre_error)
        return float(np.sqrt(np.mean(errors**2))) if errors.size else None

    @property
    def ate_median(self) -> float | None:
        errors = self._registered(self.centre_error)
        return float(np.median(errors)) if errors.size else None

    @property
    def ate_max(self) -> float | None:
        errors = self._registered(self.centre_error)
        return float(errors.max()) if errors.size else None

    @property
    def ate_relative(self) -> float | None:
        """ATE over the extent."""
        return None if self.ate_rmse is None or self.extent == 0 else self.ate_rmse / self.extent

    @property
    def rotation_mean_deg(self) -> float | None:
        errors = self._registered(self.rotation_error_deg)
        return float(errors.mean()) if errors.size else None

    @property
    def rotation_max_deg(self) -> float | None:
        errors = self._registered(self.rotation_error_deg)
        return float(errors.max()) if errors.size else None

    @staticmethod
    def _registered(errors: Array) -> Array:
        return errors[np.isfinite(errors)]


def evaluate_poses(
    truth: ArrayLike,
    estimate: ArrayLike,
    true_focal: ArrayLike | None = None,
    focal: ArrayLike | None = None,
    unsigned: bool = False,
) -> PoseErrors:
    """Compare estimated poses (n, 3, 4) with true ones (n, 3, 4).

    Focal lengths (n,) are given over the longer side of the photo, NaN where unknown. `unsigned` folds direction errors
    to 0..90 degrees, as evaluations of two-view methods do that cannot tell a baseline from its opposite.
    """
    truth, estimate = np.asarray(truth, float), np.asarray(estimate, float)
    if truth.shape != estimate.shape or truth.shape[1:] != (3, 4):
        raise ValueError(f"poses must be two arrays of shape (n, 3, 4), got {truth.shape} and {estimate.shape}")
    n = len(truth)
    registered = np.isfinite(estimate).all(axis=(1, 2))
    true_rotation, true_centre = rotation_and_centre(truth)
    rotation, centre = rotation_and_centre(np.where(registered[:, None, None], estimate, np.eye(3, 4)))

    # The turn from the estimated world to the true one that each camera suggests on its own; errors are disagreements.
    turn = _transposed(true_rotation) @ rotation
    both, rotation_deg, direction_deg, distance = _pair_errors(turn, true_centre, centre, registered)
    extent = float(distance.max(initial=0.0))
    directed = distance > SMALLEST_BASELINE * extent
    if unsigned:
        direction_deg = np.minimum(direction_deg, 180.0 - direction_deg)
    rotation_deg, direction_deg = (np.where(both, angle, np.inf) for angle in (rotation_deg, direction_deg))
    worse_deg = np.where(directed, np.maximum(rotation_deg, direction_deg), rotation_deg)

    centre_error, rotation_error_deg = np.full(n, np.nan), np.full(n, np.nan)
    aligned_by: Literal["centres", "orientations"] | None = None
    scale = None
    if registered.sum() >= 3:
        similarity = fit_similarity(centre[registered], true_centre[registered])
        aligned_by, scale, world_turn = "centres", similarity.scale, similarity.rotation
        centre_error[registered] = np.linalg.norm(similarity(centre[registered]) - true_centre[registered], axis=1)
        if flatness(centre[registered]) < FLATTEST:
            aligned_by = "orientations"
            world_turn = nearest_rotation(turn[registered].sum(axis=0))
        rotation_error_deg[registered] = rotation_angle_deg(turn[registered] @ world_turn.T)

    return PoseErrors(
        photos=n,
        registered=int(registered.sum()),
        pairs=len(distance),
        pairs_without_baseline=int((~directed).sum()),
        rra={t: _mean(rotation_deg < t) for t in SHARE_THRESHOLDS_DEG},
        rta={t: _mean(direction_deg[directed] < t) for t in SHARE_THRESHOLDS_DEG},
        auc={t: area_under_curve(worse_deg, t) for t in AREA_THRESHOLDS_DEG},
        maa30=_mean(worse_deg[:, None] < np.arange(1, 31)),
        relative_rotation_median_deg=_median(rotation_deg[both]),
        relative_direction_median_deg=_median(direction_deg[both & directed]),
        extent=extent,
        aligned_by=aligned_by,
        scale=scale,
        centre_error=centre_error,
        rotation_error_deg=rotation_error_deg,
        focal_error=_focal_error(true_focal, focal, registered),
    )


def _pair_errors(turn: Array, true_centre: Array, centre: Array, registered: Mask) -> tuple[Mask, Array, Array, Array]:
    """For every pair: whether both are registered, errors of rotation and direction in degrees, and true distance.

    One camera at a time against all before it, so that memory stays at a few numbers per pair.
    """
    blocks: list[tuple[Mask, Array, Array, Array]] = [(np.zeros(0, bool), np.zeros(0), np.zeros(0), np.zeros(0))]
    for k in range(1, len(turn)):
        true_baseline, baseline = true_centre[:k] - true_centre[k], centre[:k] - centre[k]
        # Camera k would see the estimated baseline where its own turn puts it.
        direction_deg = direction_angle_deg(true_baseline, baseline @ turn[k].T)
        rotation_deg = rotation_angle_deg(turn[k] @ _transposed(turn[:k]))
        distance = np.linalg.norm(true_baseline, axis=1)
        blocks.append((registered[:k] & registered[k], rotation_deg, direction_deg, distance))
    both, rotation_deg, direction_deg, distance = (np.concatenate(column) for column in zip(*blocks, strict=True))
    return both, rotation_deg, direction_deg, distance


def rotation_and_centre(cam_from_world: Array) -> tuple[Array, Array]:
    """Rotations (n, 3, 3), cleaned of rounding, and camera centres in the world (n, 3)."""
    rotation = nearest_rotation(cam_from_world[:, :, :3])
    return rotation, -_seen_from(_transposed(rotation), cam_from_world[:, :, 3])


def area_under_curve(errors: Array, threshold: float) -> float | None:
    """Exact area, over the threshold, under the curve "share of errors below x", x from 0 to the threshold."""
    # Each error e adds a step of height 1/n that is threshold - e wide.
    return _mean(np.clip(1.0 - errors / threshold, 0.0, 1.0))


def _focal_error(true_focal: ArrayLike | None, focal: ArrayLike | None, registered: Mask) -> float | None:
    if true_focal is None or focal is None:
        return None
    true_focal, focal = np.asarray(true_focal, float), np.asarray(focal, float)
    known = registered & np.isfinite(true_focal) & np.isfinite(focal)
    return _median(np.abs(focal[known] / true_focal[known] - 1.0))


def _transposed(matrices: Array) -> Array:
    return np.swapaxes(matrices, -1, -2)


def _seen_from(rotations: Array, vectors: Array) -> Array:
    seen: Array = np.einsum("nij,nj->ni", rotations, vectors)
    return seen


def _mean(values: NDArray[np.generic]) -> float | None:
    return float(np.mean(values)) if values.size else None  # type: ignore[arg-type]


def _median(values: Array) -> float | None:
    return float(np.median(values)) if values.size else None
