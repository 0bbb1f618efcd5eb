"""Focal lengths from predicted point maps: one per prediction, and one per camera out of many predictions.

A point map holds the 3D point of every pixel in the frame of the photo's camera. Pixels are those of networks: whole
numbers at their centres, the principal point at (width / 2, height / 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import radians, tan

import numpy as np

from ..arrays import AnyArray, Array
from ..bundle.intrinsics import Intrinsics
from ..cameras import FX
from ..option_ranges import Positive
from ..weighted_median import weighted_median
from .pair_depths import PairDepths

_WEISZFELD_ITERATIONS = 10
_IRLS_ITERATIONS = 50


@dataclass(frozen=True)
class PredictedFocalOptions:
    """Bounds on the relative standard deviation of focal lengths that predictions imply."""

    min_sigma: Positive = 0.01
    """Predictions share their bias, so that even perfect agreement is no proof of more than a percent."""
    max_sigma: Positive = 0.3
    """For the default field of view, and for predictions that disagree altogether."""


_DEFAULTS = PredictedFocalOptions()


def ray_slopes(points: AnyArray, step: int = 1) -> tuple[Array, Array]:
    """Pixels (h * w, 2) relative to the principal point, and slopes (x/z, y/z) of a point map (h, w, 3).

    Slopes of invalid points are zero. With a `step` the map holds the middle pixel of each block of step x step.
    """
    height, width, _ = points.shape
    y, x = np.mgrid[:height, :width] * step + step // 2
    offset = np.stack([x - step * width / 2, y - step * height / 2], axis=-1).reshape(-1, 2)
    with np.errstate(all="ignore"):
        slope = (points[..., :2].astype(np.float64) / points[..., 2:]).reshape(-1, 2)
    slope[~np.isfinite(slope).all(axis=1)] = 0.0
    return offset, slope


def focal_weiszfeld(points: AnyArray) -> float:
    """Focal length f in pixels that minimises sum |offset - f slope| over a point map (h, w, 3), as DUSt3R does.

    A few points near the plane z = 0 have slopes so large that they alone decide: see `focal_robust`.
    """
    offset, slope = ray_slopes(points)
    along, square = (offset * slope).sum(axis=1), (slope * slope).sum(axis=1)
    focal = along.sum() / square.sum()
    for _ in range(_WEISZFELD_ITERATIONS):
        weight = 1.0 / np.maximum(np.linalg.norm(offset - focal * slope, axis=1), 1e-8)
        focal = (weight * along).sum() / (weight * square).sum()
    return float(focal)


def focal_robust(points: AnyArray, confidence: AnyArray | None = None, step: int = 1) -> float:
    """Robust focal length in pixels of a point map (h, w, 3); `step` as in `ray_slopes`.

    Every point implies a focal length, |offset|^2 / (offset . slope). Their robust mean is taken on a logarithmic
    scale, on which far too large and far too small values count alike. An error of one pixel in the offset shifts the
    logarithm by 1 / |offset|, so residuals are compared in pixels, under a Geman-McClure loss. NaN if no point implies
    a positive focal length.
    """
    offset, slope = ray_slopes(points, step)
    radius, along = np.linalg.norm(offset, axis=1), (offset * slope).sum(axis=1)
    valid = (along > 0.0) & (radius > 0.5) & (points[..., 2].ravel() > 0.0)
    radius = radius[valid]
    log_focal = np.log(radius**2 / along[valid])
    prior_weight = np.ones(len(radius)) if confidence is None else confidence.ravel()[valid].astype(np.float64)
    if not len(log_focal):
        return float("nan")
    mean = weighted_median(log_focal, radius * prior_weight)
    for _ in range(_IRLS_ITERATIONS):
        error_px = radius * np.abs(log_focal - mean)
        noise_px = max(1.4826 * weighted_median(error_px, prior_weight), 1e-6)
        weight = prior_weight * (radius / (1.0 + (error_px / noise_px) ** 2)) ** 2
        before, mean = mean, float((weight * log_focal).sum() / weight.sum())
        if abs(mean - before) < 1e-9:
            break
    return float(np.exp(mean))


def plausible_focal(focal_px: float, width: int, height: int, limits: tuple[float, float] = (0.5, 3.5)) -> float:
    """The focal length clipped to `limits`, in units of the focal length of a 60 degree field of view.

    A focal length that is not finite becomes that of 60 degrees along the longer side.
    """
    unit = max(width, height) / (2.0 * tan(radians(30.0)))
    return float(np.clip(focal_px, limits[0] * unit, limits[1] * unit)) if np.isfinite(focal_px) else unit


def focals_from_pair_depths(
    depths: PairDepths, intrinsics: Intrinsics, sigma: Array, options: PredictedFocalOptions = _DEFAULTS
) -> tuple[Intrinsics, Array]:
    """Intrinsics with the median focal length of each camera's predictions, and its relative sigma (cameras,).

    Medians, as some predictions are far off. Cameras with a known focal length, `sigma` (cameras,) finite, keep it.
    """
    focal, sigma = intrinsics.values[:, FX].copy(), sigma.copy()
    log_focal = np.log(depths.focal_px.ravel())
    camera = np.where(np.isfinite(log_focal), intrinsics.camera_of_photo[depths.pairs].ravel(), -1)
    for k in np.flatnonzero(~np.isfinite(sigma)):
        own = log_focal[camera == k]
        sigma[k] = options.max_sigma
        if len(own):
            focal[k] = np.exp(np.median(own))
            spread = 1.4826 * np.median(np.abs(own - np.median(own)))
            sigma[k] = np.clip(spread, options.min_sigma, options.max_sigma)
    return intrinsics.with_focals(focal), sigma
