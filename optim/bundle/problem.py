"""The data of bundle adjustment: the bundle itself, priors of its intrinsics, options and summary.

Intrinsics carry Gaussian priors. Photos of a turntable or of one wall leave focal length, principal point and
distortion nearly undetermined together; least squares then explains tiny systematic errors of the key points by absurd
intrinsics. `IntrinsicsPrior.noise_px` is deliberately far larger than the scatter of the key points: such errors do not
average out, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Index
from ..cameras import fisheyes, project
from ..parallel import chunk_map, even_slices
from ..rigs import Rigs
from .losses import CAUCHY, Loss
from .reprojection import MIN_DEPTH, transform_points

ROWS_AT_ONCE = 1 << 14
"""Observations computed together: what is computed in between stays in the cache."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """Cameras, poses, points and observations as plain arrays. Photos without a pose have NaN and no observations."""

    models: tuple[str, ...]
    """COLMAP model name per camera."""
    intrinsics: Array
    """(cameras, 8) as in optim.cameras."""
    camera_of_photo: Index
    """(photos,) camera of each photo."""
    cam_from_world: Array
    """(photos, 3, 4)."""
    points: Array
    """(points, 3) world."""
    xy: Array
    """(m, 2) observed pixels; observations are sorted by point."""
    photo: Index
    """(m,) photo of each observation."""
    point: Index
    """(m,) point of each observation."""
    row: Index
    """(m,) key point of each observation, a row of the collection's stacked key points."""
    rigs: Rigs | None = None
    """Which photos are fixed to each other; None: each moves by itself."""


@dataclass(frozen=True, eq=False)
class IntrinsicsPrior:
    """Gaussian prior of the intrinsics: noise_px^2 / 2 * sum ((k - mean) / sigma)^2 is added to the cost."""

    mean: Array
    """(cameras, 8)."""
    sigma: Array
    """(cameras, 8); infinite where nothing is known."""
    noise_px: float = 1.5
    """Reprojection error that an error of one sigma weighs as much as."""
    min_photos_for_principal: int = 4
    """Photos that must share a camera for its principal point to be free, see `IntrinsicsPriorOptions`."""


@dataclass(frozen=True)
class BundleOptions:
    """What is free in bundle adjustment, its loss, and when it stops. Points and translations are always free."""

    focal: bool = True
    principal: bool = False
    distortion: bool = False
    rotations: bool = True
    loss: Loss = CAUCHY
    """Robust loss of the reprojection errors; `losses.loss_by_name` has them all."""
    loss_px: float = 0.5
    """Scale of the loss: errors well beyond it have little influence."""
    max_track_length: int = 40
    """Points that more photos see are taken for several, on a CPU: see `split_long_tracks`."""
    max_iterations: int = 30
    """Steps tried, including those that were rejected."""
    tolerance: float = 1e-5
    """Stop when an accepted step lowers the cost by less than this fraction of it."""


@dataclass(frozen=True)
class BundleSummary:
    """Costs and steps of a bundle adjustment."""

    initial_cost: float
    final_cost: float
    """Sum over observations of loss_px^2 / 2 * rho(|error / sigma|^2 / loss_px^2), in square pixels, plus priors."""
    iterations: int
    """Steps tried."""
    costs: tuple[float, ...]
    """Before the first step, and after each one that was accepted."""


def camera_points(bundle: Bundle) -> Array:
    """(m, 3) observed points in camera coordinates of the photo that observes them."""
    poses = _packed_poses(bundle)
    return _by_parts(bundle, 3, lambda rows: np.stack(_transformed(bundle, poses, rows), axis=1))


def errors_px(bundle: Bundle) -> Array:
    """(m,) reprojection error; infinite for points behind their camera."""
    poses = _packed_poses(bundle)
    return _by_parts(bundle, 1, lambda rows: _errors_px(bundle, poses, rows)[:, None])[:, 0]


def _errors_px(bundle: Bundle, poses: Array, rows: slice) -> Array:
    y = np.stack(_transformed(bundle, poses, rows), axis=1)
    front = y[:, 2] > MIN_DEPTH
    y = np.where(front[:, None], y, 1.0)
    camera = bundle.camera_of_photo[bundle.photo[rows]]
    offset = project(y, bundle.intrinsics[camera], fisheyes(bundle.models)[camera]) - bundle.xy[rows]
    return np.where(front, np.hypot(offset[:, 0], offset[:, 1]), np.inf)


def _packed_poses(bundle: Bundle) -> Array:
    """(12, photos) poses as `transform_points` takes them."""
    return np.ascontiguousarray(bundle.cam_from_world.reshape(-1, 12).T)


def _transformed(bundle: Bundle, poses: Array, rows: slice) -> list[Array]:
    return transform_points(poses[:, bundle.photo[rows]], bundle.points.T[:, bundle.point[rows]])[1]


def _by_parts(bundle: Bundle, width: int, compute: Callable[[slice], Array]) -> Array:
    """(m, width) values of all observations, computed part by part: intermediate arrays are many times as large."""
    out = np.empty((len(bundle.xy), width))

    def fill(rows: slice) -> None:
        out[rows] = compute(rows)

    chunk_map(fill, even_slices(len(out), ROWS_AT_ONCE))
    return out
