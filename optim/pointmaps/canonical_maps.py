"""Point maps: the 3D point that a network predicts for every pixel of a photo, in the camera's own frame.

Pixels are the network's: integers at their centres, the principal point in the middle (width / 2, height / 2).
"""

from __future__ import annotations

from math import radians, tan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.floating]

WEISZFELD_STEPS = 10
FOCAL_RANGE = (0.5, 3.5)
"""By the focal length of a field of view of 60 degrees along the longer side."""

BASE_CONFIDENCE = 0.999
"""Networks give 1 to pixels of which they know nothing."""


def rays(points: Floats, step: int = 1) -> tuple[Array, Array]:
    """Of a point map (h, w, 3): (h * w, 2) pixels from the principal point, and x/z, y/z; zeros where there is none.

    With a `step` the map holds the middle pixel of each block of so many by so many.
    """
    height, width, _ = points.shape
    y, x = np.mgrid[:height, :width] * step + step // 2
    offset = np.stack([x - step * width / 2, y - step * height / 2], axis=-1).reshape(-1, 2)
    with np.errstate(all="ignore"):
        ray = (points[..., :2].astype(np.float64) / points[..., 2:]).reshape(-1, 2)
    ray[~np.isfinite(ray).all(axis=1)] = 0.0
    return offset, ray


def focal_weiszfeld(points: Floats) -> float:
    """Focal length in pixels with the least sum of distances between pixels and projected points of a map (h, w, 3).

    A few points near the plane z = 0 project so far away that they alone decide: see `focal_robust`.
    """
    offset, ray = rays(points)
    along, square = (offset * ray).sum(axis=1), (ray * ray).sum(axis=1)
    focal = along.sum() / square.sum()
    for _ in range(WEISZFELD_STEPS):
        weight = 1.0 / np.maximum(np.linalg.norm(offset - focal * ray, axis=1), 1e-8)
        focal = (weight * along).sum() / (weight * square).sum()
    return float(focal)


def focal_robust(points: Floats, confidence: Floats | None = None, step: int = 1) -> float:
    """Focal length in pixels that most points of a map (h, w, 3) agree on, whatever the others say; `step` as in rays.

    Every point has an opinion, |offset|^2 / (offset . ray), and on a logarithmic scale far too large and far too small
    ones are equally harmless. An error of a pixel in the offset moves it by 1 / |offset|, so these are compared in
    pixels, by a loss that lets go of what is far off. Not a number if no point has an opinion.
    """
    offset, ray = rays(points, step)
    radius, along = np.linalg.norm(offset, axis=1), (offset * ray).sum(axis=1)
    told = (along > 0.0) & (radius > 0.5) & (points[..., 2].ravel() > 0.0)
    radius = radius[told]
    opinion = np.log(radius**2 / along[told])
    trust = np.ones(len(radius)) if confidence is None else confidence.ravel()[told].astype(np.float64)
    if not len(opinion):
        return float("nan")
    level = _weighted_median(opinion, radius * trust)
    for _ in range(50):
        error_px = radius * np.abs(opinion - level)
        noise_px = max(1.4826 * _weighted_median(error_px, trust), 1e-6)
        weight = trust * (radius / (1.0 + (error_px / noise_px) ** 2)) ** 2
        before, level = level, float((weight * opinion).sum() / weight.sum())
        if abs(level - before) < 1e-9:
            break
    return float(np.exp(level))


def plausible_focal(focal_px: float, width: int, height: int) -> float:
    """Within FOCAL_RANGE; the middle of it in place of what is not a number."""
    unit = max(width, height) / (2.0 * tan(radians(30.0)))
    return float(np.clip(focal_px, FOCAL_RANGE[0] * unit, FOCAL_RANGE[1] * unit)) if np.isfinite(focal_px) else unit


class Canonical(NamedTuple):
    """One point map made of several predictions."""

    points: Floats
    """(h, w, 3)."""
    depth_ratio: Floats
    """(h, w) depth over the depth of the middle of the pixel's block."""
    confidence: Floats
    """(h, w)."""


def canonical(points: Floats, confidence: Floats, block: int = 8) -> Canonical:
    """The mean of predictions (n, h, w, 3) of one photo, weighted by their confidences (n, h, w).

    Depth within a block of pixels is averaged as the angle at which the surface rises from the middle of the block:
    a prediction's scale, which differs from the others', has no part in it. Sides must be whole numbers of blocks.
    """
    weight = confidence - np.float32(BASE_CONFIDENCE)
    total = weight.sum(axis=0)
    mean = (weight[..., None] * points).sum(axis=0) / total[..., None]
    middle = _block_middles(points, block)
    distance = np.maximum(np.linalg.norm(points[..., :2] - middle[..., :2], axis=-1), 1e-8)
    rise = points[..., 2] - np.maximum(middle[..., 2], np.finfo(np.float32).eps)
    angle = (weight * np.arctan(rise / distance)).sum(axis=0) / total
    ratio = 1.0 + distance.mean(axis=0) * np.tan(angle) / _block_middles(mean, block)[..., 2]
    return Canonical(mean, ratio, (weight * weight).sum(axis=0) / total)


def _block_middles(points: Floats, block: int) -> Floats:
    """For every pixel the point in the middle of its block."""
    middles = points[..., block // 2 :: block, block // 2 :: block, :]
    return middles.repeat(block, axis=-3).repeat(block, axis=-2)


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(share, share[-1] / 2.0)])
