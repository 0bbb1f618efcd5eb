"""Focal lengths from fundamental matrices, before any reconstruction.

A fundamental matrix constrains the two focal lengths: K_b^T F K_a must have two equal singular values. One pair says
little, and nothing for some motions; all pairs together give a start from which a reconstruction can be tried.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..view_graph import ViewGraph

Array = NDArray[np.float64]
Index = NDArray[np.int64]

ALIKE = 0.2
"""Logarithms of focal lengths that differ by less are about the same."""


def calibrate_focals(graph: ViewGraph, intrinsics: Array, camera_of_photo: Index, known: NDArray[np.bool_]) -> Array:
    """(cameras,) focal lengths; known ones are kept, those without evidence stay near their start in `intrinsics`.

    The residual 1 - s2/s1 is bounded and goes to zero as focal lengths do, so the estimate errs to the short side for
    long lenses: a start for a search, not an answer.
    """
    from scipy.optimize import least_squares  # takes longer to import than most calibrations

    focal = intrinsics[:, 0].copy()
    free = np.flatnonzero(~known)
    strong = np.linalg.norm(graph.fundamental, axis=(1, 2)) > 0
    if len(free) == 0 or not strong.any():
        return focal
    pairs = graph.pairs[strong]
    cameras = camera_of_photo[pairs]
    centred = _centred(graph.fundamental[strong], intrinsics[cameras])
    weight = np.sqrt(np.minimum(graph.match_count[strong], 200) / 200.0)

    def residuals(log_focal: Array) -> Array:
        logs = np.log(focal)
        logs[free] = log_focal
        f = np.exp(logs[cameras])
        scaled = centred.copy()
        scaled[:, :2, :] *= f[:, 1, None, None]
        scaled[:, :, :2] *= f[:, 0, None, None]
        s = np.linalg.svd(scaled, compute_uv=False)
        prior = 0.02 * (log_focal - np.log(focal[free]))
        return np.concatenate([weight * (1.0 - s[:, 1] / s[:, 0]) / 0.05, prior])

    found = least_squares(residuals, np.log(focal[free]), loss="cauchy", x_scale=0.1, xtol=1e-3, ftol=1e-4)
    focal[free] = np.exp(found.x)
    return focal


def shared_focal(graph: ViewGraph, camera_of_photo: Index, camera: int) -> tuple[float, float]:
    """Median of what the pairs within one camera suggest, weighed by their matches, NaN without any; and what part of
    the matches is of pairs that suggest about the same."""
    inside = (camera_of_photo[graph.pairs] == camera).all(axis=1) & np.isfinite(graph.focal_px)
    if not inside.any():
        return float("nan"), 0.0
    value, weight = graph.focal_px[inside], graph.match_count[inside]
    order = np.argsort(value)
    cumulative = np.cumsum(weight[order])
    median = float(value[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])
    return median, float(weight[np.abs(np.log(value / median)) < ALIKE].sum() / weight.sum())


def _centred(fundamental: Array, intrinsics: Array) -> Array:
    """(e, 3, 3) unit-norm fundamental matrices in coordinates around the principal points; intrinsics (e, 2, 8)."""
    shift = np.tile(np.eye(3), (len(fundamental), 2, 1, 1))
    shift[:, :, :2, 2] = intrinsics[:, :, 2:4]
    centred = shift[:, 1].transpose(0, 2, 1) @ fundamental @ shift[:, 0]
    out: Array = centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    return out
