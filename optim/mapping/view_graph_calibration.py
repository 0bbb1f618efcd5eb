"""View-graph calibration: focal lengths from fundamental matrices.

K_b^T F K_a is an essential matrix, so its first two singular values are equal; this constrains the two focal lengths
weakly, and not at all for some motions. All edges together give initial focal lengths that mapping can start from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, Index, Mask
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
    min_log_sigma: Positive = 0.1
    """Least standard deviation of the logarithms of focal lengths beyond a core around those in it: where these are
    alike, the next one may still be by another lens."""
    log_focal_step: Positive = 0.01
    """Distance of the logarithms of the focal lengths that are tried for a camera beside known ones: finer than what
    one pair tells."""


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


def calibrate_neighbours(
    graph: ViewGraph,
    intrinsics: Array,
    camera_of_photo: Index,
    known: Mask,
    bounds_px: tuple[Array, Array],
    log_sigma: float,
    options: ViewGraphCalibrationOptions | None = None,
) -> Array:
    """Estimate focal lengths (cameras,) from edges to cameras that are known, which then are known to their neighbours.

    Each is the best of a grid between `bounds_px` (cameras,) under a Gaussian prior: its logarithm is that of the value
    in `intrinsics` up to `log_sigma`, without which errors of weak edges would grow from wave to wave. One known focal
    length of two makes an edge tell the other well, long lenses included, where edges between unknown cameras do not.
    Cameras without such edges keep their value.
    """
    options = options or ViewGraphCalibrationOptions()
    focal, done = intrinsics[:, 0].copy(), known.copy()
    strong = np.linalg.norm(graph.fundamental, axis=(1, 2)) > 0
    cameras = camera_of_photo[graph.pairs[strong]]
    centred = _centred(graph.fundamental[strong], intrinsics[cameras])
    weight = np.minimum(graph.match_count[strong], options.max_matches) / options.max_matches
    while (wave := np.flatnonzero(done[cameras].sum(axis=1) == 1)).size:
        a_is_new = ~done[cameras[wave, 0]]
        # E and its transpose have the same singular values: let the new camera be the second one.
        matrices = np.where(a_is_new[:, None, None], centred[wave].transpose(0, 2, 1), centred[wave])
        known_camera, new_camera = np.where(a_is_new[:, None], cameras[wave], cameras[wave, ::-1])[:, ::-1].T
        matrices = matrices.copy()
        matrices[:, :, :2] *= focal[known_camera, None, None]
        new, place = np.unique(new_camera, return_inverse=True)
        logs, lowest = np.log(focal[new]), np.full(len(new), np.inf)
        start = logs.copy()
        low, high = (np.log(bound[new]) for bound in bounds_px)
        for step in range(1 + int(np.ceil((high - low).max() / options.log_focal_step))):
            tried = np.minimum(low + step * options.log_focal_step, high)
            ratio = _singular_value_ratio(matrices, np.exp(tried)[place])
            loss = weight[wave] * np.log1p(((1.0 - ratio) / options.residual_sigma) ** 2)
            cost = np.bincount(place, loss, minlength=len(new)) + 0.5 * ((tried - start) / log_sigma) ** 2
            better = cost < lowest
            logs[better], lowest[better] = tried[better], cost[better]
        focal[new] = np.exp(logs)
        done[new] = True
    return focal


def _singular_value_ratio(matrices: Array, focal_px: Array) -> Array:
    """s2 / s1 of diag(f, f, 1) M for matrices (n, 3, 3) of rank two, by s1^2 + s2^2 = |M|^2 and the trace of the
    square of M M^T: far less work than as many decompositions."""
    scaled = matrices.copy()
    scaled[:, :2] *= focal_px[:, None, None]
    gram = scaled @ scaled.transpose(0, 2, 1)
    total = np.trace(gram, axis1=1, axis2=2)
    root = np.sqrt(np.maximum(2.0 * (gram**2).sum(axis=(1, 2)) - total**2, 0.0))  # s1^2 - s2^2
    ratio: Array = np.sqrt(np.maximum(total - root, 0.0) / np.maximum(total + root, 1e-300))
    return ratio


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
