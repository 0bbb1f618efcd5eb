"""Average the point maps that a network predicts for one photo, as MASt3R-SfM does.

A point map holds the 3D point of every pixel in the frame of the photo's camera. Only the comparison with the published
results needs this average; the mapper averages log depths, see canonical_depths.py.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..arrays import AnyArray

_BASE_CONFIDENCE = 0.999  # published networks give confidence 1 to pixels without information


class CanonicalPointMap(NamedTuple):
    """One point map made of several predictions."""

    points: AnyArray
    """(h, w, 3)."""
    depth_ratio: AnyArray
    """(h, w) depth over the depth at the middle of the pixel's block."""
    confidence: AnyArray
    """(h, w)."""


def canonical_point_map(points: AnyArray, confidence: AnyArray, block_px: int = 8) -> CanonicalPointMap:
    """Confidence-weighted mean of predictions (n, h, w, 3) of one photo with confidences (n, h, w).

    Within a block of pixels not the depth is averaged but the elevation angle of the surface, seen from the middle of
    the block: atan((z - z_middle) / distance). The scale of a prediction, which differs from the others', cancels.
    Heights and widths must be multiples of `block_px`.
    """
    weight = confidence - np.float32(_BASE_CONFIDENCE)
    total = weight.sum(axis=0)
    mean = (weight[..., None] * points).sum(axis=0) / total[..., None]
    middle = _block_middles(points, block_px)
    distance = np.maximum(np.linalg.norm(points[..., :2] - middle[..., :2], axis=-1), 1e-8)
    rise = points[..., 2] - np.maximum(middle[..., 2], np.finfo(np.float32).eps)
    angle = (weight * np.arctan(rise / distance)).sum(axis=0) / total
    ratio = 1.0 + distance.mean(axis=0) * np.tan(angle) / _block_middles(mean, block_px)[..., 2]
    return CanonicalPointMap(mean, ratio, (weight * weight).sum(axis=0) / total)


def _block_middles(points: AnyArray, block_px: int) -> AnyArray:
    """(..., h, w, 3) for every pixel the point at the middle of its block."""
    middles = points[..., block_px // 2 :: block_px, block_px // 2 :: block_px, :]
    return middles.repeat(block_px, axis=-3).repeat(block_px, axis=-2)
