"""A reconstruction as plain arrays, what is believed of its cameras, and how it is to be adjusted.

Intrinsics carry Gaussian priors. Photos of a turntable or of one wall leave focal length, principal point and
distortion nearly undetermined together; least squares then explains tiny systematic errors of the key points by
absurd lenses. `Prior.noise_px` is deliberately far larger than the scatter of the key points: such errors do not
average out, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..cameras import fisheyes, project
from .losses import CAUCHY, Loss
from .reprojection import NEAREST, carry

Array = NDArray[np.float64]
Index = NDArray[np.int64]

CHUNK = 1 << 16
"""Observations looked at together; bounds memory."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A reconstruction as plain arrays. Photos without a pose have NaN and no observations."""

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
    point: Index
    """(m,) who sees what."""
    row: Index
    """(m,) key point of the observation, a row of the collection's stacked key points."""


@dataclass(frozen=True, eq=False)
class IntrinsicsPrior:
    """What is believed of the intrinsics before looking: Gaussians around `mean`; infinite sigma believes nothing."""

    mean: Array
    sigma: Array
    """(cameras, 8)."""
    noise_px: float = 1.5


@dataclass(frozen=True)
class BundleOptions:
    """What may move, and how to get there."""

    focal: bool = True
    principal: bool = False
    distortion: bool = False
    rotations: bool = True
    loss: Loss = CAUCHY
    loss_px: float = 0.5
    """Scale of the loss: errors well beyond it hardly pull."""
    max_iterations: int = 30
    tolerance: float = 1e-5
    """Stops when an accepted step lowers the cost by less than this share."""


@dataclass(frozen=True)
class BundleSummary:
    initial_cost: float
    final_cost: float
    """Sum over observations of loss_px**2 / 2 * rho(error**2 / loss_px**2), in square pixels, priors included;
    errors are divided by sigma where one is given."""
    iterations: int
    """Steps tried."""
    costs: tuple[float, ...]
    """Before the first step, and after each one that was taken."""


def camera_points(bundle: Bundle) -> Array:
    """(m, 3) observed points in the coordinates of the photo that sees them."""
    return _of_observations(bundle, 3, lambda part: np.stack(_carried(bundle, part), axis=1))


def errors_px(bundle: Bundle) -> Array:
    """(m,) reprojection error; infinite for points behind their camera."""
    return _of_observations(bundle, 1, lambda part: _errors_px(bundle, part)[:, None])[:, 0]


def _errors_px(bundle: Bundle, part: slice) -> Array:
    y = np.stack(_carried(bundle, part), axis=1)
    front = y[:, 2] > NEAREST
    y = np.where(front[:, None], y, 1.0)
    camera = bundle.camera_of_photo[bundle.photo[part]]
    offset = project(y, bundle.intrinsics[camera], fisheyes(bundle.models)[camera]) - bundle.xy[part]
    return np.where(front, np.hypot(offset[:, 0], offset[:, 1]), np.inf)


def _carried(bundle: Bundle, part: slice) -> list[Array]:
    poses = np.ascontiguousarray(bundle.cam_from_world.reshape(-1, 12).T)
    return carry(poses[:, bundle.photo[part]], bundle.points.T[:, bundle.point[part]])[1]


def _of_observations(bundle: Bundle, width: int, of: Callable[[slice], Array]) -> Array:
    """(m, width) put together from parts: what is computed on the way is many times as large."""
    out = np.empty((len(bundle.xy), width))
    for begin in range(0, len(out), CHUNK):
        part = slice(begin, begin + CHUNK)
        out[part] = of(part)
    return out
