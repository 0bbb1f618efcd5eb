"""View-graph calibration: focal lengths from fundamental matrices.

K_b^T F K_a is an essential matrix, so its first two singular values are equal; this constrains the two focal lengths
weakly, and not at all for some motions. All edges together give initial focal lengths that mapping can start from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Index
from ..option_ranges import Count, Positive
from ..view_graph import ViewGraph


@dataclass(frozen=True)
class ViewGraphCalibrationOptions:
    """Weights of the least-squares problem over all edges."""

    max_matches: Count = 200
    """Matches from which on an edge has full weight; below, the weight grows with their number."""
    residual_sigma: Positive = 0.05
    """Standard deviation of 1 - s2 / s1, the relative difference of the singular values: scale of the Cauchy loss."""
    log_focal_weight: Positive = 0.02
    """Weight of the logarithm of the ratio to the initial focal length: holds cameras without constraints."""
    agreement: Positive = 0.2
    """Focal lengths whose logarithms differ by less agree."""


def calibrate_focals(
    graph: ViewGraph,
    intrinsics: Array,
    camera_of_photo: Index,
    known: NDArray[np.bool_],
    options: ViewGraphCalibrationOptions | None = None,
) -> Array:
    """Estimate focal lengths (cameras,) by least squares over all edges; `known` ones are constant.

    Cameras without constraints stay near their value in `intrinsics`. The residual 1 - s2 / s1 is bounded and goes to
    zero with the focal length, so the estimate is too short for long lenses: a start for a search, not its result.
    """
    from scipy.optimize import least_squares  # takes longer to import than most calibrations

    options = options or ViewGraphCalibrationOptions()
    focal = intrinsics[:, 0].copy()
    free = np.flatnonzero(~known)
    strong = np.linalg.norm(graph.fundamental, axis=(1, 2)) > 0
    if len(free) == 0 or not strong.any():
        return focal
    pairs = graph.pairs[strong]
    cameras = camera_of_photo[pairs]
    centred = _centred(graph.fundamental[strong], intrinsics[cameras])
    weight = np.sqrt(np.minimum(graph.match_count[strong], options.max_matches) / options.max_matches)

    def residuals(log_focal: Array) -> Array:
        logs = np.log(focal)
        logs[free] = log_focal
        f = np.exp(logs[cameras])
        scaled = centred.copy()
        scaled[:, :2, :] *= f[:, 1, None, None]
        scaled[:, :, :2] *= f[:, 0, None, None]
        s = np.linalg.svd(scaled, compute_uv=False)
        prior = options.log_focal_weight * (log_focal - np.log(focal[free]))
        return np.concatenate([weight * (1.0 - s[:, 1] / s[:, 0]) / options.residual_sigma, prior])

    found = least_squares(residuals, np.log(focal[free]), loss="cauchy", x_scale=0.1, xtol=1e-3, ftol=1e-4)
    focal[free] = np.exp(found.x)
    return focal


def shared_focal(
    graph: ViewGraph, camera_of_photo: Index, camera: int, options: ViewGraphCalibrationOptions | None = None
) -> tuple[float, float]:
    """Median of the focal lengths estimated by the pairs within one camera, weighted by matches, and the share of the
    matches whose pairs agree with it; NaN and 0 without such pairs."""
    options = options or ViewGraphCalibrationOptions()
    inside = (camera_of_photo[graph.pairs] == camera).all(axis=1) & np.isfinite(graph.focal_px)
    if not inside.any():
        return float("nan"), 0.0
    value, weight = graph.focal_px[inside], graph.match_count[inside]
    order = np.argsort(value)
    cumulative = np.cumsum(weight[order])
    median = float(value[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])
    return median, float(weight[np.abs(np.log(value / median)) < options.agreement].sum() / weight.sum())


def _centred(fundamental: Array, intrinsics: Array) -> Array:
    """(e, 3, 3) unit-norm fundamental matrices in coordinates around the principal points; intrinsics (e, 2, 8)."""
    shift = np.tile(np.eye(3), (len(fundamental), 2, 1, 1))
    shift[:, :, :2, 2] = intrinsics[:, :, 2:4]
    centred = shift[:, 1].transpose(0, 2, 1) @ fundamental @ shift[:, 0]
    out: Array = centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    return out
